#include "pagetable/page_table.h"

namespace spillway {
namespace {

constexpr u32 kTop = kTableLevels - 1;

// Pages covered by one entry of a table at `level`.
constexpr u64 entry_span(u32 level) { return u64{1} << (kTableBits * level); }

}  // namespace

Status PageTable::init(PageAllocator& allocator, FrameTable& frames, Frames& memory,
                       AllocFlags flags) {
  allocator_ = &allocator;
  frames_ = &frames;
  memory_ = &memory;
  flags.zero = true;
  SPW_TRY_ASSIGN(pfn, allocator.alloc_kernel(PageOwner::table, flags));
  root_ = pfn;
  tables_ = 1;
  return kOk;
}

void PageTable::destroy() {
  free_empty({Vpn(0), kVpnEnd});
  SPW_ASSERT_EQ((*frames_)[root_].private_data, 0u);
  free_table(root_);
  root_ = kNoPfn;
  SPW_ASSERT_EQ(tables_, 0u);
}

void PageTable::free_table(Pfn pfn) {
  allocator_->free_kernel(pfn, PageOwner::table);
  --tables_;
}

Pte* PageTable::find(Vpn vpn) const {
  SPW_DEBUG_ASSERT(vpn < kVpnEnd);
  Pfn table = root_;
  for (u32 level = kTop; level > 0; --level) {
    const Pte entry = table_at(table)[table_index(vpn, level)];
    if (!entry.is(Pte::Kind::table)) return nullptr;
    table = entry.pfn();
  }
  return &table_at(table)[table_index(vpn, 0)];
}

Result<Pte*> PageTable::ensure(Vpn vpn, AllocFlags flags) {
  SPW_ASSERT_LT(vpn.v, kVpnEnd.v);
  flags.zero = true;
  Pfn table = root_;
  for (u32 level = kTop; level > 0; --level) {
    Pte* entry = &table_at(table)[table_index(vpn, level)];
    if (!entry->is(Pte::Kind::table)) {
      SPW_TRY_ASSIGN(child, allocator_->alloc_kernel(PageOwner::table, flags));
      ++tables_;
      store(entry, Pte::table(child));
    }
    table = entry->pfn();
  }
  return &table_at(table)[table_index(vpn, 0)];
}

void PageTable::store(Pte* pte, Pte value) {
  Page& table = (*frames_)[memory_->pfn_of(pte)];
  if (pte->none() && !value.none()) ++table.private_data;
  if (!pte->none() && value.none()) {
    SPW_ASSERT(table.private_data > 0);
    --table.private_data;
  }
  if (pte->resident()) --resident_;
  if (value.resident()) ++resident_;
  *pte = value;
}

bool PageTable::next_span(Vpn from, Vpn end, Span* span) const {
  while (from < end) {
    Pfn table = root_;
    u32 level = kTop;
    while (level > 0) {
      const Pte entry = table_at(table)[table_index(from, level)];
      if (!entry.is(Pte::Kind::table)) break;
      table = entry.pfn();
      --level;
    }
    if (level == 0) {
      const u32 index = table_index(from, 0);
      const u64 left = kTableEntries - index;
      const u64 wanted = end.v - from.v;
      *span = {&table_at(table)[index], from, static_cast<u32>(left < wanted ? left : wanted)};
      return true;
    }
    // Nothing below this entry: go to the start of the next one at this level.
    from = Vpn((from.v / entry_span(level) + 1) * entry_span(level));
  }
  return false;
}

void PageTable::free_below(Pfn table, u32 level, Vpn base, VpnRange range) {
  const u64 span = entry_span(level);
  const u64 first = range.start.v <= base.v ? 0 : (range.start.v - base.v) / span;
  for (u64 i = first; i < kTableEntries; ++i) {
    const Vpn start{base.v + i * span};
    if (start >= range.end) break;
    Pte* entry = &table_at(table)[i];
    if (!entry->is(Pte::Kind::table)) continue;
    const Pfn child = entry->pfn();
    if (level > 1) free_below(child, level - 1, start, range);
    if ((*frames_)[child].private_data == 0) {
      store(entry, Pte{});
      free_table(child);
    }
  }
}

void PageTable::free_empty(VpnRange range) {
  if (range.empty()) return;
  free_below(root_, kTop, Vpn(0), range);
}

}  // namespace spillway
