// What changed between two pictures: both become facts, and facts are compared.
#include <map>

#include "workload/picture.h"

namespace spillway {
namespace {

// Key: sorts subjects as they are to be told. Value: the subject and its fields.
struct Fact {
  std::string subject;
  std::vector<std::pair<std::string, std::string>> fields;

  void add(const char* name, const std::string& value) { fields.emplace_back(name, value); }
  void add(const char* name, u64 value) { fields.emplace_back(name, std::to_string(value)); }
  void add(const char* name, const char* value) { fields.emplace_back(name, value); }
};
using Key = std::pair<u64, u64>;
using Facts = std::map<Key, Fact>;

std::string yes_words(std::initializer_list<std::pair<bool, const char*>> words) {
  std::string out;
  for (const auto& [on, word] : words) {
    if (on) out += (out.empty() ? "" : " ") + std::string(word);
  }
  return out.empty() ? "none" : out;
}

void process_facts(const Picture& p, Facts* facts) {
  for (const PictureTask& task : p.tasks) {
    const TaskView& v = task.view;
    Fact& fact = (*facts)[{v.pid, 0}];
    fact.subject = task.name;
    if (v.state == TaskState::dead) {
      fact.add("state", "dead");
      fact.add("exit_code", static_cast<u64>(v.exit_code));
      continue;
    }
    fact.add("state", "running");
    fact.add("total_vm", v.total_vm);
    fact.add("rss", v.rss);
    fact.add("swap_entries", v.swap_entries);
    fact.add("locked_vm", v.locked_vm);
    fact.add("page_tables", v.page_tables);
    fact.add("min_flt", v.min_flt);
    fact.add("maj_flt", v.maj_flt);
    fact.add("sp", hex_text(v.sp.v));
    fact.add("brk", hex_text(v.brk.v));
  }
}

void area_facts(const Picture& p, Facts* facts) {
  for (const PictureTask& task : p.tasks) {
    for (const AreaView& area : task.areas) {
      // An area that grows down is the same one as long as its end stays.
      const u64 anchor = area.growsdown ? area.range.end.v : area.range.start.v;
      Fact& fact = (*facts)[{task.view.pid, anchor}];
      fact.subject = task.name + " " + area_name(task, area);
      fact.add("range",
               hex_text(addr_of(area.range.start).v) + ".." + hex_text(addr_of(area.range.end).v));
      fact.add("pages", area.range.pages().v);
      fact.add("prot", prot_text(area.prot));
      fact.add("flags", yes_words({{area.shared, "shared"},
                                   {area.growsdown, "growsdown"},
                                   {area.locked, "locked"},
                                   {area.noreserve, "noreserve"}}));
      if (area.mapping != 0) fact.add("pgoff", area.pgoff);
      fact.add("rss", area.rss);
      fact.add("swap", area.swap);
    }
  }
}

void entry_facts(const Picture& p, Facts* facts) {
  for (const PictureTask& task : p.tasks) {
    for (const PictureEntry& entry : task.entries) {
      const PteView& v = entry.view;
      Fact& fact = (*facts)[{task.view.pid, entry.vpn.v}];
      fact.subject = task.name + " " + place_name(task, entry.vpn);
      fact.add("entry", name_of(v.kind));
      if (v.kind == Pte::Kind::swapped) {
        fact.add("slot", slot_text(v.slot));
        continue;
      }
      if (v.kind != Pte::Kind::zero) fact.add("frame", v.pfn.v);
      if (v.kind != Pte::Kind::present) continue;
      fact.add("bits", yes_words({{v.writable, "writable"},
                                  {v.executable, "executable"},
                                  {v.accessed, "accessed"},
                                  {v.dirty, "dirty"}}));
    }
  }
}

void frame_facts(const Picture& p, Facts* facts) {
  for (u32 i = 0; i < p.frames.size(); ++i) {
    const FrameView& v = p.frames[i];
    Fact& fact = (*facts)[{i, 0}];
    fact.subject = "frame " + std::to_string(i);
    // A CPU's list of free frames is free for the reader.
    const bool free = v.state == PageState::free || v.state == PageState::pcp;
    fact.add("state", free ? "free" : name_of(v.state));
    if (free || v.state == PageState::reserved || v.state == PageState::offline) continue;
    fact.add("owner", name_of(v.owner));
    if (v.owner != PageOwner::user && v.owner != PageOwner::file && v.owner != PageOwner::shmem) {
      continue;
    }
    fact.add("count", v.count);
    fact.add("mapcount", v.mapcount);
    fact.add("age", v.age);
    fact.add("list", name_of(v.queue));
    fact.add("flags", yes_words({{v.dirty, "dirty"},
                                 {v.referenced, "referenced"},
                                 {v.writeback, "writeback"},
                                 {v.error, "error"}}));
    if (v.slot.valid()) fact.add("swap_cache", slot_text(v.slot));
    if (v.mapping != 0) {
      fact.add("page", "mapping " + std::to_string(v.mapping) + " page " + std::to_string(v.index));
    }
  }
}

void queue_facts(const Picture& p, Facts* facts) {
  for (u32 i = 0; i < p.queues.size(); ++i) {
    Fact& fact = (*facts)[{i, 0}];
    fact.subject = name_of(static_cast<PageQueue>(i));
    fact.add("length", p.queues[i].size());
  }
}

void slot_facts(const Picture& p, Facts* facts) {
  for (u64 s = 0; s < p.swaps.size(); ++s) {
    const PictureSwap& swap = p.swaps[s];
    for (u64 i = 0; i < swap.slots.size(); ++i) {
      const SlotView& v = swap.slots[i];
      if (!v.used) continue;
      Fact& fact = (*facts)[{swap.view.device, i}];
      fact.subject = swap.name + ":" + std::to_string(i + 1);
      fact.add("count", v.count);
      fact.add("swap_cache", v.cached.valid() ? "frame " + std::to_string(v.cached.v) : "no");
    }
  }
}

void swap_facts(const Picture& p, Facts* facts) {
  for (const PictureSwap& swap : p.swaps) {
    Fact& fact = (*facts)[{swap.view.device, 0}];
    fact.subject = swap.name;
    fact.fields.emplace_back("priority", std::to_string(swap.view.priority));
    fact.add("size", swap.view.size);
    fact.add("used", swap.view.used);
  }
}

void file_facts(const Picture& p, Facts* facts) {
  for (const FileView& v : p.files) {
    if (!is_shown(v)) continue;
    Fact& fact = (*facts)[{v.number, 0}];
    fact.subject = v.name;
    fact.add("size_bytes", v.size_bytes);
    fact.add("cached", v.cached);
    fact.add("dirty", v.dirty);
    fact.add("writeback", v.writeback);
    fact.add("opens", v.opens);
  }
}

void segment_facts(const Picture& p, Facts* facts) {
  for (const ShmView& v : p.segments) {
    Fact& fact = (*facts)[{v.id, 0}];
    fact.subject = "segment " + std::to_string(v.id);
    fact.add("size_bytes", v.size_bytes);
    fact.add("attached", v.attached);
    fact.add("resident", v.resident);
    fact.add("swapped", v.swapped);
    fact.add("flags", yes_words({{v.dest, "removed"}, {v.locked, "locked"}}));
  }
}

void disk_facts(const Picture& p, Facts* facts) {
  for (const auto& [name, v] : p.disks) {
    Fact& fact = (*facts)[{v.device, 0}];
    fact.subject = name;
    fact.add("buffers", v.buffers);
    fact.add("dirty", v.dirty);
    fact.add("pages", v.pages);
    fact.add("writeback", v.writeback);
    fact.add("hits", v.hits);
    fact.add("misses", v.misses);
    fact.add("released", v.released);
  }
}

void slab_facts(const Picture& p, Facts* facts) {
  for (u64 i = 0; i < p.slabs.size(); ++i) {
    const SlabView& v = p.slabs[i];
    Fact& fact = (*facts)[{i, 0}];
    fact.subject = v.name;
    fact.add("active", v.objects_active);
    fact.add("total", v.objects_total);
    fact.add("slabs", v.slabs_total);
    fact.add("empty", v.slabs_total - v.slabs_active);
    fact.add("frames", v.frames);
  }
}

void name_facts(const Picture& p, Facts* facts) {
  if (p.names.dentries == 0) return;
  Fact& dentries = (*facts)[{0, 0}];
  dentries.subject = "dentries";
  dentries.add("total", p.names.dentries);
  dentries.add("unused", p.names.dentries_unused);
  dentries.add("negative", p.names.dentries_negative);
  dentries.add("hits", p.names.dentry_hits);
  dentries.add("misses", p.names.dentry_misses);
  dentries.add("pruned", p.names.dentries_pruned);
  Fact& inodes = (*facts)[{1, 0}];
  inodes.subject = "inodes";
  inodes.add("total", p.names.inodes);
  inodes.add("unused", p.names.inodes_unused);
  inodes.add("dirty", p.names.inodes_dirty);
  inodes.add("misses", p.names.inode_misses);
  inodes.add("pruned", p.names.inodes_pruned);
  inodes.add("written", p.names.inodes_written);
}

void memory_facts(const Picture& p, Facts* facts) {
  Fact& fact = (*facts)[{0, 0}];
  fact.subject = "meminfo";
  for (const MemField& field : memory_fields()) fact.add(field.name, p.memory.*field.member);
}

void device_facts(const Picture& p, Facts* facts) {
  for (u64 i = 0; i < p.devices.size(); ++i) {
    const auto& [name, counts] = p.devices[i];
    Fact& fact = (*facts)[{i, 0}];
    fact.subject = name;
    fact.add("reads", counts.reads);
    fact.add("pages_read", counts.pages_read);
    fact.add("writes", counts.writes);
    fact.add("pages_written", counts.pages_written);
  }
}

void counter_facts(const Picture& p, Facts* facts) {
  for (u32 i = 0; i < kCounterCount; ++i) {
    Fact& fact = (*facts)[{i, 0}];
    fact.subject = name_of(static_cast<Counter>(i));
    fact.add("value", p.counters.value[i]);
  }
}

Facts facts_of(FactGroup group, const Picture& p) {
  Facts facts;
  switch (group) {
    case FactGroup::processes: process_facts(p, &facts); break;
    case FactGroup::areas: area_facts(p, &facts); break;
    case FactGroup::entries: entry_facts(p, &facts); break;
    case FactGroup::frames: frame_facts(p, &facts); break;
    case FactGroup::queues: queue_facts(p, &facts); break;
    case FactGroup::slots: slot_facts(p, &facts); break;
    case FactGroup::swaps: swap_facts(p, &facts); break;
    case FactGroup::files: file_facts(p, &facts); break;
    case FactGroup::segments: segment_facts(p, &facts); break;
    case FactGroup::disks: disk_facts(p, &facts); break;
    case FactGroup::slabs: slab_facts(p, &facts); break;
    case FactGroup::names: name_facts(p, &facts); break;
    case FactGroup::memory: memory_facts(p, &facts); break;
    case FactGroup::devices: device_facts(p, &facts); break;
    case FactGroup::counters: counter_facts(p, &facts); break;
  }
  return facts;
}

std::string value_in(const Fact& fact, const std::string& name) {
  for (const auto& [field, value] : fact.fields) {
    if (field == name) return value;
  }
  return "";
}

std::vector<Field> fields_between(const Fact& before, const Fact& after) {
  std::vector<Field> out;
  for (const auto& [name, value] : after.fields) {
    const std::string old = value_in(before, name);
    if (old != value) out.push_back({name, old, value});
  }
  for (const auto& [name, value] : before.fields) {
    if (value_in(after, name).empty()) out.push_back({name, value, ""});
  }
  return out;
}

Change one_sided(FactGroup group, Change::Kind kind, const Fact& fact) {
  Change change{group, kind, fact.subject, {}};
  for (const auto& [name, value] : fact.fields) {
    if (kind == Change::Kind::fresh) {
      change.fields.push_back({name, "", value});
    } else {
      change.fields.push_back({name, value, ""});
    }
  }
  return change;
}

void compare(FactGroup group, const Facts& before, const Facts& after, std::vector<Change>* out) {
  auto b = before.begin();
  auto a = after.begin();
  while (b != before.end() || a != after.end()) {
    if (a == after.end() || (b != before.end() && b->first < a->first)) {
      out->push_back(one_sided(group, Change::Kind::gone, b++->second));
    } else if (b == before.end() || a->first < b->first) {
      out->push_back(one_sided(group, Change::Kind::fresh, a++->second));
    } else {
      std::vector<Field> fields = fields_between(b->second, a->second);
      if (!fields.empty()) {
        out->push_back({group, Change::Kind::changed, a->second.subject, std::move(fields)});
      }
      ++a;
      ++b;
    }
  }
}

}  // namespace

const char* name_of(FactGroup group) {
  switch (group) {
    case FactGroup::processes: return "processes";
    case FactGroup::areas: return "areas";
    case FactGroup::entries: return "page table";
    case FactGroup::frames: return "frames";
    case FactGroup::queues: return "lists";
    case FactGroup::slots: return "swap slots";
    case FactGroup::swaps: return "swap areas";
    case FactGroup::files: return "files";
    case FactGroup::segments: return "shared memory";
    case FactGroup::disks: return "buffers";
    case FactGroup::slabs: return "slabs";
    case FactGroup::names: return "names";
    case FactGroup::memory: return "memory";
    case FactGroup::devices: return "I/O";
    case FactGroup::counters: return "counters";
  }
  return "?";
}

std::vector<Change> changes_between(const Picture& before, const Picture& after) {
  std::vector<Change> out;
  for (u32 i = 0; i < kFactGroupCount; ++i) {
    const auto group = static_cast<FactGroup>(i);
    compare(group, facts_of(group, before), facts_of(group, after), &out);
  }
  return out;
}

}  // namespace spillway
