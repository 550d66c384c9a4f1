// System calls on a process's address space.
#include <algorithm>

#include "workload/runner.h"

namespace spillway {
namespace {

u32 prot_bits(const std::string& text) {
  u32 bits = 0;
  for (const char c : text) {
    if (c == 'r') bits |= 1;
    if (c == 'w') bits |= 2;
    if (c == 'x') bits |= 4;
  }
  return text == "none" ? 0 : bits;
}

// Linux's values of MADV_*.
i32 advice_of(const std::string& word) {
  constexpr std::pair<const char*, i32> kAdvice[] = {
      {"normal", 0},   {"random", 1}, {"sequential", 2}, {"willneed", 3},
      {"dontneed", 4}, {"free", 8},   {"cold", 20},      {"pageout", 21}};
  for (const auto& [name, value] : kAdvice) {
    if (word == name) return value;
  }
  return -1;
}

const Operand* optional_operand(const Statement& s, std::string_view key) {
  const Signature& signature = signature_of(s.verb);
  for (std::size_t i = 0; i < signature.params.size(); ++i) {
    if (signature.params[i].key == key && s.operands[i].given()) return &s.operands[i];
  }
  return nullptr;
}

}  // namespace

bool Runner::judge(const Statement& s, const Outcome& outcome, std::optional<u64>* value) {
  const Operand* fails = optional_operand(s, "fails");
  const std::string expected = fails != nullptr ? fails->text : "success";
  if (outcome.gave_up) {
    return unmet(s, expected, "it waits for ever: nothing is left that could help");
  }
  const std::string actual = outcome.value.ok() ? "success" : name_of(outcome.value.error());
  if (actual != expected) return unmet(s, expected, actual);
  if (outcome.value.ok()) *value = outcome.value.value();
  // Small results are numbers of bytes or processes; the others are addresses.
  std::string shown = actual;
  if (outcome.value.ok()) {
    shown = outcome.value.value() == 0          ? ""
            : outcome.value.value() < kPageSize ? std::to_string(outcome.value.value())
                                                : hex_text(outcome.value.value());
  }
  record(s, shown);
  return true;
}

bool Runner::do_call(const Statement& s) {
  switch (s.verb) {
    case Verb::swapon:
    case Verb::swapoff: return do_swap(s);
    default: break;
  }
  if (process(s, s.operands[0]) == nullptr) return false;
  switch (s.verb) {
    case Verb::mmap: return do_mmap(s);
    case Verb::mremap: return do_mremap(s);
    case Verb::brk: return do_brk(s);
    case Verb::pread:
    case Verb::pwrite:
    case Verb::ftruncate:
    case Verb::fsync:
    case Verb::unlink: return do_file(s);
    case Verb::shmget:
    case Verb::shmat:
    case Verb::shmdt:
    case Verb::shmctl: return do_shm(s);
    default: return do_range(s);
  }
}

bool Runner::do_mmap(const Statement& s) {
  Process& p = processes_.at(s.operands[0].text);
  const u64 length = operand(s, "SIZE").number.total();
  const bool shared = operand(s, "shared").text == "shared";
  const Operand& file = operand(s, "file");
  const Operand& fixed = operand(s, "fixed");
  u64 address = 0;
  if (operand(s, "at").given()) {
    const auto at = place(s, p, operand(s, "at").place);
    if (!at) return false;
    address = at->v;
  }
  const u32 prot = prot_bits(operand(s, "PROT").text);
  u32 flags = shared ? kMapShared : kMapPrivate;
  if (!file.given()) flags |= kMapAnonymous;
  if (fixed.given()) flags |= fixed.text == "fixed" ? kMapFixed : kMapFixedNoreplace;
  if (operand(s, "populate").given()) flags |= kMapPopulate;
  if (operand(s, "locked").given()) flags |= kMapLocked;
  if (operand(s, "noreserve").given()) flags |= kMapNoreserve;
  if (operand(s, "growsdown").given()) flags |= kMapGrowsdown;
  const u64 offset = operand(s, "offset").number.total();
  Outcome outcome;
  if (file.given()) {
    const bool writes = shared && (prot & 2) != 0;
    const std::string mode = operand(s, "open").given() ? operand(s, "open").text
                             : writes                   ? "rw"
                                                        : "r";
    const u32 how = mode == "rw" ? kOpenReadWrite : mode == "w" ? kOpenWrite : kOpenRead;
    outcome = with_file(p, file.text, how, [&](i32 fd, u32) {
      return kernel_->mmap(p.pid, address, length, prot, flags, fd, offset);
    });
  } else {
    outcome =
        call([&](u32) { return kernel_->mmap(p.pid, address, length, prot, flags, -1, offset); });
  }
  std::optional<u64> value;
  if (!judge(s, outcome, &value) || !value) return result_.end == RunEnd::good;
  const Vpn start = VirtAddr(*value).vpn();
  const u64 pages = pages_for(length).v;
  p.space->places[operand(s, "NAME").text] = VirtAddr(*value);
  const auto sharing = shared ? MemoryModel::Sharing::shared : MemoryModel::Sharing::private_copy;
  if (file.given()) {
    const File* found = file_at(file.text);
    if (found == nullptr) return true;
    model_.map_object(p.space->key, start, pages, found->object, offset >> kPageShift, sharing);
  } else if (shared) {
    model_.map_object(p.space->key, start, pages, model_.add_object(pages * kPageSize), 0, sharing);
  } else {
    model_.map_zeros(p.space->key, start, pages);
  }
  return true;
}

bool Runner::do_mremap(const Statement& s) {
  Process& p = processes_.at(s.operands[0].text);
  const auto old_address = place(s, p, s.operands[1].place);
  if (!old_address) return false;
  const u64 old_length = operand(s, "SIZE", 0).number.total();
  const u64 new_length = operand(s, "SIZE", 1).number.total();
  u32 flags = operand(s, "maymove").given() ? kMremapMaymove : 0;
  u64 to = 0;
  if (operand(s, "dontunmap").given()) flags |= kMremapDontunmap;
  if (operand(s, "to").given()) {
    const auto target = place(s, p, operand(s, "to").place);
    if (!target) return false;
    to = target->v;
    flags |= kMremapFixed;
  }
  std::optional<u64> value;
  const Outcome outcome = call([&](u32) {
    return kernel_->mremap(p.pid, old_address->v, old_length, new_length, flags, to);
  });
  if (!judge(s, outcome, &value) || !value) return result_.end == RunEnd::good;
  const u64 pages_before = pages_for(old_length).v;
  const u64 pages_after = pages_for(new_length).v;
  model_.move(p.space->key, old_address->vpn(), pages_before, VirtAddr(*value).vpn(), pages_after);
  if (operand(s, "dontunmap").given()) {
    model_.map_zeros(p.space->key, old_address->vpn(), pages_before);
    if (operand(s, "name").given()) p.space->places[operand(s, "name").text] = VirtAddr(*value);
    return true;
  }
  // Names go along with their memory.
  for (auto& [name, address] : p.space->places) {
    if (address.v < old_address->v || address.v >= old_address->v + pages_before * kPageSize) {
      continue;
    }
    address = VirtAddr(address.v - old_address->v + *value);
  }
  if (operand(s, "name").given()) p.space->places[operand(s, "name").text] = VirtAddr(*value);
  return true;
}

bool Runner::do_range(const Statement& s) {
  Process& p = processes_.at(s.operands[0].text);
  const Pid pid = p.pid;
  std::optional<u64> value;
  if (s.verb == Verb::mlockall || s.verb == Verb::munlockall) {
    u32 flags = 0;
    if (s.verb == Verb::mlockall) {
      const std::string& which = s.operands[1].text;
      if (which != "future") flags |= kMclCurrent;
      if (which != "current") flags |= kMclFuture;
    }
    return judge(s, call([&](u32) {
                   return s.verb == Verb::mlockall ? kernel_->mlockall(pid, flags)
                                                   : kernel_->munlockall(pid);
                 }),
                 &value);
  }
  const auto at = place(s, p, s.operands[1].place);
  if (!at) return false;
  const u64 start = at->v;
  const u64 length = s.operands[2].number.total();
  const u64 pages = pages_for(length).v;
  std::vector<u8> vec(s.verb == Verb::mincore ? pages : 0);
  const std::string word = s.operands.size() > 3 ? s.operands[3].text : "";
  const u32 sync = word == "sync" ? kMsSync : word == "async" ? kMsAsync : kMsInvalidate;
  SyncProgress progress;
  const Outcome outcome = call([&](u32) -> Result<u64> {
    switch (s.verb) {
      case Verb::munmap: return kernel_->munmap(pid, start, length);
      case Verb::mprotect: return kernel_->mprotect(pid, start, length, prot_bits(word));
      case Verb::msync: return kernel_->msync(pid, start, length, sync, &progress);
      case Verb::mlock: return kernel_->mlock(pid, start, length);
      case Verb::munlock: return kernel_->munlock(pid, start, length);
      case Verb::madvise: return kernel_->madvise(pid, start, length, advice_of(word));
      case Verb::mincore: return kernel_->mincore(pid, start, length, vec.data());
      default: return Error::invalid;
    }
  });
  if (!judge(s, outcome, &value)) return false;
  // madvise with dontneed skips holes and complains afterwards: what is there is gone.
  const bool partly =
      s.verb == Verb::madvise && !outcome.value.ok() && outcome.value.error() == Error::no_memory;
  if (!value && !partly) return true;
  if (s.verb == Verb::munmap) model_.unmap(p.space->key, at->vpn(), pages);
  if (s.verb == Verb::madvise && word == "dontneed") {
    model_.discard(p.space->key, at->vpn(), pages);
  }
  if (s.verb == Verb::madvise && word == "free") model_.forget(p.space->key, *at, length);
  if (s.verb == Verb::mincore && operand(s, "expect").given()) {
    std::string found;
    for (const u8 byte : vec) found += (byte & 1) != 0 ? '1' : '0';
    if (found != operand(s, "expect").text) return unmet(s, operand(s, "expect").text, found);
  }
  return true;
}

// The break is returned whether it moved or not; only the caller can tell.
bool Runner::do_brk(const Statement& s) {
  Process& p = processes_.at(s.operands[0].text);
  const auto to = place(s, p, s.operands[1].place);
  if (!to) return false;
  const VirtAddr before = task_view(p.pid).brk;
  const Outcome outcome = call([&](u32) { return kernel_->brk(p.pid, to->v); });
  if (outcome.gave_up || !outcome.value.ok()) {
    return unmet(s, "a break",
                 outcome.gave_up ? "it waits for ever" : name_of(outcome.value.error()));
  }
  const u64 after = outcome.value.value();
  const bool refused = operand(s, "refused").given();
  const u64 expected = refused ? before.v : to->v;
  if (after != expected) return unmet(s, hex_text(expected), hex_text(after));
  record(s, hex_text(after));
  const u64 old_pages = pages_for(before.v).v;
  const u64 new_pages = pages_for(after).v;
  if (new_pages > old_pages) {
    model_.map_zeros(p.space->key, Vpn(old_pages), new_pages - old_pages);
  } else {
    model_.unmap(p.space->key, Vpn(new_pages), old_pages - new_pages);
  }
  return true;
}

}  // namespace spillway
