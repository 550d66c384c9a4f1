#include "vmalloc/vmalloc.h"

#include <new>

namespace spillway {
namespace {

// Pages whose mappings are taken away by one call of the MMU.
constexpr u32 kDropBatch = 32;

}  // namespace

Status VmallocSpace::init(Machine& machine, PageAllocator& allocator, FrameTable& frames,
                          SlabChain& slabs, const Observer& observer, SpaceId space,
                          VpnRange range) {
  SPW_ASSERT(space.valid());
  SPW_TRY(records_.init(slabs, KmemCacheConfig::core("vmap_area", sizeof(VmallocArea))));
  machine_ = &machine;
  allocator_ = &allocator;
  frames_ = &frames;
  observer_ = &observer;
  space_ = space;
  range_ = range;
  return kOk;
}

// First fit: the lowest place where `pages` and two guards lie free.
bool VmallocSpace::find_room(u64 pages, Vpn* start) const {
  Vpn at = range_.start;
  for (const VmallocArea* a = tree_.first(); a != nullptr; a = VmallocTree::next(a)) {
    const VpnRange taken = a->span();
    if (taken.start.v - at.v >= pages + 2) break;
    at = taken.end;
  }
  if (range_.end.v - at.v < pages + 2) return false;
  *start = at + 1;
  return true;
}

Result<VpnRange> VmallocSpace::room_for(u64 pages) {
  Vpn start{0};
  if (!find_room(pages, &start)) {
    // Addresses of freed areas are in use until a purge.
    if (purge() == 0 || !find_room(pages, &start)) return Error::no_memory;
  }
  return VpnRange{start, start + pages};
}

// A frame behind every page of the range, unmapped as yet, or behind none.
Status VmallocSpace::fill(VpnRange range, AllocFlags flags) {
  filling_ = true;
  const Status filled = fill_pages(range, flags);
  filling_ = false;
  if (!filled.ok()) take_back(range);
  return filled;
}

Status VmallocSpace::fill_pages(VpnRange range, AllocFlags flags) {
  if (!has_table_) {
    SPW_TRY(table_.init(*allocator_, *frames_, machine_->frames, flags));
    has_table_ = true;
    machine_->mmu.set_root(space_, table_.root());
  }
  for (Vpn vpn = range.start; vpn < range.end; vpn = vpn + 1) {
    SPW_TRY_ASSIGN(leaf, table_.ensure(vpn, flags));
    SPW_TRY_ASSIGN(pfn, allocator_->alloc_kernel(PageOwner::vmalloc, flags));
    table_.store(leaf, Pte::unmapped(pfn));
  }
  return kOk;
}

// Cannot fail. Frames that happen to be neighbours are mapped by one call.
void VmallocSpace::map_all(VpnRange range) {
  for (Vpn vpn = range.start; vpn < range.end;) {
    const Pfn first = entry(vpn).pfn();
    u32 run = 1;
    while (vpn + run < range.end && entry(vpn + run).pfn() == first + run) ++run;
    machine_->mmu.map(space_, addr_of(vpn), first, run, Prot::read_write);
    for (u32 i = 0; i < run; ++i) {
      table_.store(table_.find(vpn + i), Pte::present(first + i, Prot::read_write));
    }
    vpn = vpn + run;
  }
}

// Unmaps what is mapped of the range and gives its frames back, in this order.
void VmallocSpace::take_back(VpnRange range) {
  Pfn batch[kDropBatch];
  for (Vpn vpn = range.start; vpn < range.end;) {
    const u64 left = range.end.v - vpn.v;
    const u32 most = left < kDropBatch ? static_cast<u32>(left) : kDropBatch;
    const bool mapped = entry(vpn).is(Pte::Kind::present);
    u32 count = 0;
    while (count < most) {
      const Pte pte = entry(vpn + count);
      if (!pte.resident() || pte.is(Pte::Kind::present) != mapped) break;
      batch[count++] = pte.pfn();
    }
    if (count == 0) {
      vpn = vpn + 1;  // fill() did not come so far
      continue;
    }
    if (mapped) {
      machine_->mmu.drop(space_, addr_of(vpn), batch, count, Prot::read_write);
    }
    for (u32 i = 0; i < count; ++i) {
      table_.store(table_.find(vpn + i), Pte{});
      allocator_->free_kernel(batch[i], PageOwner::vmalloc);
    }
    vpn = vpn + count;
  }
  if (!has_table_) return;
  table_.free_empty({range.start, range.end});
  drop_table();
}

// The table's root goes with the last page.
void VmallocSpace::drop_table() {
  usage_.tables = table_.tables();
  if (table_.tables() != 1 || table_.resident() != 0) return;
  machine_->mmu.set_root(space_, kNoPfn);
  table_.destroy();
  has_table_ = false;
  usage_.tables = 0;
}

Result<VirtAddr> VmallocSpace::alloc(u64 bytes, AllocFlags flags) {
  if (!ready() || bytes == 0) return Error::invalid;
  if (bytes > allocator_->managed().bytes()) return Error::no_memory;
  const u64 pages = pages_for(bytes).v;
  const WalkScope walk(observer_->walk, "__vmalloc", "{a} bytes: {b} single frames", bytes, pages);
  SPW_TRY_ASSIGN(range, room_for(pages));
  SPW_TRY_ASSIGN(memory, records_.alloc(flags));
  Status filled = fill(range, flags);
  if (!filled.ok() && filled.error() == Error::no_memory && purge() > 0) {
    // Frames of freed areas were all that was missing, perhaps.
    filled = fill(range, flags);
  }
  if (!filled.ok()) {
    records_.free(memory);
    return filled.error();
  }
  map_all(range);
  VmallocArea* area = ::new (memory) VmallocArea;
  area->start = range.start;
  area->pages = pages;
  tree_.insert(*area);
  ++usage_.areas;
  usage_.pages += pages;
  usage_.tables = table_.tables();
  return addr_of(range.start);
}

Status VmallocSpace::free(VirtAddr addr) {
  const WalkScope walk(ready() ? observer_->walk : nullptr, "vfree", "{a:x}", addr.v);
  VmallocArea* area =
      addr.page_aligned() && addr.vpn() < kVpnEnd ? tree_.floor(addr.vpn()) : nullptr;
  if (area == nullptr || addr_of(area->start) != addr || area->lazy) {
    ++usage_.bad_frees;
    if (observer_ != nullptr) observer_->event(EventKind::vmalloc_bad_free, addr.v, 0);
    return Error::invalid;
  }
  area->lazy = true;
  area->next_lazy = lazy_;
  lazy_ = area;
  --usage_.areas;
  usage_.pages -= area->pages;
  ++usage_.lazy_areas;
  usage_.lazy_pages += area->pages;
  if (usage_.lazy_pages >= kLazyPagesMax) (void)purge();
  return kOk;
}

void VmallocSpace::end_area(VmallocArea& area) {
  const VpnRange range{area.start, area.start + area.pages};
  --usage_.lazy_areas;
  usage_.lazy_pages -= area.pages;
  tree_.erase(area);
  take_back(range);
  records_.free(&area);
}

u64 VmallocSpace::purge() {
  const u64 pages = usage_.lazy_pages;
  if (lazy_ == nullptr) return 0;
  const WalkScope walk(observer_->walk, "__purge_vmap_area_lazy", "{a} pages in one batch", pages);
  while (lazy_ != nullptr) {
    VmallocArea* area = lazy_;
    lazy_ = area->next_lazy;
    end_area(*area);
  }
  ++usage_.purges;
  observer_->event(EventKind::vmalloc_purge, pages, usage_.purges);
  return pages;
}

u64 VmallocSpace::scan_objects(const ShrinkControl& control) {
  return control.nr_to_scan == 0 || filling_ ? 0 : purge();
}

Pfn VmallocSpace::frame_at(VirtAddr addr) const {
  const Vpn vpn = addr.vpn();
  if (vpn < range_.start || vpn >= range_.end) return kNoPfn;
  const Pte pte = entry(vpn);
  return pte.is(Pte::Kind::present) ? pte.pfn() : kNoPfn;
}

u32 VmallocSpace::areas(VmallocView* out, u32 max) const {
  u32 count = 0;
  for (const VmallocArea* a = tree_.first(); a != nullptr; a = VmallocTree::next(a)) {
    if (count < max) out[count] = {addr_of(a->start), a->pages, a->lazy};
    ++count;
  }
  return count;
}

bool VmallocSpace::validate() const {
  if (!ready()) return true;
  if (!tree_.validate()) return false;
  VmallocUsage seen;
  Vpn at = range_.start;
  for (const VmallocArea* a = tree_.first(); a != nullptr; a = VmallocTree::next(a)) {
    const VpnRange span = a->span();
    if (a->pages == 0 || span.start < at || span.end > range_.end) return false;
    if (!entry(span.start).none() || !entry(span.end - 1).none()) return false;
    for (Vpn vpn = a->start; vpn < a->start + a->pages; vpn = vpn + 1) {
      const Pte pte = entry(vpn);
      if (!pte.is(Pte::Kind::present) || !pte.writable()) return false;
      const Page& page = (*frames_)[pte.pfn()];
      if (page.state != PageState::kernel || page.owner != PageOwner::vmalloc) return false;
    }
    (a->lazy ? seen.lazy_areas : seen.areas) += 1;
    (a->lazy ? seen.lazy_pages : seen.pages) += a->pages;
    at = span.end;
  }
  u64 owned = 0;
  for (u32 i = 0; i < frames_->count().v; ++i) {
    if ((*frames_)[Pfn(i)].owner == PageOwner::vmalloc) ++owned;
  }
  const u64 pages = seen.pages + seen.lazy_pages;
  // As many frames as pages, and each page has one: so each frame has one page.
  if (owned != pages || (has_table_ ? table_.resident() : 0) != pages) return false;
  u64 listed = 0;
  for (const VmallocArea* a = lazy_; a != nullptr; a = a->next_lazy) {
    if (!a->lazy || ++listed > seen.lazy_areas) return false;
  }
  return listed == seen.lazy_areas && seen.areas == usage_.areas && seen.pages == usage_.pages &&
         seen.lazy_areas == usage_.lazy_areas && seen.lazy_pages == usage_.lazy_pages &&
         usage_.tables == (has_table_ ? table_.tables() : 0) &&
         records_.objects_active() == seen.areas + seen.lazy_areas;
}

}  // namespace spillway
