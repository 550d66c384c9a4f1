#include "driver.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

namespace spillway::diff {
namespace {

std::string signal_name(const Answer& a) {
  if (a.signo == 0) return "no signal";
  if (a.signo == 7) return "SIGBUS " + std::to_string(a.code);
  if (a.signo == 11) return a.code == 1 ? "SEGV_MAPERR" : a.code == 2 ? "SEGV_ACCERR" : "SIGSEGV";
  return "signal " + std::to_string(a.signo);
}

std::string describe(const Side& side, const Answer& a) {
  std::string text = std::string("  ") + side.name() + ": " + errno_name(a.error);
  if (a.error == 0) text += ", value " + print(side.place_of(a.value));
  if (a.signo != 0) {
    text += ", " + signal_name(a) + " at " + print(side.place_of(a.fault_address));
  }
  return text + "\n";
}

u64 whole_pages(u64 bytes) { return (bytes + kPageMask) & ~kPageMask; }

// Calls that may have changed a part of their range when they are refused.
bool may_leave_parts(const Op& op) {
  switch (op.kind) {
    case OpKind::mprotect:
    case OpKind::mlock:
    case OpKind::munlock:
    case OpKind::madvise:
    case OpKind::mremap: return true;
    case OpKind::mmap: return (op.flags & MAP_FIXED) != 0;
    default: return false;
  }
}

// Advice changes pages and what fork does, which is not seen in the areas.
bool hidden_change(const Op& op) {
  if (op.kind != OpKind::madvise) return false;
  return op.advice == MADV_DONTNEED || op.advice == MADV_FREE || op.advice == MADV_DONTFORK ||
         op.advice == MADV_DOFORK;
}

}  // namespace

bool Driver::can_run(const Op& op) const {
  if (!alive(op.process)) return false;
  switch (op.kind) {
    case OpKind::fork: return op.number < kProcessesMax && !alive(op.number);
    case OpKind::exit: return op.process != 0;
    // The break of the C library's heap is below the one at the start.
    case OpKind::brk: return op.at.base == Base::heap || op.at.offset < kPageSize;
    default: return true;
  }
}

Driver::Answers Driver::on_both_at(const Op& op, u64 left_at, u64 right_at) {
  Op left = op;
  Op right = op;
  left.at = {Base::absolute, left_at};
  right.at = {Base::absolute, right_at};
  return {left_.perform(left), right_.perform(right)};
}

Difference Driver::differs(const Op& op, const std::string& what, const Answers& a) const {
  Difference d;
  d.kind = what;
  d.text = "  " + print(op) + "\n" + describe(left_, a.left) + describe(right_, a.right);
  return d;
}

std::optional<Difference> Driver::run(const Op& op) {
  if (ended_ || !can_run(op)) {
    ++reached_.skipped;
    return std::nullopt;
  }
  if (op.kind == OpKind::check) return compare_all_bytes(op);
  const Answers a = on_both(op);
  if (excused(op, a)) return ended_ ? std::nullopt : compare_areas(op);
  if (Outcome d = compare(op, a)) return d;
  count(op, a.left);
  remember_process(op);
  if (Outcome d = settle(op, a)) return d;
  return compare_areas(op);
}

void Driver::count(const Op& op, const Answer& a) {
  const u32 error = static_cast<u32>(a.error);
  if (error < Reached::kErrnos) ++reached_.answers[static_cast<u32>(op.kind)][error];
  if (a.signo == 11) ++reached_.signals[a.code == 1 ? 0 : 1];
  if (a.signo == 7) ++reached_.signals[2];
}

std::optional<Difference> Driver::finish() {
  if (ended_) return std::nullopt;
  reached_.swapped_out = right_.swapped_out();
  Op op;
  if (Outcome d = compare_all_bytes(op)) return d;
  for (Side* side : {&left_, &right_}) {
    const std::string left_behind = side->end();
    if (left_behind.empty()) continue;
    return Difference{std::string(side->name()) + " leaves something behind", left_behind + "\n"};
  }
  return std::nullopt;
}

void Driver::remember_process(const Op& op) {
  if (op.kind == OpKind::fork) processes_[op.number].alive = true;
  if (op.kind == OpKind::exit) processes_[op.process].alive = false;
}

// A difference that is one of the written normalisations; both sides are in the same state then.
bool Driver::excused(const Op& op, const Answers& a) {
  if (multi_area_move(op, a) || split_differently(op, a)) {
    wipe(op.process, op.at, std::max(op.len, op.newlen));
    if ((op.flags & MREMAP_FIXED) != 0) wipe(op.process, op.to, op.newlen);
    Op away;
    away.kind = OpKind::munmap;
    away.process = op.process;
    away.len = op.newlen;
    for (Side* side : {&left_, &right_}) {
      const Answer& answer = side == &left_ ? a.left : a.right;
      if (answer.error != 0) continue;
      away.at = {Base::absolute, answer.value};
      side->perform(away);
    }
    return true;
  }
  if (break_over_hole(op, a)) {
    // With something there the kernel lowers its break too.
    Op fill;
    fill.kind = OpKind::mmap;
    fill.process = op.process;
    fill.at = {Base::heap, whole_pages(op.at.offset)};
    fill.len = kPageSize;
    fill.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    left_.perform(fill);
    const Answer again = left_.perform(op);
    // It can be that a limit forbids to fill: then the two cannot be compared any longer.
    ended_ = left_.place_of(again.value) != op.at;
    ++reached_.normalised;
    return true;
  }
  return false;
}

// Linux moves several areas at once since 6.17, if the size stays; before, and here, EFAULT.
bool Driver::multi_area_move(const Op& op, const Answers& a) const {
  if (op.kind != OpKind::mremap || whole_pages(op.len) != whole_pages(op.newlen) ||
      (op.flags & MREMAP_FIXED) == 0) {
    return false;
  }
  return (a.left.error == 0) != (a.right.error == 0) &&
         (a.left.error == EFAULT || a.right.error == EFAULT);
}

// mremap wants one area, and what is one here may be several there.
bool Driver::split_differently(const Op& op, const Answers& a) const {
  if (op.kind != OpKind::mremap || (a.left.error == EFAULT) == (a.right.error == EFAULT)) {
    return false;
  }
  const Process& process = processes_[op.process];
  const bool left = a.left.error == EFAULT;
  const u64 at = (left ? left_ : right_).address_of(op.at);
  const AreaLine* part = find(left ? process.left_raw : process.right_raw, at);
  const AreaLine* whole = find(process.left_areas, left_.address_of(op.at));
  const u64 moved = std::min(op.len, op.newlen);  // what shrinks lets go of the rest first
  return part != nullptr && whole != nullptr && at + moved > part->end &&
         left_.address_of(op.at) + moved <= whole->end;
}

// Since 6.1 Linux refuses to lower the break where nothing of the heap is left to unmap.
bool Driver::break_over_hole(const Op& op, const Answers& a) const {
  if (op.kind != OpKind::brk || op.at.base != Base::heap) return false;
  const Place left = left_.place_of(a.left.value);
  if (right_.place_of(a.right.value) != op.at || left <= op.at) return false;
  const u64 end = whole_pages(left_.address_of(left));
  for (u64 at = whole_pages(left_.address_of(op.at)); at < end; at += kPageSize) {
    if (find(processes_[op.process].left_areas, at) != nullptr) return false;
  }
  return true;
}

std::optional<Difference> Driver::compare(const Op& op, const Answers& a) {
  if (a.left.error != a.right.error) {
    return differs(op,
                   std::string("errno of ") + name_of(op.kind) + ": " + left_.name() + " " +
                       errno_name(a.left.error) + ", " + right_.name() + " " +
                       errno_name(a.right.error),
                   a);
  }
  if (a.left.error != 0) return std::nullopt;
  switch (op.kind) {
    case OpKind::mmap:
    case OpKind::mremap:
    case OpKind::brk: return compare_places(op, a);
    case OpKind::mincore: return compare_resident(op, a);
    case OpKind::load:
    case OpKind::store:
    case OpKind::fetch: return compare_access(op, a);
    default:
      if (a.left.value != a.right.value) {
        return differs(op, std::string("value of ") + name_of(op.kind), a);
      }
      return compare_bytes(op, a);
  }
}

// Where there was no room at the hint, each side may choose, but outside of the window.
std::optional<Difference> Driver::compare_places(const Op& op, const Answers& a) const {
  const Place left = left_.place_of(a.left.value);
  const Place right = right_.place_of(a.right.value);
  if (left == right || (left.base == Base::absolute && right.base == Base::absolute)) {
    return std::nullopt;
  }
  return differs(op, std::string("place of ") + name_of(op.kind), a);
}

std::optional<Difference> Driver::compare_access(const Op& op, const Answers& a) const {
  if (a.left.signo != a.right.signo || a.left.code != a.right.code) {
    return differs(op,
                   std::string("signal of ") + name_of(op.kind) + ": " + left_.name() + " " +
                       signal_name(a.left) + ", " + right_.name() + " " + signal_name(a.right),
                   a);
  }
  if (a.left.value != a.right.value) return differs(op, "bytes until the fault", a);
  if (a.left.signo != 0 &&
      left_.place_of(a.left.fault_address) != right_.place_of(a.right.fault_address)) {
    return differs(op, std::string("address of the fault of ") + name_of(op.kind), a);
  }
  return compare_bytes(op, a);
}

// Only pages of private memory: whether a page of a file is in memory depends on readahead. And
// only pages with contents: when the zero page is mapped is each side's choice. The kernel beneath
// may have no swap.
std::optional<Difference> Driver::compare_resident(const Op& op, const Answers& a) {
  const std::vector<AreaLine>& areas = processes_[op.process].left_areas;
  for (u64 i = 0; i < std::min(a.left.bytes.size(), a.right.bytes.size()); ++i) {
    const u64 at = left_.address_of(op.at) + i * kPageSize;
    const AreaLine* area = find(areas, at);
    if (area == nullptr || area->object != 0 || a.left.bytes[i] == a.right.bytes[i]) continue;
    const bool may_be_in_swap = a.left.bytes[i] != 0 && (paged_out_ || right_.short_of_memory());
    if (area->prot == PROT_NONE || may_be_in_swap) continue;
    if (only_zeros(op.process, left_.place_of(at))) continue;
    Difference d = differs(op,
                           std::string("mincore: ") + left_.name() + " says " +
                               (a.left.bytes[i] != 0 ? "present" : "absent"),
                           a);
    d.text += "  page " + std::to_string(i) + " of the range\n";
    return d;
  }
  return std::nullopt;
}

bool Driver::only_zeros(u32 process, Place page) {
  Op load;
  load.kind = OpKind::load;
  load.process = process;
  load.at = page;
  load.len = kPageSize;
  const Answers a = on_both(load);
  const auto zero = [](u8 byte) { return byte == 0; };
  return std::all_of(a.left.bytes.begin(), a.left.bytes.end(), zero) &&
         std::all_of(a.right.bytes.begin(), a.right.bytes.end(), zero);
}

std::optional<Difference> Driver::compare_bytes(const Op& op, const Answers& a) const {
  if (a.left.bytes == a.right.bytes) return std::nullopt;
  Difference d = differs(op, std::string("bytes of ") + name_of(op.kind), a);
  u64 at = 0;
  const u64 both = std::min(a.left.bytes.size(), a.right.bytes.size());
  while (at < both && a.left.bytes[at] == a.right.bytes[at]) ++at;
  char text[120];
  std::snprintf(text, sizeof text, "  byte 0x%llx of the range: %s 0x%02x, %s 0x%02x\n",
                static_cast<unsigned long long>(at), left_.name(),
                at < a.left.bytes.size() ? unsigned{a.left.bytes[at]} : 0U, right_.name(),
                at < a.right.bytes.size() ? unsigned{a.right.bytes[at]} : 0U);
  d.text += text;
  return d;
}

// Takes back what each side may have chosen for itself.
std::optional<Difference> Driver::settle(const Op& op, const Answers& a) {
  // Advice over a hole is refused after it was followed everywhere else, on both sides.
  const bool followed = op.kind == OpKind::madvise && a.left.error == ENOMEM;
  if (a.left.error != 0 && !followed && may_leave_parts(op)) {
    if (Outcome d = after_refusal(op)) return d;
  } else if (a.left.error == 0 && (op.kind == OpKind::mmap || op.kind == OpKind::mremap)) {
    const u64 length = op.kind == OpKind::mmap ? op.len : op.newlen;
    if (Outcome d = bring_home(op, a, whole_pages(length))) return d;
  }
  if (op.kind == OpKind::store) clear_tails(op, a);
  paged_out_ = paged_out_ || (op.kind == OpKind::madvise && op.advice == MADV_PAGEOUT);
  if (op.kind == OpKind::madvise && op.advice == MADV_FREE) {
    // Old bytes or zeros: the kernel decides when. Now, then.
    Op discard = op;
    discard.advice = MADV_DONTNEED;
    const Answers b = on_both(discard);
    if (a.left.error == 0) return compare(discard, b);
  }
  return std::nullopt;
}

// What a store has written beyond the end of a file in its last page may stay until the page is
// written back, or come to light when the file grows, as the file system likes: so zeros go there.
void Driver::clear_tails(const Op& op, const Answers& a) {
  const u64 start = left_.address_of(op.at);
  const u64 end = start + a.left.value;
  for (const AreaLine& area : processes_[op.process].left_areas) {
    if (!area.shared || area.start >= end || area.end <= start) continue;
    for (u32 f = 0; f < kFilesCount; ++f) {
      const u64 size = left_.file_size(f);
      if (area.object != left_.object_of_file(f) || (size & kPageMask) == 0) continue;
      if (size < area.page_offset * kPageSize) continue;
      const u64 tail = area.start + (size - area.page_offset * kPageSize);
      if (tail >= std::min(end, area.end) || whole_pages(tail) <= start) continue;
      Op clear;
      clear.kind = OpKind::store;
      clear.process = op.process;
      clear.at = left_.place_of(tail);
      clear.len = whole_pages(tail) - tail;
      ++reached_.normalised;
      on_both(clear);
    }
  }
}

// A mapping outside of the window goes where the operation says, or away.
std::optional<Difference> Driver::bring_home(const Op& op, const Answers& a, u64 length) {
  if (left_.place_of(a.left.value).base != Base::absolute) return std::nullopt;
  Op away;
  away.process = op.process;
  away.len = length;
  if (op.to != Place{}) {
    away.kind = OpKind::mremap;
    away.newlen = length;
    away.flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    away.to = op.to;
    const Answers moved = on_both_at(away, a.left.value, a.right.value);
    if (Outcome d = compare(away, moved)) return d;
    if (moved.left.error == 0) return std::nullopt;
  }
  away.kind = OpKind::munmap;
  ++reached_.normalised;
  return compare(away, on_both_at(away, a.left.value, a.right.value));
}

// A refused call has changed nothing here; in Linux it may have changed a part of its range. Then
// the whole range goes, on both sides.
std::optional<Difference> Driver::after_refusal(const Op& op) {
  const std::vector<AreaLine>& before = processes_[op.process].left_areas;
  const bool changed = merged(left_.areas(op.process)) != before;
  if (!changed && !hidden_change(op)) return std::nullopt;
  ObjectPairs pairs;
  const std::string what =
      area_difference(left_, before, right_, merged(right_.areas(op.process)), &pairs);
  if (!what.empty() && right_.refuses_whole()) {
    Difference d;
    d.kind = std::string("refused ") + name_of(op.kind) + " changed the areas: " + what;
    d.text = "  " + print(op) + "\n";
    return d;
  }
  wipe(op.process, op.at, op.len);
  if (op.kind == OpKind::mremap && (op.flags & MREMAP_FIXED) != 0) {
    wipe(op.process, op.to, op.newlen);
  }
  return std::nullopt;
}

void Driver::wipe(u32 process, Place at, u64 length) {
  Op op;
  op.kind = OpKind::munmap;
  op.process = process;
  op.at = {at.base, at.offset & ~kPageMask};
  op.len = length + (at.offset & kPageMask);
  ++reached_.normalised;
  on_both(op);
}

std::optional<Difference> Driver::compare_areas(const Op& op) {
  ObjectPairs pairs;
  for (u32 f = 0; f < kFilesCount; ++f) {
    pairs.match(left_.object_of_file(f), right_.object_of_file(f));
  }
  for (u32 p = 0; p < kProcessesMax; ++p) {
    if (!alive(p)) continue;
    Process& process = processes_[p];
    process.left_raw = left_.areas(p);
    process.right_raw = right_.areas(p);
    process.left_areas = merged(process.left_raw);
    const std::vector<AreaLine> right = merged(process.right_raw);
    const std::string what = area_difference(left_, process.left_areas, right_, right, &pairs);
    if (what.empty()) continue;
    Difference d;
    d.kind = std::string("areas after ") + name_of(op.kind) + ": " + what;
    d.text = "  " + print(op) + "\n  process " + std::to_string(p) + ", " + left_.name() + ":\n" +
             print(left_, process.left_areas) + "  " + right_.name() + ":\n" + print(right_, right);
    return d;
  }
  return std::nullopt;
}

std::optional<Difference> Driver::compare_all_bytes(const Op& op) {
  ++reached_.checks;
  if (Outcome d = compare_areas(op)) return d;
  for (u32 p = 0; p < kProcessesMax; ++p) {
    if (!alive(p)) continue;
    const std::vector<AreaLine> areas = processes_[p].left_areas;
    for (const AreaLine& a : areas) {
      if (a.prot == PROT_NONE) continue;
      if (Outcome d = compare_pages(op, p, a.start, a.end)) return d;
    }
  }
  if (Outcome d = compare_files(op)) return d;
  for (Side* side : {&left_, &right_}) {
    const std::string damage = side->audit();
    if (!damage.empty()) return Difference{"audit of " + std::string(side->name()), damage + "\n"};
  }
  return std::nullopt;
}

std::optional<Difference> Driver::compare_pages(const Op& op, u32 process, u64 start, u64 end) {
  for (u64 at = start; at < end;) {
    Op load;
    load.kind = OpKind::load;
    load.process = process;
    load.at = left_.place_of(at);
    load.len = std::min(end - at, kAccessMax);
    const Answers a = on_both(load);
    if (Outcome d = compare_access(load, a)) {
      d->kind = std::string(name_of(op.kind)) + " finds: " + d->kind;
      return d;
    }
    reached_.pages_compared += a.left.value / kPageSize;
    // A page that cannot be read (SIGBUS) is one that was compared.
    at += a.left.signo != 0 ? (a.left.value + kPageSize) & ~kPageMask : load.len;
  }
  return std::nullopt;
}

std::optional<Difference> Driver::compare_files(const Op& op) {
  for (u32 f = 0; f < kFilesCount; ++f) {
    if (left_.file_bytes(f) == right_.file_bytes(f)) continue;
    Difference d;
    d.kind = std::string("contents of file ") + static_cast<char>('a' + f);
    d.text = "  " + print(op) + "\n";
    return d;
  }
  return std::nullopt;
}

}  // namespace spillway::diff
