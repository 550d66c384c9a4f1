// How a simulated machine is built. Two machines with equal configurations behave equally, call
// for call: every random choice comes from `seed`.
#pragma once

#include <vector>

#include "base/units.h"
#include "machine/features.h"

namespace spillway {

struct SimConfig {
  u64 seed = 1;
  PageCount frames{1024};
  u32 cpus = 2;
  // All that the software MMU can do; each bit can be off to imitate a poorer machine. With
  // frame_bytes_while_mapped off, mapping moves a frame's bytes away, as on the host; then
  // shared_frames must be off too. Without sharing, more misuse of frames is found.
  Features features{.accessed_bit = true,
                    .dirty_bit = true,
                    .frame_bytes_while_mapped = true,
                    .zero_page = true,
                    .shared_frames = true};
  // Frames that the shared budget grants in all; SimFrames::set_budget changes it at run time.
  PageCount budget{~u64{0}};
  // Size of the swap device (Machine::swap_device); 0 = the machine has none.
  PageCount disk_pages{0};
  // Sizes in pages of the plain block devices, at most Machine::kBlockDevicesMax, none empty.
  std::vector<u64> block_pages;
  // Virtual time of one transfer, drawn per request: those of an SSD. Equal values keep order.
  u64 disk_latency_min_ns = 20'000;
  u64 disk_latency_max_ns = 200'000;
  // Room for the frame table, the slot tables and the System.
  u64 boot_bytes_max = u64{1} << 30;
  // Mmu::unmap finds a page busy once in so many pages, as if a device held it. 0 = never.
  u32 busy_one_in = 0;
  // acquire_quota grants less than it could once in so many calls. 0 = never.
  u32 quota_short_one_in = 0;
};

}  // namespace spillway
