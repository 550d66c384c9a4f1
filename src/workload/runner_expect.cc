// Answers to what a scenario asks, and the comparison with what it expects.
#include "workload/runner.h"

namespace spillway {
namespace {

constexpr i64 kMost = static_cast<i64>(~u64{0} >> 1);
i64 signed_of(u64 value) {
  return value > static_cast<u64>(kMost) ? kMost : static_cast<i64>(value);
}

std::string yes_no(bool yes) { return yes ? "yes" : "no"; }

std::optional<Counter> counter_named(const std::string& name) {
  for (u32 i = 0; i < kCounterCount; ++i) {
    if (name == name_of(static_cast<Counter>(i))) return static_cast<Counter>(i);
  }
  return std::nullopt;
}

i64 value_of(const Number& number) {
  return number.negative ? -signed_of(number.total()) : signed_of(number.total());
}

}  // namespace

bool Runner::do_expect(const Statement& s) {
  const Answer answer = ask(s);
  if (!answer.ok) return false;
  const bool counted = answer.word.empty();
  const std::string found = counted ? std::to_string(answer.number) : answer.word;
  if (s.verb == Verb::note) {
    notes_[s.operands[0].text] = answer.number;
    record(s, found);
    return true;
  }
  ++result_.expectations;
  bool held = false;
  std::string wanted;
  if (s.value.kind == Operand::Kind::note || counted) {
    i64 right = value_of(s.value.number);
    if (s.value.kind == Operand::Kind::note) {
      const auto note = notes_.find(s.value.text);
      if (note == notes_.end()) return fail(RunEnd::scenario, s, "that note was not taken");
      right += note->second;
    }
    held = holds(s.compare, answer.number, right);
    wanted = std::to_string(right);
  } else {
    held = (answer.word == s.value.text) == (s.compare == Compare::equal);
    wanted = s.value.text;
  }
  if (!held) {
    const bool equal = s.compare == Compare::equal;
    return unmet(s, equal ? wanted : std::string(name_of(s.compare)) + " " + wanted, found);
  }
  record(s, found);
  return true;
}

Runner::Answer Runner::ask(const Statement& s) {
  switch (s.quantity) {
    case Quantity::rss:
    case Quantity::total_vm:
    case Quantity::locked_vm:
    case Quantity::stack_vm:
    case Quantity::swap_entries:
    case Quantity::page_tables:
    case Quantity::min_flt:
    case Quantity::maj_flt:
    case Quantity::badness:
    case Quantity::areas:
    case Quantity::alive:
    case Quantity::exit_code:
    case Quantity::signal:
    case Quantity::signal_address: return ask_process(s);
    case Quantity::area: return ask_area(s);
    case Quantity::address:
    case Quantity::entry:
    case Quantity::pte:
    case Quantity::pfn:
    case Quantity::slot_of:
    case Quantity::frame:
    case Quantity::slot:
    case Quantity::same_frame: return ask_page(s);
    case Quantity::dentries:
    case Quantity::inodes:
    case Quantity::vmalloc_info:
    case Quantity::free_blocks:
    case Quantity::disk_info:
    case Quantity::block:
    case Quantity::slab: return ask_kernel(s);
    default: return ask_machine(s);
  }
}

Runner::Answer Runner::ask_process(const Statement& s) {
  const auto found = processes_.find(s.subject[0].text);
  if (found == processes_.end()) {
    (void)fail(RunEnd::scenario, s, "there is no process '" + s.subject[0].text + "'");
    return {};
  }
  const Pid pid = found->second.pid;
  const TaskView v = task_view(pid);
  const bool alive = kernel_->alive(pid);
  switch (s.quantity) {
    case Quantity::alive: return {true, 0, yes_no(alive)};
    case Quantity::exit_code:
      if (alive) {
        (void)unmet(s, found->first + " is dead", "it lives");
        return {};
      }
      return {true, v.exit_code, ""};
    case Quantity::signal: return {true, 0, name_of_signal(kernel_->last_signal(pid))};
    case Quantity::signal_address: return {true, signed_of(kernel_->last_signal(pid).addr.v), ""};
    default: break;
  }
  if (process(s, s.subject[0]) == nullptr) return {};
  switch (s.quantity) {
    case Quantity::rss: return {true, signed_of(v.rss), ""};
    case Quantity::total_vm: return {true, signed_of(v.total_vm), ""};
    case Quantity::locked_vm: return {true, signed_of(v.locked_vm), ""};
    case Quantity::stack_vm: return {true, signed_of(v.stack_vm), ""};
    case Quantity::swap_entries: return {true, signed_of(v.swap_entries), ""};
    case Quantity::page_tables: return {true, signed_of(v.page_tables), ""};
    case Quantity::min_flt: return {true, signed_of(v.min_flt), ""};
    case Quantity::maj_flt: return {true, signed_of(v.maj_flt), ""};
    case Quantity::badness: return {true, signed_of(v.badness), ""};
    default: return {true, signed_of(areas_of(pid).size()), ""};
  }
}

Runner::Answer Runner::ask_area(const Statement& s) {
  Process* p = process(s, s.subject[0]);
  if (p == nullptr) return {};
  const auto at = place(s, *p, s.subject[1].place);
  if (!at) return {};
  const std::string& what = s.subject[2].text;
  for (const AreaView& v : areas_of(p->pid)) {
    // The end of a stack is outside of it, and yet its name.
    const bool top = s.subject[1].place.base == "stack" && addr_of(v.range.end) == *at;
    if (!v.range.contains(at->vpn()) && !top) continue;
    if (what == "shared") return {true, 0, yes_no(v.shared)};
    if (what == "locked") return {true, 0, yes_no(v.locked)};
    if (what == "growsdown") return {true, 0, yes_no(v.growsdown)};
    if (what == "prot") return {true, 0, prot_text(v.prot)};
    if (what == "name") return {true, 0, v.name[0] == '\0' ? "-" : v.name};
    const std::pair<const char*, u64> numbers[] = {{"pages", v.range.pages().v},
                                                   {"start", addr_of(v.range.start).v},
                                                   {"end", addr_of(v.range.end).v},
                                                   {"rss", v.rss},
                                                   {"swap", v.swap},
                                                   {"anonymous", v.anonymous},
                                                   {"pgoff", v.pgoff},
                                                   {"pss_x256", v.pss_x256},
                                                   {"referenced", v.referenced},
                                                   {"shared_clean", v.shared_clean},
                                                   {"shared_dirty", v.shared_dirty},
                                                   {"private_clean", v.private_clean},
                                                   {"private_dirty", v.private_dirty}};
    for (const auto& [name, value] : numbers) {
      if (what == name) return {true, signed_of(value), ""};
    }
  }
  (void)unmet(s, "an area", "there is none at " + hex_text(at->v));
  return {};
}

// The frame behind a page: mapped, or in the swap cache under the page's slot.
std::optional<Pfn> Runner::frame_of(const Statement& s, const Operand& target) {
  if (target.kind == Operand::Kind::note) {
    const i64 number = notes_[target.text] + value_of(target.number);
    if (number >= 0 && static_cast<u64>(number) < stage_.frames.v) {
      return Pfn(static_cast<u32>(number));
    }
    (void)unmet(s, "the number of a frame", std::to_string(number));
    return std::nullopt;
  }
  Process* p = process(s, target);
  if (p == nullptr) return std::nullopt;
  const auto at = place(s, *p, target.place);
  if (!at) return std::nullopt;
  const PteView pte = kernel_->entry(p->pid, at->vpn());
  if (pte.kind == Pte::Kind::present || pte.kind == Pte::Kind::unmapped) return pte.pfn;
  if (pte.kind == Pte::Kind::swapped) {
    const Pfn cached = kernel_->slot(pte.slot).cached;
    if (cached.valid()) return cached;
  }
  (void)unmet(s, "a page in memory", "the entry is " + std::string(name_of(pte.kind)));
  return std::nullopt;
}

std::optional<SlotId> Runner::slot_of(const Statement& s, const Operand& target) {
  if (target.kind == Operand::Kind::note) {
    return SlotId(static_cast<u32>(notes_[target.text] + value_of(target.number)));
  }
  Process* p = process(s, target);
  if (p == nullptr) return std::nullopt;
  const auto at = place(s, *p, target.place);
  if (!at) return std::nullopt;
  const PteView pte = kernel_->entry(p->pid, at->vpn());
  if (pte.kind == Pte::Kind::swapped) return pte.slot;
  if (pte.kind == Pte::Kind::present || pte.kind == Pte::Kind::unmapped) {
    const SlotId slot = kernel_->frame(pte.pfn).slot;
    if (slot.valid()) return slot;
  }
  (void)unmet(s, "a page with a swap slot",
              "the entry is " + std::string(name_of(pte.kind)) + ", and there is none");
  return std::nullopt;
}

Runner::Answer Runner::ask_page(const Statement& s) {
  if (s.quantity == Quantity::frame) {
    const auto pfn = frame_of(s, s.subject[0]);
    if (!pfn) return {};
    const FrameView v = kernel_->frame(*pfn);
    const std::string& what = s.subject[1].text;
    if (what == "count") return {true, v.count, ""};
    if (what == "mapcount") return {true, v.mapcount, ""};
    if (what == "age") return {true, v.age, ""};
    if (what == "index") return {true, v.index, ""};
    if (what == "dirty") return {true, 0, yes_no(v.dirty)};
    if (what == "referenced") return {true, 0, yes_no(v.referenced)};
    if (what == "writeback") return {true, 0, yes_no(v.writeback)};
    if (what == "uptodate") return {true, 0, yes_no(v.uptodate)};
    if (what == "error") return {true, 0, yes_no(v.error)};
    if (what == "cached") return {true, 0, yes_no(v.slot.valid())};
    if (what == "queue") return {true, 0, name_of(v.queue)};
    if (what == "state") return {true, 0, name_of(v.state)};
    return {true, 0, name_of(v.owner)};
  }
  if (s.quantity == Quantity::slot) {
    const auto slot = slot_of(s, s.subject[0]);
    if (!slot) return {};
    const SlotView v = kernel_->slot(*slot);
    const std::string& what = s.subject[1].text;
    if (what == "count") return {true, v.count, ""};
    return {true, 0, yes_no(what == "used" ? v.used : v.cached.valid())};
  }
  const auto target = [&](u32 first) {
    Operand o = s.subject[first];
    o.kind = Operand::Kind::target;
    o.place = s.subject[first + 1].place;
    return o;
  };
  if (s.quantity == Quantity::pfn || s.quantity == Quantity::same_frame) {
    const auto one = frame_of(s, target(0));
    if (!one) return {};
    if (s.quantity == Quantity::pfn) return {true, one->v, ""};
    const auto other = frame_of(s, target(2));
    if (!other) return {};
    return {true, 0, yes_no(*one == *other)};
  }
  if (s.quantity == Quantity::slot_of) {
    const auto slot = slot_of(s, target(0));
    if (!slot) return {};
    return {true, slot->v, ""};
  }
  Process* p = process(s, s.subject[0]);
  if (p == nullptr) return {};
  const auto at = place(s, *p, s.subject[1].place);
  if (!at) return {};
  if (s.quantity == Quantity::address) return {true, signed_of(at->v), ""};
  const PteView v = kernel_->entry(p->pid, at->vpn());
  if (s.quantity == Quantity::entry) return {true, 0, name_of(v.kind)};
  const std::string& what = s.subject[2].text;
  const bool yes = what == "writable"   ? v.writable
                   : what == "accessed" ? v.accessed
                   : what == "dirty"    ? v.dirty
                                        : v.executable;
  return {true, 0, yes_no(yes)};
}

Runner::Answer Runner::ask_machine(const Statement& s) {
  const auto device_counts = [&] { return hardware_.counts(device(s.subject[0])); };
  const auto device_before = [&] { return before_.devices[device(s.subject[0])].second; };
  const auto since = [](u64 now, u64 before) { return Answer{true, signed_of(now - before), ""}; };
  switch (s.quantity) {
    case Quantity::queue:
      for (u32 i = 0; i < kPageQueueCount; ++i) {
        const auto queue = static_cast<PageQueue>(i);
        if (s.subject[0].text != name_of(queue)) continue;
        std::vector<Pfn> frames(stage_.frames.v);
        return {true, kernel_->queue(queue, frames.data(), static_cast<u32>(frames.size())), ""};
      }
      return {};
    case Quantity::free: return {true, signed_of(kernel_->meminfo().mem_free), ""};
    case Quantity::meminfo:
      for (const MemField& field : memory_fields()) {
        if (s.subject[0].text != field.name) continue;
        const MemInfo info = kernel_->meminfo();
        return {true, signed_of(info.*field.member), ""};
      }
      return {};
    case Quantity::counter: {
      kernel_->fold_counters();
      const Counter c = *counter_named(s.subject[0].text);
      return since(counters_[c], before_.counters[c]);
    }
    case Quantity::total:
      kernel_->fold_counters();
      return {true, signed_of(counters_[*counter_named(s.subject[0].text)]), ""};
    case Quantity::reads: return since(device_counts().reads, device_before().reads);
    case Quantity::writes: return since(device_counts().writes, device_before().writes);
    case Quantity::pages_read: return since(device_counts().pages_read, device_before().pages_read);
    case Quantity::pages_written:
      return since(device_counts().pages_written, device_before().pages_written);
    case Quantity::swap_used:
    case Quantity::swap_on: {
      SwapView views[16];
      const u32 count = std::min(kernel_->swaps(views, 16), 16U);
      for (u32 i = 0; i < count; ++i) {
        if (views[i].device != device(s.subject[0])) continue;
        if (s.quantity == Quantity::swap_on) return {true, 0, "yes"};
        return {true, signed_of(views[i].used), ""};
      }
      if (s.quantity == Quantity::swap_on) return {true, 0, "no"};
      return {true, 0, ""};
    }
    case Quantity::file_info: {
      const File* file = file_at(s.subject[0].text);
      std::vector<FileView> views(1024);
      const u32 count = std::min(kernel_->files(views.data(), 1024), 1024U);
      for (u32 i = 0; i < count; ++i) {
        const FileView& v = views[i];
        if (file == nullptr || file->number != v.number) continue;
        const std::string& what = s.subject[1].text;
        return {true,
                signed_of(what == "size"        ? v.size_bytes
                          : what == "cached"    ? v.cached
                          : what == "dirty"     ? v.dirty
                          : what == "writeback" ? v.writeback
                                                : v.opens),
                ""};
      }
      (void)unmet(s, "a file", "there is none of this name");
      return {};
    }
    case Quantity::segment: {
      const auto found = segments_.find(s.subject[0].text);
      const std::string& what = s.subject[1].text;
      std::vector<ShmView> views(256);
      const u32 count = std::min(kernel_->segments(views.data(), 256), 256U);
      for (u32 i = 0; i < count && found != segments_.end(); ++i) {
        const ShmView& v = views[i];
        if (v.id != found->second.id) continue;
        if (what == "exists") return {true, 0, "yes"};
        if (what == "removed") return {true, 0, yes_no(v.dest)};
        if (what == "locked") return {true, 0, yes_no(v.locked)};
        return {true,
                signed_of(what == "size"       ? v.size_bytes
                          : what == "attached" ? v.attached
                          : what == "resident" ? v.resident
                                               : v.swapped),
                ""};
      }
      if (what == "exists") return {true, 0, "no"};
      (void)unmet(s, "a segment", "it is gone");
      return {};
    }
    case Quantity::wanted: {
      const std::string& what = s.subject[0].text;
      const Daemon daemon = what == "kswapd"      ? Daemon::kswapd
                            : what == "kreclaimd" ? Daemon::kreclaimd
                            : what == "flush"     ? Daemon::flush
                                                  : Daemon::reaper;
      return {true, 0, yes_no(kernel_->wanted(daemon))};
    }
    case Quantity::called: return {true, signed_of(walk_.calls(s.subject[0].text)), ""};
    default: {
      i64 living = 0;
      for (const auto& [name, p] : processes_) living += kernel_->alive(p.pid) ? 1 : 0;
      return {true, living, ""};
    }
  }
}

}  // namespace spillway
