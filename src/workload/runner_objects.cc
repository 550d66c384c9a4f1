// System calls on files, shared memory and swap areas.
#include <algorithm>

#include "workload/runner.h"

namespace spillway {

// Opens, does, closes. A body that waits keeps the file open.
Runner::Outcome Runner::with_file(Process& p, const std::string& name, u32 flags,
                                  const std::function<Result<u64>(i32 fd, u32 attempt)>& body) {
  std::optional<i32> fd;
  const Outcome outcome = call([&](u32 attempt) -> Result<u64> {
    if (!fd) {
      SPW_TRY_ASSIGN(opened, kernel_->open(p.pid, name.c_str(), flags));
      fd = static_cast<i32>(opened);
    }
    return body(*fd, attempt);
  });
  if (fd) {
    const Outcome closed = call([&](u32) { return kernel_->close(p.pid, *fd); });
    if (!outcome.gave_up && outcome.value.ok() && !closed.value.ok()) return closed;
  }
  return outcome;
}

bool Runner::do_file(const Statement& s) {
  Process& p = processes_.at(s.operands[0].text);
  const std::string& name = s.operands[1].text;
  File* found = file_at(name);
  std::optional<u64> value;
  if (s.verb == Verb::unlink) {
    return judge(s, call([&](u32) { return kernel_->unlink(p.pid, name.c_str()); }), &value);
  }
  if (s.verb == Verb::fsync || s.verb == Verb::ftruncate) {
    const u64 size = s.verb == Verb::fsync ? 0 : s.operands[2].number.total();
    SyncProgress progress;
    const Outcome outcome = with_file(p, name, kOpenReadWrite, [&](i32 fd, u32) {
      return s.verb == Verb::fsync ? kernel_->fsync(p.pid, fd, &progress)
                                   : kernel_->ftruncate(p.pid, fd, size);
    });
    if (!judge(s, outcome, &value)) return false;
    if (value && s.verb == Verb::ftruncate && found != nullptr) {
      model_.resize_object(found->object, size);
      found->size = size;
    }
    return true;
  }
  const u64 offset = s.operands[2].number.total();
  const bool writes = s.verb == Verb::pwrite;
  const Operand& data = writes ? s.operands[3] : operand(s, "expect");
  const Operand& length = operand(s, "bytes");
  u64 count = length.given() ? length.number.total() : 1;
  if (data.kind == Operand::Kind::text && !length.given()) count = data.text.size();
  if (count > (u64{64} << 20)) return fail(RunEnd::scenario, s, "more than 64m at once");
  const auto wanted = [&](u64 i) {
    return data.kind == Operand::Kind::text && !data.text.empty()
               ? static_cast<u8>(data.text[i % data.text.size()])
               : static_cast<u8>(data.number.value);
  };
  std::vector<u8> bytes(count);
  for (u64 i = 0; writes && i < count; ++i) bytes[i] = wanted(i);
  u64 done = 0;
  const Outcome outcome = with_file(p, name, writes ? kOpenReadWrite : kOpenRead, [&](i32 fd, u32) {
    return writes ? kernel_->pwrite(p.pid, fd, bytes.data(), count, offset, &done)
                  : kernel_->pread(p.pid, fd, bytes.data(), count, offset, &done);
  });
  if (!judge(s, outcome, &value)) return false;
  if (!value) return true;
  const u64 moved = std::min(*value, count);
  if (writes) {
    if (found == nullptr) return true;
    model_.write_object(found->object, offset, bytes.data(), moved);
    found->size = std::max(found->size, offset + moved);
    return true;
  }
  if (found != nullptr) {
    const u64 expected = offset >= found->size ? 0 : std::min(count, found->size - offset);
    if (moved != expected) {
      return unmet(s, std::to_string(expected) + " bytes", std::to_string(moved) + " bytes");
    }
  }
  for (u64 i = 0; i < moved && data.given(); ++i) {
    if (bytes[i] == wanted(i)) continue;
    return unmet(s, "byte " + std::to_string(i) + " is " + hex_text(wanted(i)), hex_text(bytes[i]));
  }
  if (found == nullptr) return true;
  if (const auto wrong = model_.check_object(found->object, offset, bytes.data(), moved)) {
    return unmet(s, "byte " + std::to_string(wrong->offset) + " is " + hex_text(wrong->expected),
                 hex_text(wrong->actual));
  }
  return true;
}

bool Runner::do_shm(const Statement& s) {
  Process& p = processes_.at(s.operands[0].text);
  std::optional<u64> value;
  if (s.verb == Verb::shmdt) {
    const auto at = place(s, p, s.operands[1].place);
    if (!at) return false;
    u64 pages = 0;
    for (const AreaView& area : areas_of(p.pid)) {
      if (addr_of(area.range.start) == *at) pages = area.range.pages().v;
    }
    if (!judge(s, call([&](u32) { return kernel_->shmdt(p.pid, at->v); }), &value)) return false;
    if (value) model_.unmap(p.space->key, at->vpn(), pages);
    return true;
  }
  const std::string& name = s.operands[1].text;
  if (s.verb == Verb::shmget) {
    const Operand& key = operand(s, "key");
    u32 flags = operand(s, "find").given() ? 0 : kIpcCreate;
    if (operand(s, "exclusive").given()) flags |= kIpcExclusive;
    const u64 size = operand(s, "SIZE").number.total();
    const u32 key_value = key.given() ? static_cast<u32>(key.number.value) : kIpcPrivate;
    if (!judge(s, call([&](u32) { return kernel_->shmget(p.pid, key_value, size, flags); }),
               &value)) {
      return false;
    }
    if (!value) return true;
    Segment segment{static_cast<u32>(*value), size, {}};
    for (const auto& [other_name, other] : segments_) {
      if (other.id == segment.id) segment = other;
    }
    if (segment.object.v == 0) segment.object = model_.add_object(size);
    segments_[name] = segment;
    return true;
  }
  const auto found = segments_.find(name);
  if (found == segments_.end()) {
    return fail(RunEnd::scenario, s, "segment '" + name + "' could not be made");
  }
  const Segment& segment = found->second;
  if (s.verb == Verb::shmctl) {
    const std::string& word = s.operands[2].text;
    const u32 command = word == "rmid" ? kIpcRmid : word == "lock" ? kShmLock : kShmUnlock;
    return judge(s, call([&](u32) { return kernel_->shmctl(p.pid, segment.id, command); }), &value);
  }
  u64 address = 0;
  if (operand(s, "at").given()) {
    const auto at = place(s, p, operand(s, "at").place);
    if (!at) return false;
    address = at->v;
  }
  const u32 flags = operand(s, "rdonly").given() ? kShmRdonly : 0;
  if (!judge(s, call([&](u32) { return kernel_->shmat(p.pid, segment.id, address, flags); }),
             &value)) {
    return false;
  }
  if (!value) return true;
  p.space->places[operand(s, "NAME").text] = VirtAddr(*value);
  model_.map_object(p.space->key, VirtAddr(*value).vpn(), pages_for(segment.size).v, segment.object,
                    0, MemoryModel::Sharing::shared);
  return true;
}

bool Runner::do_swap(const Statement& s) {
  const u32 number = device(s.operands[0]);
  std::optional<u64> value;
  if (s.verb == Verb::swapoff) {
    return judge(s, call([&](u32) { return kernel_->swapoff(number); }), &value);
  }
  const Number& priority = operand(s, "priority").number;
  const bool given = operand(s, "priority").given();
  const i32 wanted = !given || priority.negative ? -1 : static_cast<i32>(priority.value);
  return judge(s, call([&](u32) { return kernel_->swapon(number, wanted); }), &value);
}

}  // namespace spillway
