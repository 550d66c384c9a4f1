// Threads of the engine: raw clone(2), unknown to libc.
//
// They share memory with the program and nothing else that the program could take away:
//   - a thread block of their own, zeroed, so that code reading fs:0x28 or writing errno by
//     mistake hits private memory; stack of their own with a guard page
//   - all signals blocked for ever
//   - a file table of their own that holds only the descriptors named at the start. A program
//     that closes "all" descriptors therefore cannot close the userfaultfd under the handler,
//     which would make the kernel answer missing pages with zeros; and pipes that the program
//     closes do not stay open in the engine
//
// Code on these threads must not allocate, use errno, stdio, locale or anything per-thread of
// libc, nor touch managed memory (it would wait for itself).
#pragma once

#include <atomic>

#include "base/result.h"

namespace spillway {

class EngineThread {
 public:
  using Main = void (*)(void* argument);

  // Starts `main(argument)`. `keep_fds` are the descriptors that stay open in the thread.
  // no_memory: no stack, or too many threads. May be called again after join().
  Status start(Main main, void* argument, const char* name, const int* keep_fds, u32 keep_count);
  // Waits until the thread has returned from `main`; does nothing if it never started.
  void join();
  i32 tid() const { return tid_.load(std::memory_order_acquire); }
  bool started() const { return stack_ != 0; }
  // In a forked child, where the parent's thread does not exist: frees its stack.
  void forget();

  static constexpr u32 kKeepMax = 8;

 private:
  static void entry(EngineThread* self);

  std::atomic<i32> tid_{0};  // cleared by the kernel when the thread has ended
  u64 stack_ = 0;            // the mapping: guard page, stack, thread block
  Main main_ = nullptr;
  void* argument_ = nullptr;
  char name_[16] = {};
  int keep_[kKeepMax] = {};
  u32 keep_count_ = 0;
};

}  // namespace spillway
