// FlushSource: the port through which the Flusher asks for dirty things to be written: blocks,
// pages of files, inodes. Thread safety: the engine lock.
#pragma once

#include "base/types.h"

namespace spillway {

class FlushSource {
 public:
  // So old is a dirty thing when it is written (vm.bdflush: 3000 hundredths of a second).
  static constexpr u64 kFlushAfterNs = 30'000'000'000;

  // Starts the write of up to `max` dirty things, the oldest first, only those whose time has come
  // unless `all`; returns how many. One whose last write failed is tried again only when its time
  // has come. Stops early when a transfer in flight must end first.
  virtual u32 flush(u32 max, u64 now_ns, bool all) = 0;
  // When the oldest is to be written; ~0 when nothing is dirty.
  virtual u64 next_flush_ns() const = 0;

 protected:
  ~FlushSource() = default;

 private:
  friend class Flusher;
  FlushSource* next_source_ = nullptr;
  u32 asked_ = 0;  // in which step the Flusher asked it last in vain
};

}  // namespace spillway
