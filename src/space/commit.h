// Commit: how much memory has been promised (Committed_AS) and whether more may be, as Linux's
// vm.overcommit_memory. Private writable areas and shared memory count, read-only and file-backed
// shared ones do not. Thread safety: the engine lock.
#pragma once

#include "base/result.h"
#include "base/units.h"

namespace spillway {

enum class CommitMode : u8 {
  heuristic = 0,  // refuse single requests that exceed `most`
  always = 1,
  never = 2,  // refuse what would bring the sum over `most`
};

class Commit {
 public:
  void set(CommitMode mode, PageCount most) {
    mode_ = mode;
    most_ = most;
  }
  CommitMode mode() const { return mode_; }
  PageCount most() const { return most_; }
  PageCount committed() const { return committed_; }

  // Whether a request for so many pages would be granted. Charging is separate, so that a call can
  // ask before it changes anything.
  Status allows(PageCount pages) const {
    if (pages.v == 0) return kOk;  // even where more is promised than may be
    switch (mode_) {
      case CommitMode::always: return kOk;
      case CommitMode::heuristic: break;
      case CommitMode::never:
        if (committed_ + pages > most_) return Error::no_memory;
        return kOk;
    }
    if (pages > most_) return Error::no_memory;
    return kOk;
  }
  void charge(PageCount pages) { committed_ += pages; }
  void uncharge(PageCount pages) {
    SPW_ASSERT_LE(pages.v, committed_.v);
    committed_ -= pages;
  }

 private:
  CommitMode mode_ = CommitMode::heuristic;
  PageCount most_{~u64{0}};
  PageCount committed_;
};

}  // namespace spillway
