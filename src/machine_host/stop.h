// Ending the program with one plain sentence, and building such sentences without libc.
//
// Engine threads have file tables of their own (engine_thread.h), so their descriptor 2 is not
// the program's; the message goes to the descriptor that the program has at that moment.
#pragma once

#include "base/result.h"
#include "machine_host/ledger.h"

namespace spillway {

// Exit codes of a program that the engine had to stop; 125 is a failed start.
inline constexpr int kExitStartFailed = 125;
inline constexpr int kExitExhausted = 121;
inline constexpr int kExitCorrupt = 122;
inline constexpr int kExitInternal = 124;

// A short text on the stack of its user.
class Message {
 public:
  Message& text(const char* s);
  Message& number(u64 n);
  Message& hex(u64 n);
  Message& size(u64 bytes);  // "96 MiB": the largest unit that loses no more than 1 %
  Message& error(i64 negative_errno);
  // Writes "spillway: <text>\n" to the program's standard error.
  void print();
  const char* c_str() const { return buffer_; }

 private:
  void put(char c);
  static constexpr u32 kCapacity = 480;  // six terminal lines: more is not one sentence
  char buffer_[kCapacity + 1] = {};
  u32 length_ = 0;
};

// Writes raw bytes to the program's standard error.
void write_stderr(const char* data, u64 bytes);

// The ledger entry that stop_program marks; null before there is one.
void set_stop_entry(LedgerProcess* entry);

// Prints the message, notes the reason in the ledger and ends the process.
[[noreturn]] void stop_program(StopReason reason, Message& message);
// For states that only a bug, or a program that goes behind the engine's back, can bring about.
[[noreturn]] void stop_internal(const char* what, u64 a = 0, u64 b = 0);

}  // namespace spillway
