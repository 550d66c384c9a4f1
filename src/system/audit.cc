// The audit: every invariant recomputed from the structures and compared with what the rooms
// count. Listed with their numbers in MECHANISMS.md; docs/ARCHITECTURE.md says which hold when.
#include "system/system_impl.h"

namespace spillway {
namespace {

constexpr AuditReport kGood{true, "", 0, 0};
AuditReport bad(const char* what, u64 left = 0, u64 right = 0) {
  return {false, what, left, right};
}

}  // namespace

AuditReport SystemImpl::audit_frames() {
  u64 by_state[kPageStateCount] = {};
  u64 by_queue[kPageQueueCount] = {};
  for (u32 i = 0; i < frames.count().v; ++i) {
    const Page& page = frames[Pfn(i)];
    ++by_state[static_cast<u8>(page.state)];
    ++by_queue[static_cast<u8>(page.queue)];
    const bool aged = page.state == PageState::mapped || page.state == PageState::unmapped;
    const bool queued = page.queue != PageQueue::none;
    if (queued && !aged) return bad("I3 page on a queue that is not aged", i);
    if (aged && queued != reclaim.must_be_queued(page)) return bad("I3 page on wrong queue", i);
    if (page.state == PageState::mapped && page.mapcount == 0) return bad("I4 mapped nowhere", i);
    if (aged && page.mapcount == 0 && page.count() == 0 && !page.has(PageFlag::writeback)) {
      return bad("resident page that nobody holds", i);
    }
    if (!aged && page.state != PageState::reading && page.count() != 0) {
      return bad("I2 page in use has no content", i, page.count());
    }
    if (page.state == PageState::isolated) return bad("frame left isolated", i);
    if (queued && (page.queue == PageQueue::locked) && !spaces.locked_by_area(Pfn(i))) {
      return bad("I14 locked by no area", i);
    }
  }
  const auto state = [&](PageState s) { return by_state[static_cast<u8>(s)]; };
  const u64 online = frames.count().v - state(PageState::offline);
  if (online != allocator.online().v) return bad("I1 online", online, allocator.online().v);
  const u64 free_frames = state(PageState::free) + state(PageState::pcp);
  if (free_frames != allocator.free_pages().v) {
    return bad("I1 free", free_frames, allocator.free_pages().v);
  }
  const u64 allocated = state(PageState::kernel) + state(PageState::mapped) +
                        state(PageState::unmapped) + state(PageState::reading);
  if (state(PageState::reserved) != allocator.reserved().v) {
    return bad("I1 reserved", state(PageState::reserved), allocator.reserved().v);
  }
  u64 configured = 0;
  for (u32 k = 0; k < kReservedKindCount; ++k) {
    configured += reserved_now(static_cast<ReservedKind>(k));
  }
  if (configured != allocator.reserved().v) {
    return bad("reserved runs", configured, allocator.reserved().v);
  }
  if (free_frames + allocated + state(PageState::reserved) != online) {
    return bad("I1 sum", free_frames + allocated, online);
  }
  for (u32 q = 1; q < kPageQueueCount; ++q) {
    const u64 size = reclaim.queue_size(static_cast<PageQueue>(q));
    if (by_queue[q] != size) return bad("I3 queue counts", by_queue[q], size);
  }
  return audit_owners();
}

AuditReport SystemImpl::audit_owners() {
  u64 by_owner[kPageOwnerCount] = {};
  for (u32 i = 0; i < frames.count().v; ++i) {
    ++by_owner[static_cast<u8>(frames[Pfn(i)].owner)];
  }
  const auto owner = [&](PageOwner o) { return by_owner[static_cast<u8>(o)]; };
  u64 tables = vmalloc.usage().tables;
  spaces.for_each([&](AddressSpace& space) { tables += space.table().tables(); });
  if (tables != owner(PageOwner::table)) return bad("tables", tables, owner(PageOwner::table));
  if (slabs.frames() != owner(PageOwner::slab)) {
    return bad("slabs", slabs.frames(), owner(PageOwner::slab));
  }
  const u64 in_areas = vmalloc.usage().pages + vmalloc.usage().lazy_pages;
  if (in_areas != owner(PageOwner::vmalloc)) {
    return bad("vmalloc frames", in_areas, owner(PageOwner::vmalloc));
  }
  if (stack_frames != owner(PageOwner::stack)) {
    return bad("I32 kernel stacks", stack_frames, owner(PageOwner::stack));
  }
  if (swap.meta_frames() != owner(PageOwner::swap_meta)) return bad("slot chunks");
  if (owner(PageOwner::pool) < swap.pool().frames_used().v) return bad("pool frames");
  const u64 cached = owner(PageOwner::file) + owner(PageOwner::shmem);
  if (cached != cache.pages()) return bad("page cache", cached, cache.pages());
  return kGood;
}

// I10-I15 for one entry.
AuditReport SystemImpl::audit_entry(AddressSpace& space, Vpn vpn, Pte entry) {
  const Area* area = space.find(vpn);
  if (area == nullptr || area->foreign) return bad("I11 entry outside areas", vpn.v);
  if (entry.is(Pte::Kind::present)) {
    const Pte most = Pte::present(entry.pfn(), area->prot);
    const bool exact = entry.writable() == most.writable() &&
                       entry.executable() == most.executable() && area->prot != Prot::none;
    const bool more = (entry.writable() && !most.writable()) ||
                      (entry.executable() && !most.executable()) ||
                      entry.protnone() != most.protnone();
    if (machine.features.shared_frames ? more : !exact) {
      return bad("I12 entry grants other than its area", vpn.v);
    }
  }
  const bool plain = area->mapping == nullptr && !area->shared && area->prot != Prot::none;
  if (entry.is(Pte::Kind::zero) && !plain && machine.features.shared_frames) {
    return bad("I15 zero page where it cannot be", vpn.v);
  }
  if (entry.is(Pte::Kind::swapped) && swap.find_slot(entry.slot()) == nullptr) {
    return bad("entry names no slot", vpn.v, entry.slot().v);
  }
  if (!entry.resident()) return kGood;
  const Page& page = frames[entry.pfn()];
  if (!rmap.has(entry.pfn(), {space.id(), vpn})) {
    return bad("I4 reverse map differs from entry", vpn.v, entry.pfn().v);
  }
  const bool present = entry.is(Pte::Kind::present);
  if (present && page.state != PageState::mapped) return bad("entry and page state", vpn.v);
  if (!present && (page.state == PageState::mapped) != spaces.mapped_by_any(entry.pfn())) {
    return bad("soft entry and page state", vpn.v);
  }
  const bool anonymous = page.owner == PageOwner::user;
  if (!anonymous && mapping_of(page) != area->mapping) return bad("I22 foreign page", vpn.v);
  if (!anonymous && page.index != area->index_of(vpn)) return bad("I22 wrong page", vpn.v);
  if (anonymous && area->shared) return bad("I22 private page in a shared area", vpn.v);
  const bool writable_private = present && entry.writable() && !area->shared;
  if (writable_private && (page.mapcount > 1 || !anonymous)) {
    return bad("I13 shared private page is writable", vpn.v, entry.pfn().v);
  }
  if (present && area->locked && reclaim.must_be_queued(page) && page.queue != PageQueue::locked) {
    return bad("I14 locked page", vpn.v, entry.pfn().v);
  }
  return kGood;
}

AuditReport SystemImpl::audit_entries() {
  AuditReport report = kGood;
  u64 resident = 0;
  u64 total_vm = 0;
  spaces.for_each([&](AddressSpace& space) {
    if (!space.validate()) report = bad("I9 areas", space.id().v);
    total_vm += space.total_vm().v;
    PageTable::Span span;
    for (Vpn at{0}; space.table().next_span(at, kVpnEnd, &span); at = span.start + span.count) {
      for (u32 i = 0; i < span.count; ++i) {
        const Pte entry = span.ptes[i];
        if (entry.none()) continue;
        if (entry.resident()) ++resident;
        const AuditReport one = audit_entry(space, span.start + i, entry);
        if (!one.ok) report = one;
      }
    }
  });
  u64 places = 0;
  for (u32 i = 0; i < frames.count().v; ++i) places += frames[Pfn(i)].mapcount;
  if (report.ok && resident != places) report = bad("I4 sum of mappings", resident, places);
  return report;
}

// I16: a slot's references are the entries that name it and the swap cache. I17, I18: a page in
// the swap cache and its slot name each other, and it is in no other cache.
AuditReport SystemImpl::audit_slots() {
  u64 references = 0;
  u64 holders = 0;
  AuditReport report = kGood;
  bool sticky = false;
  swap.for_each_slot([&](SlotId, const Slot& slot) {
    references += slot.word.refs();
    if (slot.word.refs() == SlotWord::kRefsMax) sticky = true;
  });
  if (machine.features.shared_frames) {
    shmem.for_each([&](ShmObject& object) { holders += object.mapping.nr_swapped; });
  }
  spaces.for_each([&](AddressSpace& space) {
    PageTable::Span span;
    for (Vpn at{0}; space.table().next_span(at, kVpnEnd, &span); at = span.start + span.count) {
      for (u32 i = 0; i < span.count; ++i) {
        if (span.ptes[i].is(Pte::Kind::swapped)) ++holders;
      }
    }
  });
  for (u32 i = 0; i < frames.count().v; ++i) {
    const Page& page = frames[Pfn(i)];
    if (!page.slot.valid() || page.state == PageState::offline) continue;
    ++holders;
    const Slot* slot = swap.find_slot(page.slot);
    if (slot == nullptr || slot->word.refs() == 0) report = bad("page names a dead slot", i);
    if (slot != nullptr && slot->cache_pfn != i) report = bad("I17 swap cache", i, slot->cache_pfn);
    if (page.in_page_cache()) report = bad("I18 page in two caches", i);
  }
  if (report.ok && !sticky && references != holders)
    report = bad("I16 slot references", references, holders);
  return report;
}

AuditReport SystemImpl::audit_caches() {
  if (!machine.features.shared_frames) return kGood;
  AuditReport report = kGood;
  vfs.inodes().for_each([&](Inode& inode) {
    const u64 number = inode.number;
    if (!files.validate(inode)) report = bad("F2 file", number);
    u32 index = static_cast<u32>(inode.mapping.size_pages());
    for (u64 value = 0; inode.mapping.tree.next(&index, ~u32{0}, &value); ++index) {
      if (CacheEntry::from_bits(value).is(CacheEntry::Kind::page)) {
        report = bad("I26 page beyond the end of file", number, index);
      }
      if (index == ~u32{0}) break;
    }
  });
  // The inode cache validates its mappings: I22.
  if (vfs.mounted() && !vfs.dentries().validate()) report = bad("dentries");
  if (vfs.mounted() && !vfs.inodes().validate()) report = bad("I22 inodes");
  u64 promised = 0;
  spaces.for_each([&](AddressSpace& space) {
    for (const Area* a = space.areas().first(); a != nullptr; a = AreaTree::next(a)) {
      if (a->accounted()) promised += a->pages().v;
    }
  });
  shmem.for_each([&](ShmObject& object) {
    if (!cache.validate(object.mapping)) report = bad("I25 shared memory", object.id);
    u64 areas_now = 0;
    for (const Area* a = object.mapping.areas; a != nullptr; a = a->share_next) ++areas_now;
    if (areas_now != object.areas) report = bad("attach count", areas_now, object.areas);
    promised += object.committed.v;
  });
  if (promised != commit.committed().v) {
    report = bad("Committed_AS", promised, commit.committed().v);
  }
  if (!files.validate()) report = bad("files");
  return report;
}

AuditReport SystemImpl::audit() {
  AuditReport report = audit_frames();
  if (report.ok) report = audit_entries();
  if (report.ok) report = audit_slots();
  if (report.ok) report = audit_caches();
  if (!report.ok) return report;
  if (!allocator.validate()) return bad("I5 buddy");
  if (!reclaim.validate()) return bad("I3 queues");
  if (!slabs.validate()) return bad("I27 object caches");
  if (!vmalloc.validate()) return bad("I30 vmalloc");
  if (!swap.validate()) return bad("swap contents");
  return kGood;
}

}  // namespace spillway
