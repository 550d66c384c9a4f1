// The rooms of one System, in the order in which they are built. Lives in boot memory.
#pragma once

#include "fault/fault_handler.h"
#include "reclaim/linux24_policy.h"
#include "reclaim/three_queue_policy.h"
#include "reclaim/two_list.h"
#include "space/file_map.h"
#include "space/shmem.h"
#include "system/system.h"
#include "vfs/file_store.h"
#include "vmalloc/vmalloc.h"

namespace spillway {

class SystemImpl {
 public:
  SystemImpl(Machine& machine_in, const Config& config_in, Counters& counters, TraceSink& trace)
      : machine(machine_in),
        config(config_in),
        observer{&counters, &trace},
        reclaim(policy_of(config)),
        mm{machine, frames, allocator, swap, reclaim, observer, areas, rmap, cache, commit},
        system(*this) {}

  Status boot();
  // The last step of booting: records the boot line and gives the init region back (free_initmem).
  // Called again it does nothing.
  void finish_boot();
  Status init_vmalloc();
  // Frames of the kind that are reserved now. O(1).
  u64 reserved_now(ReservedKind kind) const;
  AuditReport audit();

  Machine& machine;
  Config config;
  Observer observer;
  FrameTable frames;
  PageAllocator allocator;
  SlabChain slabs;
  KmemCache areas;
  Rmap rmap;
  PageCache cache;
  Commit commit;
  VmallocSpace vmalloc;
  Swap swap;
  FileStore files;
  Vfs vfs;
  FileAreas file_areas;
  Flusher flusher;
  FileMaps file_maps;
  SpaceTable spaces;
  Shmem shmem;
  PageOut pageout;
  ThreeQueuePolicy three_queue;
  TwoListPolicy two_list;
  Linux24Policy linux24;
  ReclaimPolicy& reclaim;
  FaultHandler fault;
  MmContext mm;
  u64 stack_frames = 0;  // of kernel stacks; the Kernel above keeps it
  BootLine boot_line{};
  bool booted = false;
  System system;

 private:
  ReclaimPolicy& policy_of(const Config& config);
  AuditReport audit_frames();
  AuditReport audit_owners();
  AuditReport audit_entries();
  AuditReport audit_entry(AddressSpace& space, Vpn vpn, Pte entry);
  AuditReport audit_slots();
  AuditReport audit_caches();
};

}  // namespace spillway
