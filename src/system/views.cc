// Views: everything is counted from the structures at the moment of asking.
#include "system/kernel_impl.h"

namespace spillway {
namespace {

template <u64 N>
void copy_text(char (&to)[N], const char* from) {
  u64 i = 0;
  for (; i + 1 < N && from[i] != 0; ++i) to[i] = from[i];
  to[i] = 0;
}

}  // namespace

u32 Kernel::tasks(TaskView* out, u32 max) const {
  u32 count = 0;
  for (u32 i = 0; i < kTasksMax; ++i) {
    const Task& task = impl_.tasks[i];
    if (!task.used) continue;
    if (count < max) {
      TaskView v{};
      v.pid = task.pid;
      v.parent = task.parent;
      v.leader = task.leader;
      copy_text(v.name, task.name);
      v.state = task.state;
      v.space = task.space;
      v.exit_code = task.exit_code;
      v.sp = task.sp;
      v.kernel_stack = task.stack;
      v.min_flt = task.min_flt;
      v.maj_flt = task.maj_flt;
      if (task.state == TaskState::running) {
        AddressSpace& space = impl_.space(task);
        v.total_vm = space.total_vm().v;
        v.locked_vm = space.locked_vm().v;
        v.page_tables = space.table().tables();
        const SpaceUsage used = impl_.usage(space);
        v.badness = impl_.badness(task, used);
        v.start_brk = addr_of(space.brk_start());
        v.brk = space.brk_now();
        v.start_stack = impl_.mm_info(task.space).start_stack;
        v.rss = used.resident;
        v.swap_entries = used.swapped;
        for (const Area* a = space.areas().first(); a != nullptr; a = AreaTree::next(a)) {
          if (a->stack) v.stack_vm += a->pages().v;
        }
      }
      out[count] = v;
    }
    ++count;
  }
  return count;
}

namespace {

// One present page in the sums of smaps.
void add_page(AreaView& v, const Page& page, Pte entry) {
  ++v.rss;
  v.pss_x256 += 256 / (page.mapcount > 0 ? page.mapcount : 1);
  const bool dirty = entry.dirty() || page.has(PageFlag::dirty);
  if (page.mapcount > 1) {
    ++(dirty ? v.shared_dirty : v.shared_clean);
  } else {
    ++(dirty ? v.private_dirty : v.private_clean);
  }
  if (entry.accessed() || page.has(PageFlag::referenced)) ++v.referenced;
  if (page.owner == PageOwner::user) ++v.anonymous;
}

}  // namespace

u32 Kernel::areas(Pid pid, AreaView* out, u32 max) const {
  const Task* task = impl_.find(pid);
  if (task == nullptr || task->state == TaskState::dead) return 0;
  AddressSpace& space = impl_.space(*task);
  u32 count = 0;
  for (const Area* a = space.areas().first(); a != nullptr; a = AreaTree::next(a)) {
    if (count < max) {
      AreaView v{};
      v.range = a->range();
      v.prot = a->prot;
      v.shared = a->may_share;
      v.growsdown = a->growsdown;
      v.locked = a->locked;
      v.noreserve = a->noreserve;
      if (a->mapping != nullptr) {
        v.pgoff = a->pgoff;
        v.mapping = a->mapping->id;
        copy_text(v.name, a->ops->area_name(*a));
      } else if (a->stack) {
        copy_text(v.name, "[stack]");
      } else if (addr_of(a->start) < space.brk_now() &&
                 addr_of(a->end).v > addr_of(space.brk_start()).v) {
        copy_text(v.name, "[heap]");
      }
      PageTable::Span span;
      for (Vpn at = a->start; space.table().next_span(at, a->end, &span);
           at = span.start + span.count) {
        for (u32 k = 0; k < span.count; ++k) {
          const Pte entry = span.ptes[k];
          if (entry.is(Pte::Kind::swapped)) ++v.swap;
          if (entry.resident()) add_page(v, impl_.sys.frames[entry.pfn()], entry);
        }
      }
      out[count] = v;
    }
    ++count;
  }
  return count;
}

u32 Kernel::swaps(SwapView* out, u32 max) const {
  u32 count = 0;
  impl_.sys.swap.areas().for_each([&](const SwapAreaInfo& info) {
    if (count < max) out[count] = {info.device, info.priority, info.size.v, info.used.v};
    ++count;
  });
  return count;
}

u32 Kernel::files(FileView* out, u32 max) const {
  u32 count = 0;
  if (!impl_.sys.vfs.mounted()) return 0;
  for (u32 i = 0; i < FileStore::kFilesMax; ++i) {
    const FileStore::Extent& extent = impl_.sys.files.extent(i);
    if (!extent.used || !extent.regular) continue;
    if (count < max) {
      FileView v{};
      copy_text(v.name, extent.name);
      v.number = u64{i} + 1;
      v.linked = true;
      v.first_block = extent.first_block;
      v.size_bytes = extent.size_bytes;
      // A file that is not in memory has nothing cached.
      if (const Inode* inode = impl_.sys.vfs.inodes().find(impl_.sys.files, u64{i} + 1);
          inode != nullptr) {
        v.linked = inode->attr.nlink != 0;
        v.mapping = inode->mapping.id;
        v.size_bytes = inode->mapping.size_bytes;
        v.cached = inode->mapping.nr_pages;
        v.dirty = inode->mapping.nr_dirty;
        v.writeback = inode->mapping.nr_writeback;
        for (const Dentry* d = inode->aliases; d != nullptr; d = d->alias_next) v.opens += d->count;
      }
      out[count] = v;
    }
    ++count;
  }
  return count;
}

u32 Kernel::segments(ShmView* out, u32 max) const {
  u32 count = 0;
  impl_.sys.shmem.for_each([&](ShmObject& object) {
    if (!object.segment) return;
    if (count < max) {
      ShmView v{};
      v.id = object.id;
      v.key = object.key;
      v.mapping = object.mapping.id;
      v.size_bytes = object.mapping.size_bytes;
      v.attached = object.areas;
      v.dest = object.dest;
      v.locked = object.mapping.no_writeback;
      v.resident = object.mapping.nr_pages;
      v.swapped = object.mapping.nr_swapped;
      out[count] = v;
    }
    ++count;
  });
  return count;
}

PteView Kernel::entry(Pid pid, Vpn vpn) const {
  PteView v{};
  v.kind = Pte::Kind::none;
  const Task* task = impl_.find(pid);
  if (task == nullptr || task->state == TaskState::dead || vpn >= kVpnEnd) return v;
  const Pte* pte = impl_.space(*task).table().find(vpn);
  if (pte == nullptr) return v;
  v.has_table = true;
  v.kind = pte->kind();
  if (pte->resident()) v.pfn = pte->pfn();
  if (pte->is(Pte::Kind::swapped)) v.slot = pte->slot();
  if (pte->is(Pte::Kind::present)) {
    v.writable = pte->writable();
    v.accessed = pte->accessed();
    v.dirty = pte->dirty();
    v.executable = pte->executable();
  }
  return v;
}

FrameView Kernel::frame(Pfn pfn) const {
  const SystemImpl& sys = impl_.sys;
  FrameView v{};
  if (pfn.v >= sys.frames.count().v) return v;
  const Page& page = sys.frames[pfn];
  v.state = page.state;
  v.owner = page.owner;
  v.queue = page.queue;
  const bool aged = page.state == PageState::mapped || page.state == PageState::unmapped ||
                    page.state == PageState::reading;
  if (!aged) return v;
  v.count = page.count();
  v.mapcount = page.mapcount;
  v.age = page.age;
  v.dirty = page.has(PageFlag::dirty);
  v.referenced = page.has(PageFlag::referenced);
  v.writeback = page.has(PageFlag::writeback);
  v.uptodate = page.has(PageFlag::uptodate);
  v.error = page.has(PageFlag::error);
  v.slot = page.slot;
  if (const Mapping* mapping = mapping_of(page)) {
    v.mapping = mapping->id;
    v.index = page.index;
  }
  if (page.mapcount > 0) {
    const RmapPlace place = sys.rmap.first(pfn);
    v.space = place.space;
    v.vpn = place.vpn;
  }
  return v;
}

u32 Kernel::queue(PageQueue queue, Pfn* out, u32 max) const {
  u32 count = 0;
  for (Pfn at = impl_.sys.reclaim.queue_head(queue); at.valid();
       at = Pfn(impl_.sys.frames[at].next)) {
    if (count < max) out[count] = at;
    ++count;
  }
  return count;
}

SlotView Kernel::slot(SlotId id) const {
  SlotView v{};
  const Slot* slot = impl_.sys.swap.find_slot(id);
  if (slot == nullptr) return v;
  v.used = true;
  v.count = slot->word.refs();
  v.cached = Pfn(slot->cache_pfn);
  return v;
}

u64 Kernel::free_blocks(u32 order) const {
  return order > kOrderMax ? 0 : impl_.sys.allocator.blocks(order);
}

u32 Kernel::slabs(SlabView* out, u32 max) const {
  const SystemImpl& sys = impl_.sys;
  u32 count = 0;
  for (const KmemCache* c = sys.slabs.first(); c != nullptr; c = SlabChain::next(*c)) {
    if (count < max) out[count] = c->info();
    ++count;
  }
  return count;
}

u32 Kernel::vmalloc_areas(VmallocView* out, u32 max) const {
  return impl_.sys.vmalloc.areas(out, max);
}

void Kernel::fold_counters() const { impl_.sys.allocator.fold_counts(); }

MemInfo Kernel::meminfo() const {
  const SystemImpl& sys = impl_.sys;
  const auto queue = [&](PageQueue q) { return sys.reclaim.queue_size(q); };
  MemInfo m{};
  m.mem_total = sys.allocator.managed().v;
  m.mem_free = sys.allocator.free_pages().v;
  m.reserved = sys.allocator.reserved().v;
  m.reserved_code = sys.reserved_now(ReservedKind::code);
  m.reserved_data = sys.reserved_now(ReservedKind::data);
  m.reserved_init = sys.reserved_now(ReservedKind::init);
  m.reserved_bootmem = sys.reserved_now(ReservedKind::bootmem);
  m.vmalloc_used = sys.vmalloc.usage().pages + sys.vmalloc.usage().lazy_pages;
  m.kernel_stack = sys.stack_frames;
  for (const BufferCache* disk : impl_.disks) {
    if (disk != nullptr) m.buffers += disk->mapping().nr_pages;
  }
  // What the file system keeps of its device by block.
  if (BufferCache* own = impl_.sys.files.buffers()) m.buffers += own->mapping().nr_pages;
  m.cached = sys.cache.pages() - m.buffers;
  m.swap_cached = sys.swap.cached_pages().v;
  m.active = queue(PageQueue::active) + queue(PageQueue::active_anon) +
             queue(PageQueue::active_file) + queue(PageQueue::main);
  m.inactive_dirty = queue(PageQueue::inactive_dirty);
  m.inactive_clean = queue(PageQueue::inactive_clean);
  m.inactive = m.inactive_dirty + m.inactive_clean + queue(PageQueue::inactive_anon) +
               queue(PageQueue::inactive_file) + queue(PageQueue::probation) +
               queue(PageQueue::unmapped);
  m.unevictable = queue(PageQueue::locked);
  m.inactive_target = sys.reclaim.inactive_target();
  m.dirty = sys.cache.dirty();
  m.writeback = sys.cache.writeback();
  m.shmem = sys.cache.shmem_pages();
  m.slab = sys.slabs.frames();
  m.swap_meta = sys.swap.meta_frames();
  m.pool = sys.swap.pool().frames_used().v;
  m.swap_total = sys.swap.areas().total_pages().v;
  m.swap_free = sys.swap.areas().free_pages().v;
  m.committed_as = sys.commit.committed().v;
  m.commit_limit = sys.commit.most().v;
  m.watermark_min = sys.allocator.marks().min.v;
  m.watermark_low = sys.allocator.marks().low.v;
  m.watermark_high = sys.allocator.marks().high.v;
  for (u32 i = 0; i < sys.frames.count().v; ++i) {
    const Page& page = sys.frames[Pfn(i)];
    if (page.owner == PageOwner::table) ++m.page_tables;
    if (page.mapcount == 0) continue;
    if (page.owner == PageOwner::user) ++m.anon_pages;
    if (page.in_page_cache()) ++m.mapped;
  }
  return m;
}

}  // namespace spillway
