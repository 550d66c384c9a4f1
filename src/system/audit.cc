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
  u64 by_owner[kPageOwnerCount] = {};
  u64 by_state[kPageStateCount] = {};
  u64 by_queue[kPageQueueCount] = {};
  for (u32 i = 0; i < frames.count().v; ++i) {
    const Page& page = frames[Pfn(i)];
    ++by_state[static_cast<u8>(page.state)];
    ++by_owner[static_cast<u8>(page.owner)];
    ++by_queue[static_cast<u8>(page.queue)];
    const bool aged = page.state == PageState::mapped || page.state == PageState::unmapped;
    if (aged != (page.queue != PageQueue::none)) return bad("I3 page on wrong queue", i);
    if (aged && page.rmap == 0) return bad("resident page without reverse map", i);
    if (page.state == PageState::isolated) return bad("frame left isolated", i);
  }
  const auto state = [&](PageState s) { return by_state[static_cast<u8>(s)]; };
  const auto owner = [&](PageOwner o) { return by_owner[static_cast<u8>(o)]; };
  const u64 online = frames.count().v - state(PageState::offline);
  if (online != allocator.online().v) return bad("I1 online", online, allocator.online().v);
  const u64 free_frames = state(PageState::free) + state(PageState::pcp);
  if (free_frames != allocator.free_pages().v) {
    return bad("I1 free", free_frames, allocator.free_pages().v);
  }
  const u64 allocated = state(PageState::kernel) + state(PageState::mapped) +
                        state(PageState::unmapped) + state(PageState::reading);
  if (free_frames + allocated + state(PageState::reserved) != online) {
    return bad("I1 sum", free_frames + allocated, online);
  }
  u64 tables = 0;
  spaces.for_each([&](AddressSpace& space) { tables += space.table().tables(); });
  if (tables != owner(PageOwner::table)) return bad("tables", tables, owner(PageOwner::table));
  if (areas.slabs() != owner(PageOwner::slab)) return bad("slabs", areas.slabs());
  if (swap.meta_frames() != owner(PageOwner::swap_meta)) return bad("slot chunks");
  if (owner(PageOwner::pool) < swap.pool().frames_used().v) return bad("pool frames");
  const ThreeQueue& queues = reclaim.queues();
  const auto queue = [&](PageQueue q) { return by_queue[static_cast<u8>(q)]; };
  if (queue(PageQueue::probation) != queues.probation() ||
      queue(PageQueue::main) != queues.main() || queue(PageQueue::locked) != queues.locked() ||
      queue(PageQueue::unmapped) != queues.unmapped()) {
    return bad("I3 queue counts");
  }
  return kGood;
}

AuditReport SystemImpl::audit_entries() {
  AuditReport report = kGood;
  u64 resident = 0;
  spaces.for_each([&](AddressSpace& space) {
    if (!space.validate()) report = bad("I9 areas", space.id().v);
    PageTable::Span span;
    for (Vpn at{0}; space.table().next_span(at, kVpnEnd, &span); at = span.start + span.count) {
      for (u32 i = 0; i < span.count; ++i) {
        const Pte entry = span.ptes[i];
        if (entry.none()) continue;
        const Vpn vpn = span.start + i;
        const Area* area = space.find(vpn);
        if (area == nullptr || area->foreign) {
          report = bad("I11 entry outside areas", vpn.v);
          continue;
        }
        if (entry.is(Pte::Kind::present)) {
          const Pte expected = Pte::present(entry.pfn(), area->prot);
          if (entry.writable() != expected.writable() ||
              entry.executable() != expected.executable() || area->prot == Prot::none) {
            report = bad("I12 entry grants other than its area", vpn.v);
          }
        }
        if (entry.resident()) {
          ++resident;
          const Page& page = frames[entry.pfn()];
          const PageState want =
              entry.is(Pte::Kind::present) ? PageState::mapped : PageState::unmapped;
          if (page.state != want || page.owner != PageOwner::user) {
            report = bad("entry and page state differ", vpn.v, entry.pfn().v);
          }
          if (page.rmap_space() != space.id() || page.rmap_vpn() != vpn) {
            report = bad("reverse map differs from entry", vpn.v, entry.pfn().v);
          }
          const bool locked = page.queue == PageQueue::locked;
          if (entry.is(Pte::Kind::present) && locked != area->locked) {
            report = bad("I14 locked page", vpn.v, entry.pfn().v);
          }
        }
        if (entry.is(Pte::Kind::swapped) && swap.find_slot(entry.slot()) == nullptr) {
          report = bad("entry names no slot", vpn.v, entry.slot().v);
        }
      }
    }
  });
  const u64 queued = reclaim.queues().resident() + reclaim.queues().locked();
  if (report.ok && resident != queued) report = bad("I10 resident pages", resident, queued);
  return report;
}

// I16: a slot's references are the entries that name it and the swap cache. I17, I18: a page in
// the swap cache and its slot name each other, and it is in no other cache.
AuditReport SystemImpl::audit_slots() {
  u64 references = 0;
  u64 holders = 0;
  AuditReport report = kGood;
  swap.for_each_slot([&](SlotId, const Slot& slot) { references += slot.word.refs(); });
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
  if (report.ok && references != holders) report = bad("I16 slot references", references, holders);
  return report;
}

AuditReport SystemImpl::audit() {
  AuditReport report = audit_frames();
  if (report.ok) report = audit_entries();
  if (report.ok) report = audit_slots();
  if (!report.ok) return report;
  if (!allocator.validate()) return bad("I5 buddy");
  if (!reclaim.queues().validate()) return bad("I3 queues");
  if (!areas.validate()) return bad("I27 area cache");
  if (!swap.validate()) return bad("swap contents");
  return kGood;
}

}  // namespace spillway
