// The small parts of the arena machine: frames, boot memory, clock, CPUs, and an MMU that nobody
// may call. arena_machine.h puts them together.
#pragma once

#include "machine/machine.h"

namespace spillway {

// Frames over one anonymous mapping of the whole budget. The kernel backs a frame when it is first
// written and takes it back when it goes offline, so this process never holds more memory for
// frames than are online. The whole budget is ours: nobody shares it.
class ArenaFrames final : public Frames {
 public:
  ArenaFrames() = default;
  ~ArenaFrames() { unprepare(); }
  ArenaFrames(const ArenaFrames&) = delete;
  ArenaFrames& operator=(const ArenaFrames&) = delete;

  Status prepare(PageCount count);
  void unprepare();

  PageCount acquire_quota(PageCount want) override;
  void release_quota(PageCount count) override;
  PageCount quota_wanted_back() override { return PageCount(0); }
  // Online frames read as zeros because no memory is behind an offline one: never fails.
  Status bring_online(Pfn first, PageCount count) override;
  void take_offline(Pfn first, PageCount count) override;

  PageCount granted() const { return granted_; }
  PageCount online() const { return online_; }

 private:
  PageCount granted_{0};
  PageCount online_{0};
};

// Boot memory: one mapping of address space, handed out from its start and backed when it is
// touched. It comes on top of the budget of frames. It holds what is as old as the machine: the
// frame table (sizeof(Page) for each frame that was online once), hash tables, and the System
// itself; bytes() says how much was handed out, of which only what was touched is resident.
class ArenaBoot final : public BootMemory {
 public:
  ArenaBoot() = default;
  ~ArenaBoot() { unprepare(); }
  ArenaBoot(const ArenaBoot&) = delete;
  ArenaBoot& operator=(const ArenaBoot&) = delete;

  Status prepare(u64 bytes_max);
  void unprepare();
  void* alloc(u64 bytes, u64 align) override;
  u64 bytes() const { return used_; }

 private:
  u8* base_ = nullptr;
  u64 size_ = 0;
  u64 used_ = 0;
};

// CLOCK_MONOTONIC.
class ArenaClock final : public Clock {
 public:
  u64 now_ns() override;
};

// One CPU for each thread that ever asked, taken in turn when there are more threads than CPUs: a
// thread keeps its number, so that the per-CPU lists of the core stay warm for it.
class ArenaCpus final : public Cpus {
 public:
  void prepare(u32 count) { count_ = count; }
  u32 current() override;
};

// There are no programs on this machine, so no space is ever made and no page is mapped: every
// call is a bug of the caller.
class ArenaMmu final : public Mmu {
 public:
  void map(SpaceId space, VirtAddr va, Pfn first, u32 count, Prot prot) override;
  u32 unmap(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) override;
  void drop(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) override;
  void move(SpaceId space, VirtAddr from, VirtAddr to, const Pfn* frames, u32 count,
            Prot prot) override;
  Status protect(SpaceId space, VirtAddr start, PageCount count, Prot prot) override;
  void refresh(SpaceId space, VirtAddr va, u32 count) override;
  void restore(SpaceId space, VirtAddr start, PageCount count) override;
  void wake(SpaceId space, VirtAddr va, PageCount count) override;
  void set_root(SpaceId space, Pfn root) override;
};

}  // namespace spillway
