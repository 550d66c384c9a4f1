// Moving pages between the arena and the program: the one place that wraps UFFDIO_MOVE.
//
// What the kernel may answer, and what is done about it (shared/HOST.md section 1.1 has the
// measurements):
//   EAGAIN   part of the run moved, or a race with the kernel: go on from there, bounded
//   EBUSY    the page is shared after a fork, or merged, or pinned: write-touch it, which breaks
//            sharing, and try again; still busy means pinned for I/O, and the page stays
//   EEXIST   a kernel bug may report it although pages were moved: redo page by page, where a
//            single EEXIST with the source gone and the destination there means "moved"
//   EINVAL   the two mappings differ (protection, mlock): the caller copies instead
//   ENOENT   the source is not there: somebody dropped it behind the engine's back
//
// Nothing here wakes waiting threads; the fault handler does that when its work is done.
#pragma once

#include "base/units.h"
#include "machine_host/uffd.h"
#include "observe/counters.h"

namespace spillway {

// The kernel calls that Mover makes; tests replace them to bring about every answer.
struct MoveKernel {
  UffdProgress (*move)(int fd, u64 to, u64 from, u64 bytes);
  // Whether a page is present in the process's page table.
  bool (*present)(u64 page);
  // A write to the page that does not change it.
  void (*touch)(u64 page);
};
extern const MoveKernel kRealMoveKernel;

enum class MoveStop : u8 {
  none,      // everything moved
  busy,      // the next page is held by somebody else
  differs,   // the mappings differ or the kernel cannot move: copy
  vanished,  // the next page is neither at its source nor at its destination
  occupied,  // source and destination both exist: two pages claim one place
  stuck,     // the kernel keeps answering EAGAIN
};
const char* name_of(MoveStop stop);

struct MoveResult {
  u64 pages;      // moved, from the front
  MoveStop stop;  // why not more
  i64 error;      // the kernel's answer behind `differs`
};

class Mover {
 public:
  Mover(int uffd, Counters& counters, const MoveKernel& kernel = kRealMoveKernel)
      : uffd_(uffd), counters_(&counters), kernel_(&kernel) {}

  // Moves `pages` pages from `from` to `to`, where nothing is mapped.
  MoveResult move(u64 to, u64 from, u64 pages);

  void set_uffd(int uffd) { uffd_ = uffd; }
  void set_counters(Counters& counters) { counters_ = &counters; }
  // Paranoid: after every move, check by the page table that source and destination are as said.
  void set_paranoid(bool on) { paranoid_ = on; }

 private:
  MoveResult move_one(u64 to, u64 from);
  MoveResult recount(u64 to, u64 from, u64 pages);

  int uffd_;
  Counters* counters_;
  const MoveKernel* kernel_;
  bool paranoid_ = false;
};

// What the self-test found. It moves runs of pages back and forth, with every page checked for
// its contents, while another thread clears accessed bits, which provokes the EEXIST bug.
struct MoveSelfTest {
  bool supported = false;  // MOVE works at all
  bool correct = false;    // every page was where and what it should be
  u64 pages_moved = 0;
  u64 spurious_eexist = 0;  // times the kernel bug was met (and handled)
  i64 error = 0;
};
// Runs for about `duration_ns` on its own small mappings. Uses `uffd` as it is.
MoveSelfTest move_self_test(int uffd, u64 duration_ns);

}  // namespace spillway
