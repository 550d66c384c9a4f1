#include "machine_host/stop.h"

#include "machine_host/syscalls.h"

namespace spillway {
namespace {

LedgerProcess* g_entry = nullptr;

struct ErrorName {
  i64 number;
  const char* text;
};
constexpr ErrorName kErrorNames[] = {{1, "not permitted"},
                                     {2, "no such file or directory"},
                                     {9, "bad file descriptor"},
                                     {11, "try again"},
                                     {12, "out of memory"},
                                     {13, "permission denied"},
                                     {14, "bad address"},
                                     {16, "busy"},
                                     {17, "already exists"},
                                     {19, "no such device"},
                                     {20, "not a directory"},
                                     {22, "invalid argument"},
                                     {24, "too many open files"},
                                     {28, "no space left on device"},
                                     {30, "read-only file system"},
                                     {38, "not implemented by this kernel"},
                                     {40, "too many symbolic links"},
                                     {95, "not supported"},
                                     {122, "disk quota exceeded"}};

}  // namespace

void Message::put(char c) {
  if (length_ < kCapacity) buffer_[length_++] = c;
}

Message& Message::text(const char* s) {
  for (; s != nullptr && *s != '\0'; ++s) put(*s);
  return *this;
}

Message& Message::number(u64 n) {
  char digits[20];
  u32 count = 0;
  do {
    digits[count++] = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n != 0);
  while (count > 0) put(digits[--count]);
  return *this;
}

Message& Message::hex(u64 n) {
  text("0x");
  u32 shift = 60;
  while (shift > 0 && (n >> shift) == 0) shift -= 4;
  for (;; shift -= 4) {
    put("0123456789abcdef"[(n >> shift) & 15]);
    if (shift == 0) return *this;
  }
}

Message& Message::size(u64 bytes) {
  constexpr const char* kUnits[] = {" bytes", " KiB", " MiB", " GiB", " TiB"};
  u32 unit = 0;
  while (unit < 4 && bytes >= 1024 && (bytes % 1024 == 0 || bytes >= u64{100} * 1024)) {
    bytes /= 1024;
    ++unit;
  }
  return number(bytes).text(kUnits[unit]);
}

Message& Message::error(i64 negative_errno) {
  for (const ErrorName& e : kErrorNames) {
    if (e.number == -negative_errno) return text(e.text);
  }
  return text("error ").number(static_cast<u64>(-negative_errno));
}

void write_stderr(const char* data, u64 bytes) {
  // pidfd_getfd reaches the program's own table from an engine thread. Where it is not allowed
  // (old kernel, seccomp), descriptor 2 of the caller is right at least on program threads.
  constexpr long kPidfdOpen = 434;
  constexpr long kPidfdGetfd = 438;
  int fd = 2;
  const i64 pidfd = sys::call(kPidfdOpen, sys::getpid(), 0);
  if (!sys::failed(pidfd)) {
    const i64 got = sys::call(kPidfdGetfd, pidfd, 2, 0);
    if (!sys::failed(got)) fd = static_cast<int>(got);
  }
  while (bytes > 0) {
    const i64 n = sys::write(fd, data, bytes);
    if (n == sys::kInterrupted) continue;
    if (n <= 0) break;
    data += n;
    bytes -= static_cast<u64>(n);
  }
  if (fd != 2) sys::close(fd);
  if (!sys::failed(pidfd)) sys::close(static_cast<int>(pidfd));
}

void Message::print() {
  // One write, so that lines of several processes do not mix.
  char line[kCapacity + 16];
  u64 n = 0;
  for (const char* p = "spillway: "; *p != '\0'; ++p) line[n++] = *p;
  for (u32 i = 0; i < length_; ++i) line[n++] = buffer_[i];
  line[n++] = '\n';
  write_stderr(line, n);
}

void set_stop_entry(LedgerProcess* entry) { g_entry = entry; }

void stop_program(StopReason reason, Message& message) {
  if (g_entry != nullptr) {
    g_entry->stop_reason.store(static_cast<u32>(reason), std::memory_order_release);
  }
  message.print();
  switch (reason) {
    case StopReason::none:
    case StopReason::internal: sys::exit_group(kExitInternal);
    case StopReason::exhausted: sys::exit_group(kExitExhausted);
    case StopReason::corrupt: sys::exit_group(kExitCorrupt);
  }
  sys::exit_group(kExitInternal);
}

void stop_internal(const char* what, u64 a, u64 b) {
  Message m;
  m.text("stopped, because going on could give wrong data: ").text(what);
  m.text(" (").hex(a).text(", ").hex(b).text(")");
  stop_program(StopReason::internal, m);
}

}  // namespace spillway
