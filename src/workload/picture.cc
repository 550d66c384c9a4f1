#include "workload/picture.h"

#include <algorithm>
#include <cstdio>

namespace spillway {
namespace {

// Calls a view with a buffer that is large enough.
template <class T, class View>
std::vector<T> all_of(View&& view) {
  std::vector<T> out(64);
  u32 count = view(out.data(), static_cast<u32>(out.size()));
  if (count > out.size()) {
    out.resize(count);
    count = std::min(view(out.data(), count), count);
  }
  out.resize(count);
  return out;
}

void take_entries(const Kernel& kernel, PictureTask* task) {
  const Pid pid{task->view.pid};
  for (const AreaView& area : task->areas) {
    for (Vpn vpn = area.range.start; vpn < area.range.end;) {
      const PteView view = kernel.entry(pid, vpn);
      if (!view.has_table) {
        vpn = Vpn((vpn.v | (kTableEntries - 1)) + 1);
        continue;
      }
      if (view.kind != Pte::Kind::none) task->entries.push_back({vpn, view});
      vpn = vpn + 1;
    }
  }
}

void take_name(const Subject& subject, PictureTask* task) {
  task->name = "pid " + std::to_string(task->view.pid);
  for (const NamedProcess& process : subject.processes) {
    if (process.pid.v != task->view.pid) continue;
    task->name = process.name;
    task->names = process.places;
  }
}

}  // namespace

Picture take_picture(const Subject& subject) {
  const Kernel& kernel = subject.kernel;
  Picture p;
  p.time_ns = subject.hardware.now_ns();
  for (const TaskView& view :
       all_of<TaskView>([&](TaskView*out, u32 max) { return kernel.tasks(out, max); })) {
    PictureTask task{{}, view, {}, {}, {}};
    take_name(subject, &task);
    // Threads live in their leader's space, and the dead in none.
    if (view.state == TaskState::running && view.leader == view.pid) {
      task.areas = all_of<AreaView>(
          [&](AreaView* out, u32 max) { return kernel.areas(Pid{view.pid}, out, max); });
      take_entries(kernel, &task);
    }
    p.tasks.push_back(std::move(task));
  }
  for (u32 i = 0; i < subject.frames; ++i) p.frames.push_back(kernel.frame(Pfn(i)));
  for (u32 i = 0; i < kPageQueueCount; ++i) {
    const auto queue = static_cast<PageQueue>(i);
    p.queues.emplace_back();
    if (queue == PageQueue::none) continue;
    p.queues.back() = all_of<Pfn>([&](Pfn* out, u32 max) { return kernel.queue(queue, out, max); });
  }
  for (const SwapView& view :
       all_of<SwapView>([&](SwapView*out, u32 max) { return kernel.swaps(out, max); })) {
    PictureSwap swap{"swap" + std::to_string(view.device), view, {}};
    for (u64 i = 1; i <= view.size; ++i) swap.slots.push_back(kernel.slot(slot_at(view, i)));
    p.swaps.push_back(std::move(swap));
  }
  p.files = all_of<FileView>([&](FileView* out, u32 max) { return kernel.files(out, max); });
  p.segments = all_of<ShmView>([&](ShmView* out, u32 max) { return kernel.segments(out, max); });
  for (const DiskView& view :
       all_of<DiskView>([&](DiskView*out, u32 max) { return kernel.disks(out, max); })) {
    p.disks.emplace_back(subject.devices[view.device], view);
  }
  for (const SlabView& view :
       all_of<SlabView>([&](SlabView*out, u32 max) { return kernel.slabs(out, max); })) {
    const std::vector<std::string>& told = subject.caches;
    const std::string_view name = view.name;
    const bool heads = !p.disks.empty() && name == "buffer_head";
    const bool names = subject.names && (name == "dentry_cache" || name == "inode_cache");
    if (heads || names || std::find(told.begin(), told.end(), view.name) != told.end()) {
      p.slabs.push_back(view);
    }
  }
  if (subject.names) p.names = kernel.vfs_stats();
  p.memory = kernel.meminfo();
  kernel.fold_counters();
  p.counters = subject.counters;
  for (u32 i = 0; i < subject.devices.size(); ++i) {
    p.devices.emplace_back(subject.devices[i], subject.hardware.counts(i));
  }
  return p;
}

std::vector<MemField> memory_fields() {
  return {{"mem_total", &MemInfo::mem_total},
          {"mem_free", &MemInfo::mem_free},
          {"buffers", &MemInfo::buffers},
          {"cached", &MemInfo::cached},
          {"swap_cached", &MemInfo::swap_cached},
          {"active", &MemInfo::active},
          {"inactive", &MemInfo::inactive},
          {"inactive_dirty", &MemInfo::inactive_dirty},
          {"inactive_clean", &MemInfo::inactive_clean},
          {"unevictable", &MemInfo::unevictable},
          {"dirty", &MemInfo::dirty},
          {"writeback", &MemInfo::writeback},
          {"anon_pages", &MemInfo::anon_pages},
          {"mapped", &MemInfo::mapped},
          {"shmem", &MemInfo::shmem},
          {"slab", &MemInfo::slab},
          {"page_tables", &MemInfo::page_tables},
          {"kernel_stack", &MemInfo::kernel_stack},
          {"vmalloc_used", &MemInfo::vmalloc_used},
          {"swap_total", &MemInfo::swap_total},
          {"swap_free", &MemInfo::swap_free},
          {"commit_limit", &MemInfo::commit_limit},
          {"committed_as", &MemInfo::committed_as},
          {"reserved", &MemInfo::reserved},
          {"swap_meta", &MemInfo::swap_meta},
          {"pool", &MemInfo::pool},
          {"inactive_target", &MemInfo::inactive_target},
          {"watermark_min", &MemInfo::watermark_min},
          {"watermark_low", &MemInfo::watermark_low},
          {"watermark_high", &MemInfo::watermark_high}};
}

std::string hex_text(u64 value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string prot_text(Prot prot) {
  if (prot == Prot::none) return "none";
  std::string out;
  if (allows(prot, Prot::read)) out += 'r';
  if (allows(prot, Prot::write)) out += 'w';
  if (allows(prot, Prot::exec)) out += 'x';
  return out;
}

const char* name_of(Pte::Kind kind) {
  switch (kind) {
    case Pte::Kind::none: return "none";
    case Pte::Kind::table: return "table";
    case Pte::Kind::present: return "present";
    case Pte::Kind::unmapped: return "unmapped";
    case Pte::Kind::swapped: return "swapped";
    case Pte::Kind::zero: return "zero";
  }
  return "?";
}

std::string area_name(const PictureTask& task, const AreaView& area) {
  for (const auto& [address, name] : task.names) {
    if (area.range.contains(address.vpn())) return name;
  }
  return area.name[0] != '\0' ? area.name : hex_text(addr_of(area.range.start).v);
}

std::string place_name(const PictureTask& task, Vpn vpn) {
  for (const AreaView& area : task.areas) {
    if (!area.range.contains(vpn)) continue;
    // A stack is counted from its top, as everybody thinks of it.
    if (area.growsdown) {
      return "stack-" + std::to_string(area.range.end.v - vpn.v) + "p";
    }
    const std::string name = area_name(task, area);
    const u64 offset = vpn.v - area.range.start.v;
    return offset == 0 ? name : name + "+" + std::to_string(offset) + "p";
  }
  return hex_text(addr_of(vpn).v);
}

std::string slot_text(SlotId slot) {
  if (slot.area() == 0) return "slot " + std::to_string(slot.v);
  return "swap" + std::to_string(slot.area() - 1) + ":" + std::to_string(slot.offset());
}

SlotId slot_at(const SwapView& swap, u64 offset) {
  return SlotId(swap.device + 1, static_cast<u32>(offset));
}

}  // namespace spillway
