#include "space/shmem.h"

#include <new>

namespace spillway {
namespace {

void set_name(ShmObject& object) {
  if (!object.segment) {
    __builtin_memcpy(object.name, "/dev/zero", 10);
    return;
  }
  __builtin_memcpy(object.name, "SYSV", 4);
  for (u32 i = 0; i < 8; ++i) {
    object.name[4 + i] = "0123456789abcdef"[(object.key >> (28 - 4 * i)) & 15];
  }
  object.name[12] = 0;
}

}  // namespace

Status Shmem::init(MmContext& mm) {
  mm_ = &mm;
  void* memory = mm.machine.boot.alloc(kObjectsMax * sizeof(ShmObject), alignof(ShmObject));
  if (memory == nullptr) return Error::no_memory;
  objects_ = static_cast<ShmObject*>(memory);  // zeroed boot memory is an unused record
  return kOk;
}

Result<ShmObject*> Shmem::create(u64 bytes, bool segment, u32 key, bool noreserve) {
  const PageCount pages = pages_for(bytes);
  if (pages.v > kMappingPagesMax) return Error::no_memory;
  if (!noreserve) SPW_TRY(mm_->commit.allows(pages));
  for (u32 i = 0; i < kObjectsMax; ++i) {
    if (objects_[i].used) continue;
    ShmObject* object = ::new (static_cast<void*>(&objects_[i])) ShmObject;
    object->used = true;
    object->id = next_id_++;
    object->segment = segment;
    object->key = key;
    object->mapping.owner = PageOwner::shmem;
    object->mapping.size_bytes = segment ? bytes : pages.bytes();
    object->mapping.backing = this;
    object->mapping.host = object;
    mm_->cache.adopt(object->mapping);
    if (!noreserve) object->committed = pages;
    mm_->commit.charge(object->committed);
    set_name(*object);
    if (segment) {
      ++segments_;
      segment_pages_ += pages.v;
    }
    return object;
  }
  return Error::no_space;
}

void Shmem::drop_unused(ShmObject& object) {
  if (object.areas == 0 && !object.segment) end(object);
}

ShmObject* Shmem::find_segment(u32 id) {
  for (u32 i = 0; i < kObjectsMax; ++i) {
    ShmObject& o = objects_[i];
    if (o.used && o.segment && o.id == id) return &o;
  }
  return nullptr;
}

ShmObject* Shmem::find_key(u32 key) {
  for (u32 i = 0; i < kObjectsMax; ++i) {
    ShmObject& o = objects_[i];
    if (o.used && o.segment && !o.dest && o.key == key) return &o;
  }
  return nullptr;
}

void Shmem::remove_segment(ShmObject& object) {
  object.dest = true;
  object.key = 0;
  if (object.areas == 0) end(object);
}

// Its pages and slots go. A page in transfer would go later, but shared memory is only in transfer
// as a page of the swap cache, which the slot's end takes care of.
void Shmem::end(ShmObject& object) {
  if (object.segment) {
    --segments_;
    segment_pages_ -= object.mapping.size_pages();
  }
  const Status dropped = mm_->cache.truncate(
      object.mapping, 0,
      [](void* context, SlotId slot) {
        forget_swap_entry(*static_cast<MmContext*>(context), slot);
      },
      mm_);
  SPW_ASSERT(dropped.ok());
  mm_->cache.forget(object.mapping);
  mm_->commit.uncharge(object.committed);
  object.used = false;
}

Mapping* Shmem::find_slot(SlotId slot, u32* index) {
  for (u32 i = 0; i < kObjectsMax; ++i) {
    ShmObject& o = objects_[i];
    if (!o.used || o.mapping.nr_swapped == 0) continue;
    u32 at = 0;
    u64 value = 0;
    while (o.mapping.tree.next(&at, ~u32{0}, &value)) {
      if (CacheEntry::from_bits(value) == CacheEntry::swap(slot)) {
        *index = at;
        return &o.mapping;
      }
      if (++at == 0) break;
    }
  }
  return nullptr;
}

Status Shmem::read_pages(Mapping&, u32, const Pfn*, u32) { return Error::invalid; }

WriteOutcome Shmem::write_page(Mapping& mapping, Pfn pfn) {
  const WalkScope walk(mm_->observer.walk, "shmem_writepage", "frame {a}, page {b}", pfn.v,
                       mm_->frames[pfn].index);
  if (mapping.no_writeback) {
    mm_->observer.step("the segment is locked in RAM: refused");
    return WriteOutcome::refused;
  }
  if (mm_->frames[pfn].mapcount > 0) return WriteOutcome::refused;
  Result<SlotId> slot = mm_->swap.areas().alloc();
  const bool plain = slot.ok();
  if (!plain && mm_->swap.has_tiers()) slot = mm_->swap.store(pfn);
  if (!slot.ok()) {
    mm_->observer.step("no swap slot: refused");
    return slot.error() == Error::wait ? WriteOutcome::wait : WriteOutcome::refused;
  }
  mm_->cache.replace_by_slot(pfn, slot.value());
  if (!plain) {
    // The content is in the tiers: the frame is not needed any more.
    mm_->allocator.free(pfn, 0);
    return WriteOutcome::moved;
  }
  Page& page = mm_->frames[pfn];
  page.owner = PageOwner::user;
  page.private_data = 0;
  mm_->frames.transition(pfn, PageState::isolated, PageState::unmapped);
  mm_->swap.get(slot.value());
  mm_->swap.add_to_cache(pfn, slot.value());
  page.set(PageFlag::dirty);
  mm_->reclaimer.page_added_unmapped(pfn);
  mm_->observer.step("moved to the swap cache, slot {a} of area {b}", slot.value().offset(),
                     slot.value().area());
  return WriteOutcome::moved;
}

void Shmem::area_opened(Area& area) { ++object_of(*area.mapping).areas; }

void Shmem::area_closed(Area& area) {
  ShmObject& object = object_of(*area.mapping);
  SPW_ASSERT_LT(0u, object.areas);
  if (--object.areas > 0) return;
  if (!object.segment || object.dest) end(object);
}

const char* Shmem::area_name(const Area& area) const { return object_of(*area.mapping).name; }

}  // namespace spillway
