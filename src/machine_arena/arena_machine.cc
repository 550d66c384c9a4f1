#include "machine_arena/arena_machine.h"

namespace spillway {
namespace {

// Nothing is ever mapped, so whatever is true of all mappings may be promised; the rooms that want
// frames that stay readable while they are mapped then work on this machine.
constexpr Features kFeatures{.accessed_bit = true,
                             .dirty_bit = true,
                             .frame_bytes_while_mapped = true,
                             .zero_page = false,
                             .shared_frames = true};

}  // namespace

ArenaMachine::ArenaMachine()
    : devices_{ArenaDevice(frames_), ArenaDevice(frames_), ArenaDevice(frames_),
               ArenaDevice(frames_), ArenaDevice(frames_), ArenaDevice(frames_),
               ArenaDevice(frames_), ArenaDevice(frames_)},
      machine_{.features = kFeatures,
               .frames = frames_,
               .mmu = mmu_,
               .clock = clock_,
               .cpus = cpus_,
               .boot = boot_} {}

Status ArenaMachine::prepare(const ArenaConfig& config) {
  if (config.frames.v == 0 || config.cpus == 0) return Error::invalid;
  SPW_TRY(frames_.prepare(config.frames));
  SPW_TRY(boot_.prepare(config.boot_bytes_max));
  cpus_.prepare(config.cpus);
  return kOk;
}

Result<u32> ArenaMachine::add_device(const char* path, DeviceAccess access) {
  const u32 number = machine_.block_device_count;
  if (number == Machine::kBlockDevicesMax) return Error::too_many_files;
  SPW_TRY(devices_[number].open(path, access));
  machine_.block_devices[number] = &devices_[number];
  ++machine_.block_device_count;
  return number;
}

void ArenaMachine::close_device(u32 number) { device(number).close(); }

ArenaDevice& ArenaMachine::device(u32 number) {
  SPW_ASSERT_LT(number, machine_.block_device_count);
  return devices_[number];
}

u32 ArenaMachine::run_completions(u32 max) {
  u32 done = 0;
  for (u32 i = 0; i < machine_.block_device_count && done < max; ++i) {
    done += devices_[i].complete(max - done);
  }
  return done;
}

}  // namespace spillway
