// What the kernel keeps for itself: blocks of disks in a buffer cache, objects in slabs, and the
// daemons in the course of time.
#include <algorithm>

#include "workload/runner.h"

namespace spillway {
namespace {

u64 count_of(const Statement& s) {
  const Operand& count = operand(s, "count");
  return count.given() ? count.number.value : 1;
}

std::vector<u8> block_of(const Operand& data, u64 size) {
  std::vector<u8> bytes(size, static_cast<u8>(data.number.value));
  if (data.kind != Operand::Kind::text) return bytes;
  for (u64 i = 0; i < size; ++i) {
    bytes[i] = data.text.empty() ? u8{0} : static_cast<u8>(data.text[i % data.text.size()]);
  }
  return bytes;
}

}  // namespace

bool Runner::make_disks() {
  u32 number = 0;
  for (const Statement& s : scenario_.statements) {
    if (s.verb != Verb::disk) continue;
    const std::string name = "disk" + std::to_string(number++);
    Disk disk;
    if (operand(s, "block").given()) disk.block_size = operand(s, "block").number.total();
    disk.object = model_.add_object(s.operands[0].number.value * kPageSize);
    Operand device_name;
    device_name.text = name;
    const Status opened =
        kernel_->open_disk(device(device_name), static_cast<u32>(disk.block_size));
    if (!opened.ok()) {
      return fail(RunEnd::scenario, s, name + " cannot be opened: " + name_of(opened.error()));
    }
    disks_[name] = disk;
  }
  return true;
}

// The operation with each block in turn, until one fails; judged as one.
bool Runner::do_blocks(const Statement& s, const std::function<Outcome(u64 block)>& one) {
  Outcome outcome;
  const u64 first = s.operands[1].number.value;
  for (u64 i = 0; i < count_of(s); ++i) {
    outcome = one(first + i);
    if (result_.end != RunEnd::good) return false;
    if (outcome.gave_up || !outcome.value.ok()) break;
  }
  if (outcome.value.ok()) outcome.value = u64{0};
  std::optional<u64> value;
  return judge(s, outcome, &value);
}

bool Runner::do_disk(const Statement& s) {
  const u32 number = device(s.operands[0]);
  const Disk& disk = disks_.at(s.operands[0].text);
  const u64 size = disk.block_size;
  std::optional<u64> value;
  switch (s.verb) {
    case Verb::sync: return judge(s, call([&](u32) { return kernel_->sync_disk(number); }), &value);
    case Verb::bforget:
      return do_blocks(s, [&](u64 block) {
        return call([&](u32) { return kernel_->forget_block(number, block); });
      });
    case Verb::bdirty: {
      const std::vector<u8> bytes = block_of(s.operands[2], size);
      return do_blocks(s, [&](u64 block) {
        bool done = false;
        const Outcome outcome =
            call([&](u32) { return kernel_->write_block(number, block, bytes.data(), &done); });
        if (done) model_.write_object(disk.object, block * size, bytes.data(), size);
        return outcome;
      });
    }
    default: break;
  }
  const Operand& expect = operand(s, "expect");
  return do_blocks(s, [&](u64 block) {
    std::vector<u8> bytes(size);
    const Outcome outcome = call([&](u32) { return kernel_->bread(number, block, bytes.data()); });
    if (outcome.gave_up || !outcome.value.ok()) return outcome;
    const auto wrong = model_.check_object(disk.object, block * size, bytes.data(), size);
    if (wrong) {
      (void)unmet(s, "byte " + std::to_string(wrong->offset) + " is " + hex_text(wrong->expected),
                  hex_text(wrong->actual));
    } else if (expect.given() && bytes != block_of(expect, size)) {
      (void)unmet(s, "block " + std::to_string(block) + " holds what is expected",
                  "its first byte is " + hex_text(bytes[0]));
    }
    return outcome;
  });
}

bool Runner::do_slab(const Statement& s) {
  std::optional<u64> value;
  if (s.verb == Verb::kreap) {
    record(s, std::to_string(kernel_->kmem_cache_reap()) + " frames");
    return true;
  }
  const std::string& name = s.operands[0].text;
  if (s.verb == Verb::kcache) {
    const u64 size = s.operands[1].number.total();
    const bool ctor = operand(s, "ctor").given();
    const Outcome made = call([&](u32) {
      return kernel_->kmem_cache_create(name.c_str(), static_cast<u32>(size), ctor);
    });
    if (!judge(s, made, &value)) return false;
    if (value) caches_[name] = ObjectCache{*value, {}};
    return true;
  }
  const auto found = caches_.find(name);
  if (found == caches_.end())
    return fail(RunEnd::scenario, s, "cache " + quoted(name) + " is gone");
  ObjectCache& cache = found->second;
  switch (s.verb) {
    case Verb::kalloc: {
      Outcome outcome;
      for (u64 i = 0; i < count_of(s); ++i) {
        outcome = call([&](u32) { return kernel_->kmem_cache_alloc(cache.number); });
        if (outcome.gave_up || !outcome.value.ok()) break;
        cache.objects.push_back(outcome.value.value());
      }
      // An address says nothing to who reads it.
      if (outcome.value.ok()) outcome.value = u64{0};
      return judge(s, outcome, &value);
    }
    case Verb::kfree:
      for (u64 i = 0; i < count_of(s); ++i) {
        if (cache.objects.empty()) return fail(RunEnd::scenario, s, "no object is left to free");
        const auto which =
            operand(s, "oldest").given() ? cache.objects.begin() : cache.objects.end() - 1;
        kernel_->kmem_cache_free(cache.number, *which);
        cache.objects.erase(which);
      }
      record(s, "");
      return true;
    case Verb::kshrink: {
      const Result<u64> gone = kernel_->kmem_cache_shrink(cache.number);
      record(s, std::to_string(gone.ok() ? gone.value() : 0) + " slabs");
      return true;
    }
    default: break;
  }
  const Outcome outcome = call([&](u32) { return kernel_->kmem_cache_destroy(cache.number); });
  if (!judge(s, outcome, &value)) return false;
  if (value) caches_.erase(found);
  return true;
}

bool Runner::do_vmalloc(const Statement& s) {
  std::optional<u64> value;
  if (s.verb == Verb::vpurge) {
    record(s, std::to_string(kernel_->vmalloc_purge()) + " pages");
    return true;
  }
  const std::string& name = s.operands[0].text;
  if (s.verb == Verb::vmalloc) {
    const u64 bytes = s.operands[1].number.total();
    const Outcome made = call([&](u32) -> Result<u64> {
      SPW_TRY_ASSIGN(at, kernel_->system().vmalloc(bytes));
      return at.v;
    });
    if (!judge(s, made, &value)) return false;
    if (value) vareas_[name] = KernelArea{VirtAddr(*value), pages_for(bytes).v, {}};
    return true;
  }
  const auto found = vareas_.find(name);
  if (found == vareas_.end()) return fail(RunEnd::scenario, s, "area " + quoted(name) + " is gone");
  // The name stays: giving an area back twice is an error of a kernel that is worth seeing.
  return judge(s, call([&](u32) -> Result<u64> {
                 SPW_TRY(kernel_->system().vfree(found->second.at));
                 return u64{0};
               }),
               &value);
}

bool Runner::do_vaccess(const Statement& s) {
  const auto found = vareas_.find(s.operands[0].text);
  if (found == vareas_.end()) return fail(RunEnd::scenario, s, "the area could not be made");
  KernelArea& area = found->second;
  const bool writes = s.verb == Verb::vwrite;
  const bool below = !writes && operand(s, "below").given();
  const u64 offset = s.operands[1].number.total();
  const Operand& data = writes ? operand(s, "DATA") : operand(s, "expect");
  const Operand& length = operand(s, "bytes");
  u64 count = length.given() ? length.number.total() : 1;
  if (data.kind == Operand::Kind::text && !length.given()) count = data.text.size();
  if (count > (u64{1} << 20)) return fail(RunEnd::scenario, s, "more than 1m at once");
  std::vector<u8> bytes(count);
  if (writes) bytes = block_of(data, count);
  const VirtAddr at(below ? area.at.v - offset : area.at.v + offset);
  const Hardware::AccessEnd end = hardware_.access(
      writes ? Access::write : Access::read, System::kernel_space(), at, bytes.data(), count, 0);
  const Operand& signal = operand(s, "signal");
  const std::string wanted = signal.given() ? signal.text : "none";
  const std::string met = end.outcome == FaultOutcome::done ? "none" : "SEGV_MAPERR";
  if (met != wanted) return unmet(s, wanted, met + " at " + hex_text(end.va.v));
  for (u64 i = 0; i < count && met == "none"; ++i) {
    if (writes) {
      area.written[offset + i] = bytes[i];
      continue;
    }
    const auto known = area.written.find(offset + i);
    if (known != area.written.end() && known->second != bytes[i]) {
      return unmet(s, "byte " + std::to_string(offset + i) + " is " + hex_text(known->second),
                   hex_text(bytes[i]));
    }
  }
  if (!writes && data.given() && met == "none" && bytes != block_of(data, count)) {
    return unmet(s, "what is expected", "its first byte is " + hex_text(bytes[0]));
  }
  record(s, met == "none" ? "" : met + " at " + hex_text(end.va.v));
  return true;
}

// In ticks, as daemons look at the clock.
bool Runner::do_pass(const Statement& s) {
  constexpr u64 kTick = 100'000'000;
  const u64 end = hardware_.now_ns() + s.operands[0].number.total();
  while (hardware_.now_ns() < end) {
    for (u32 steps = 0; run_wanted_daemons(); ++steps) {
      if (steps == kAttemptsMax) {
        return unmet(s, "the daemons come to rest", "one wants to run without an end");
      }
    }
    hardware_.advance(std::min(kTick, end - hardware_.now_ns()));
  }
  record(s, "");
  return true;
}

Runner::Answer Runner::ask_kernel(const Statement& s) {
  const auto number = [](u64 value) { return Answer{true, static_cast<i64>(value), ""}; };
  if (s.quantity == Quantity::slab) {
    std::vector<SlabView> views(256);
    const u32 count = std::min(kernel_->slabs(views.data(), 256), 256U);
    const std::string& what = s.subject[1].text;
    // Several caches may have one name, as those of the buffer heads of two disks.
    u64 sum = 0;
    bool found = false;
    for (u32 i = 0; i < count; ++i) {
      const SlabView& v = views[i];
      if (s.subject[0].text != v.name) continue;
      const bool of_each = what == "per_slab" || what == "pages";
      if (found && of_each) continue;
      found = true;
      sum += (what == "active"     ? v.objects_active
              : what == "total"    ? v.objects_total
              : what == "slabs"    ? v.slabs_total
              : what == "empty"    ? v.slabs_total - v.slabs_active
              : what == "per_slab" ? v.objects_per_slab
              : what == "pages"    ? v.pages_per_slab
              : what == "frames"   ? v.frames
              : what == "grown"    ? v.grown
                                   : v.reaped);
    }
    if (found) return number(sum);
    (void)unmet(s, "a cache", "there is none of this name");
    return {};
  }
  if (s.quantity == Quantity::dentries || s.quantity == Quantity::inodes) {
    const VfsStats v = kernel_->vfs_stats();
    const std::string& what = s.subject[0].text;
    if (s.quantity == Quantity::dentries) {
      return number(what == "total"      ? v.dentries
                    : what == "unused"   ? v.dentries_unused
                    : what == "negative" ? v.dentries_negative
                    : what == "hits"     ? v.dentry_hits
                    : what == "misses"   ? v.dentry_misses
                                         : v.dentries_pruned);
    }
    return number(what == "total"    ? v.inodes
                  : what == "unused" ? v.inodes_unused
                  : what == "dirty"  ? v.inodes_dirty
                  : what == "hits"   ? v.inode_hits
                  : what == "misses" ? v.inode_misses
                  : what == "pruned" ? v.inodes_pruned
                                     : v.inodes_written);
  }
  if (s.quantity == Quantity::free_blocks) {
    return number(kernel_->free_blocks(static_cast<u32>(s.subject[0].number.value)));
  }
  if (s.quantity == Quantity::vmalloc_info) {
    std::vector<VmallocView> areas(256);
    const u32 count = std::min(kernel_->vmalloc_areas(areas.data(), 256), 256U);
    const std::string& what = s.subject[0].text;
    const bool lazy = what.starts_with("lazy");
    u64 sum = 0;
    for (u32 i = 0; i < count; ++i) {
      if (areas[i].lazy != lazy) continue;
      sum += what.ends_with("pages") ? areas[i].pages : 1;
    }
    return number(sum);
  }
  const u32 on = device(s.subject[0]);
  if (s.quantity == Quantity::block) {
    const BlockView v = kernel_->block(on, s.subject[1].number.value);
    return {true, 0, (s.subject[2].text == "cached" ? v.found : v.dirty) ? "yes" : "no"};
  }
  DiskView views[Machine::kBlockDevicesMax];
  const u32 count = kernel_->disks(views, Machine::kBlockDevicesMax);
  const std::string& what = s.subject[1].text;
  for (u32 i = 0; i < count; ++i) {
    const DiskView& v = views[i];
    if (v.device != on) continue;
    return number(what == "buffers"     ? v.buffers
                  : what == "dirty"     ? v.dirty
                  : what == "pages"     ? v.pages
                  : what == "writeback" ? v.writeback
                  : what == "hits"      ? v.hits
                  : what == "misses"    ? v.misses
                                        : v.released);
  }
  return {};
}

}  // namespace spillway
