// The host's MMU: mapping a frame moves its page from home to the program's address, unmapping
// moves it home again (machine_host/move.h). Where MOVE cannot work, pages are copied.
//
// Protection. The kernel mapping of the managed region is readable and writable almost
// everywhere: an address without a page faults into the handler, whatever its area permits, so
// areas of `none` and `read_write` need no system call. Only what must bind a present page is
// real: `read`, and everything with `exec`. prots_ holds, per page, what the kernel has.
//
//   soft  none, write, read_write: kernel READ|WRITE; map and unmap by MOVE
//   hard  read, exec, ...: real mprotect; map by COPY in, unmap by COPY out (writable and
//         executable pages through a staging page of the same protection, by MOVE, because a
//         copy beside running writers could lose a write)
//   trap  one page, PROT_NONE: the waiting thread retries and gets a genuine SIGSEGV, a system
//         call gets EFAULT; soft again as soon as anything is mapped or protected there
//
// Thread safety: the engine lock.
#pragma once

#include "machine/mmu.h"
#include "machine_host/host_frames.h"
#include "machine_host/move.h"

namespace spillway {

enum class TrapKind : u8 { segv, bus };

class HostMmu final : public Mmu {
 public:
  explicit HostMmu(HostFrames& frames, Counters& counters)
      : frames_(frames), counters_(&counters), mover_(-1, counters) {}

  // Maps the managed region, at most `bytes_max` long, less if the process may not have so much.
  Status prepare(u64 bytes_max, u64 bytes_min);
  // Puts region and staging page under the userfaultfd; 0 or a negative errno. Again in a
  // forked child, where the kernel has dropped the registration.
  i64 register_with(const Uffd& uffd);
  void set_counters(Counters& counters);
  void set_paranoid(bool on) { mover_.set_paranoid(on); }
  void unprepare();
  // Lets a coming fork copy region and arena, or hides them from forks again. Foreign mappings
  // inside the region are left alone.
  i64 set_fork(bool inherit);

  VpnRange region() const { return region_; }

  void map(SpaceId space, VirtAddr va, Pfn first, u32 count, Prot prot) override;
  u32 unmap(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) override;
  void drop(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) override;
  void move(SpaceId space, VirtAddr from, VirtAddr to, const Pfn* frames, u32 count,
            Prot prot) override;
  Status protect(SpaceId space, VirtAddr start, PageCount count, Prot prot) override;
  // The host has none of the features that this call is for.
  void refresh(SpaceId space, VirtAddr va, u32 count) override;
  void restore(SpaceId space, VirtAddr start, PageCount count) override;
  void wake(SpaceId space, VirtAddr va, PageCount count) override;
  void set_root(SpaceId, Pfn) override {}

  // The program mapped something of its own over the range (a file, shared memory); restore()
  // ends that.
  void mark_foreign(VirtAddr start, PageCount count);
  // Pages from `start` on, at most `count`, that are all foreign or all managed, as `*foreign`
  // then says.
  u64 foreign_run(VirtAddr start, PageCount count, bool* foreign) const;

  // Makes the next access to the page, which is not present, fail as `kind` says.
  void trap(VirtAddr va, TrapKind kind);
  // A new area begins in the range: accesses there are to be asked about again.
  void forget_traps(VirtAddr start, PageCount count);
  u64 debug_trap_count() const;

 private:
  void ensure_prot(u64 va, u64 pages, u8 kernel_prot);
  bool differs_in(u64 va, u64 pages, u8 kernel_prot) const;
  Status set_prot(u64 va, u64 pages, u8 kernel_prot);
  void set_bytes(u64 va, u64 pages, u8 kernel_prot);
  // Calls fn(start, bytes) for every part of the region that is not foreign, until it returns
  // something else than 0, and returns that.
  template <class Fn>
  i64 for_managed(Fn fn) const;
  UffdMode register_mode() const;
  void clear_poison(u64 va, u64 pages);
  void untrap(u64 va);
  void copy_in(u64 va, u64 home, u64 pages);
  bool copy_out(u64 va, u64 home, u64 pages, u8 kernel_prot);
  bool stage_out(u64 va, u64 home);
  void drop_by_zap(u64 va, const Pfn* frames, u32 count);
  u64 page_index(u64 va) const { return (va >> kPageShift) - region_.start.v; }
  [[noreturn]] void stop_move(const char* what, const MoveResult& result, u64 va);

  // Values of prots_ besides PROT_* bits.
  static constexpr u8 kSoft = 0;
  static constexpr u8 kTrap = 0x80;
  static constexpr u8 kPoison = 0x81;
  static constexpr u8 kForeign = 0x82;
  static u8 kernel_prot_of(Prot prot);

  // Traps at once, at most: a program that catches SIGSEGV and goes elsewhere leaves one behind
  // each time, and each splits the region's mapping in two places.
  static constexpr u32 kTrapsMax = 64;

  HostFrames& frames_;
  Counters* counters_;
  Mover mover_;
  VpnRange region_;
  int uffd_ = -1;
  u64 features_ = 0;
  u8* prots_ = nullptr;     // per page of the region: kSoft, PROT_* bits, kTrap, kPoison, kForeign
  u64 hard_low_ = ~u64{0};  // prots_ is kSoft outside [hard_low_, hard_high_)
  u64 hard_high_ = 0;
  bool any_foreign_ = false;  // there ever was one
  u64 staging_ = 0;           // one RWX page; 0 where the system forbids such pages
  u64 traps_[kTrapsMax] = {};
  u32 next_trap_ = 0;
};

}  // namespace spillway
