// Loads, stores and fetches, with the signals they raise and the bytes they must give.
#include <algorithm>
#include <cstring>

#include "workload/runner.h"

namespace spillway {
namespace {

constexpr u64 kChunk = 16 * kPageSize;

std::string signal_name(SignalInfo info) {
  switch (info.signo) {
    case Signal::none: return "none";
    case Signal::bus: return "BUS_ADRERR";
    case Signal::kill: return "KILL";
    case Signal::segv: return info.code == kSegvAccerr ? "SEGV_ACCERR" : "SEGV_MAPERR";
    case Signal::term: return "TERM";
  }
  return "?";
}

std::string byte_text(u8 byte) {
  constexpr char kDigits[] = "0123456789abcdef";
  return std::string("0x") + kDigits[byte >> 4] + kDigits[byte & 15];
}

}  // namespace

std::string name_of_signal(SignalInfo info) { return signal_name(info); }

// One access, repeated while it has to wait. `*signal` is what it ended with, "" when all is well.
// False: the run is over.
bool Runner::access_range(const Statement& s, Process& p, Access access, VirtAddr at, u8* bytes,
                          u64 count, std::string* signal) {
  signal->clear();
  VirtAddr where = at;
  bool killed = false;
  FaultOutcome end = FaultOutcome::done;
  const Outcome outcome = call([&](u32 attempt) -> Result<u64> {
    // While it slept, the OOM killer may have come by.
    if (!kernel_->alive(p.pid)) {
      killed = true;
      return u64{0};
    }
    hardware_.set_cpu(p.cpu);
    kernel_->run_on(p.cpu, p.pid);
    const Hardware::AccessEnd e =
        hardware_.access(access, kernel_->space_of(p.pid), at, bytes, count, attempt);
    end = e.outcome;
    where = e.va;
    if (end == FaultOutcome::wait) return Error::wait;
    return u64{0};
  });
  if (outcome.gave_up) {
    return unmet(s, "the access ends", "it waits for ever: nothing is left that could help");
  }
  if (!killed && end == FaultOutcome::done) return true;
  SignalInfo info = killed ? kernel_->last_signal(p.pid) : kernel_->raise(p.pid, end, where);
  if (killed && info.signo == Signal::none) info.signo = Signal::kill;
  *signal = signal_name(info);
  if (end == FaultOutcome::corrupt) *signal += " (the page came back damaged)";
  *signal += killed ? "" : " at " + hex_text(where.v);
  return true;
}

namespace {

// Whether the signal, "SEGV_MAPERR at 0x8", is the one that was expected.
bool is_signal(const std::string& signal, const std::string& expected) {
  return signal.substr(0, signal.find(' ')) == expected;
}

}  // namespace

bool Runner::do_access(const Statement& s) {
  Process* p = process(s, s.operands[0]);
  if (p == nullptr) return false;
  const auto at = place(s, *p, s.operands[1].place);
  if (!at) return false;
  const Access access = s.verb == Verb::read    ? Access::read
                        : s.verb == Verb::write ? Access::write
                                                : Access::exec;
  // How many bytes, and which.
  const Operand empty;
  const Operand& data = s.verb == Verb::write  ? s.operands[2]
                        : s.verb == Verb::read ? operand(s, "expect")
                                               : empty;
  const Operand& length = s.verb == Verb::fetch ? empty : operand(s, "bytes");
  u64 count = length.given() ? length.number.total() : 1;
  if (data.kind == Operand::Kind::text && !length.given()) count = data.text.size();
  if (count > (u64{64} << 20)) return fail(RunEnd::scenario, s, "more than 64m at once");
  std::vector<u8> bytes(count);
  const auto wanted = [&](u64 i) {
    return data.kind == Operand::Kind::text && !data.text.empty()
               ? static_cast<u8>(data.text[i % data.text.size()])
               : static_cast<u8>(data.number.value);
  };
  if (access == Access::write) {
    for (u64 i = 0; i < count; ++i) bytes[i] = wanted(i);
  }
  std::string signal;
  if (!access_range(s, *p, access, *at, bytes.data(), count, &signal)) return false;
  const Operand& expected = operand(s, "signal");
  const std::string expected_signal = expected.given() ? expected.text : "none";
  if (!signal.empty()) {
    // Part of it may have been stored.
    if (access == Access::write) model_.forget(p->space->key, *at, count);
    if (!is_signal(signal, expected_signal)) return unmet(s, "signal " + expected_signal, signal);
    record(s, signal);
    return true;
  }
  if (expected_signal != "none") return unmet(s, "signal " + expected_signal, "no signal");
  if (access == Access::write) {
    model_.write(p->space->key, *at, bytes.data(), count);
    record(s, "");
    return true;
  }
  if (access == Access::read && data.given()) {
    for (u64 i = 0; i < count; ++i) {
      if (bytes[i] == wanted(i)) continue;
      return unmet(s, "byte " + std::to_string(i) + " is " + byte_text(wanted(i)),
                   byte_text(bytes[i]));
    }
  }
  if (const auto wrong = model_.check(p->space->key, *at, bytes.data(), count)) {
    return unmet(s,
                 "byte " + std::to_string(wrong->offset) + " is " + byte_text(wrong->expected) +
                     ", which was written there",
                 byte_text(wrong->actual));
  }
  record(s, access == Access::read && count == 1 ? byte_text(bytes[0]) : "");
  return true;
}

// One access to each page. What is written differs from page to page and from time to time.
bool Runner::do_touch(const Statement& s) {
  Process* p = process(s, s.operands[0]);
  if (p == nullptr) return false;
  const auto start = place(s, *p, s.operands[1].place);
  if (!start) return false;
  const Access access = s.operands[3].text == "read"    ? Access::read
                        : s.operands[3].text == "write" ? Access::write
                                                        : Access::exec;
  const Operand& expected = operand(s, "signal");
  const u64 pages = s.operands[2].number.pages();
  for (u64 i = 0; i < pages; ++i) {
    if (++result_.operations > kOperationsMax) {
      return fail(RunEnd::scenario, s, "too many operations: at most a million");
    }
    const VirtAddr at = *start + i * kPageSize;
    u8 byte = static_cast<u8>(mix64(at.v + result_.operations * 7919));
    std::string signal;
    if (!access_range(s, *p, access, at, &byte, 1, &signal)) return false;
    if (!signal.empty()) {
      if (!expected.given() || !is_signal(signal, expected.text)) {
        return unmet(s, expected.given() ? "signal " + expected.text : "signal none",
                     signal + ", page " + std::to_string(i));
      }
      record(s, signal);
      return true;
    }
    if (access == Access::write) model_.write(p->space->key, at, &byte, 1);
    if (access != Access::read) continue;
    if (const auto wrong = model_.check(p->space->key, at, &byte, 1)) {
      return unmet(s, "page " + std::to_string(i) + " begins with " + byte_text(wrong->expected),
                   byte_text(wrong->actual));
    }
  }
  if (expected.given() && expected.text != "none") {
    return unmet(s, "signal " + expected.text, "no signal");
  }
  record(s, std::to_string(pages) + " pages");
  return true;
}

bool Runner::do_fill(const Statement& s) {
  Process* p = process(s, s.operands[0]);
  if (p == nullptr) return false;
  const auto start = place(s, *p, s.operands[1].place);
  if (!start) return false;
  const u64 total = s.operands[2].number.total();
  const bool writes = s.verb == Verb::fill;
  const u64 pattern = writes && operand(s, "pattern").given() ? operand(s, "pattern").number.value
                                                              : result_.operations;
  std::vector<u8> bytes;
  for (u64 done = 0; done < total; done += bytes.size()) {
    const VirtAddr at = *start + done;
    bytes.assign(std::min(total - done, kChunk), 0);
    for (u64 i = 0; writes && i < bytes.size(); ++i) {
      bytes[i] = static_cast<u8>(mix64(pattern + (done + i) / 8) >> (8 * ((done + i) % 8)));
    }
    std::string signal;
    if (!access_range(s, *p, writes ? Access::write : Access::read, at, bytes.data(), bytes.size(),
                      &signal)) {
      return false;
    }
    if (!signal.empty()) {
      if (writes) model_.forget(p->space->key, at, bytes.size());
      return unmet(s, "signal none", signal);
    }
    if (writes) {
      model_.write(p->space->key, at, bytes.data(), bytes.size());
    } else if (const auto wrong = model_.check(p->space->key, at, bytes.data(), bytes.size())) {
      return unmet(
          s, "the byte at " + hex_text(at.v + wrong->offset) + " is " + byte_text(wrong->expected),
          byte_text(wrong->actual));
    }
  }
  record(s, "");
  return true;
}

}  // namespace spillway
