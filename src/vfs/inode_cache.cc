#include "vfs/inode_cache.h"

#include <new>

namespace spillway {
namespace {

constexpr u16 bit(InodeState s) { return static_cast<u16>(s); }

// Mixes a number so that neighbours lie apart (Fibonacci hashing; the constant is 2^64 / phi).
constexpr u64 mixed(u64 number) { return (number * 0x9e37'79b9'7f4a'7c15) >> 20; }

}  // namespace

void mark_inode_dirty(Inode& inode) { inode.cache->mark_dirty(inode); }

void InodeCache::List::push_front(Inode& inode) {
  inode.prev = nullptr;
  inode.next = head;
  (head != nullptr ? head->prev : tail) = &inode;
  head = &inode;
  ++count;
}

void InodeCache::List::push_back(Inode& inode) {
  inode.next = nullptr;
  inode.prev = tail;
  (tail != nullptr ? tail->next : head) = &inode;
  tail = &inode;
  ++count;
}

void InodeCache::List::remove(Inode& inode) {
  (inode.prev != nullptr ? inode.prev->next : head) = inode.next;
  (inode.next != nullptr ? inode.next->prev : tail) = inode.prev;
  inode.prev = inode.next = nullptr;
  --count;
}

Status InodeCache::init(Machine& machine, PageCache& pages, PageAllocator& allocator,
                        const Observer& observer, u32 hash_bits) {
  machine_ = &machine;
  pages_ = &pages;
  allocator_ = &allocator;
  observer_ = &observer;
  KmemCacheConfig objects = KmemCacheConfig::core("inode_cache", sizeof(Inode));
  objects.several = true;  // one for each Vfs
  SPW_TRY(objects_.init(pages.slabs(), objects));
  const u64 buckets = u64{1} << hash_bits;
  hash_ = static_cast<Inode**>(machine.boot.alloc(buckets * sizeof(Inode*), 64));
  if (hash_ == nullptr) return Error::no_memory;
  hash_mask_ = buckets - 1;
  return kOk;
}

// By the number alone: with the address of the file system in it, a run would depend on addresses.
Inode** InodeCache::bucket(u64 number) const { return &hash_[mixed(number) & hash_mask_]; }

InodeCache::List& InodeCache::list_of(const Inode& inode) {
  if (inode.is(InodeState::deleted)) return deleted_;
  if (inode.is(InodeState::dirty)) return dirty_;
  return inode.count != 0 ? in_use_ : unused_;
}

// Changes what decides about the inode's list, and moves it there if it is another one.
void InodeCache::relist(Inode& inode, u32 count, u16 state) {
  List& from = list_of(inode);
  inode.count = count;
  inode.state = state;
  List& to = list_of(inode);
  if (&from == &to) return;
  from.remove(inode);
  if (&to == &unused_) {
    to.push_front(inode);
  } else {
    to.push_back(inode);
  }
}

void InodeCache::insert(Inode& inode) {
  Inode** head = bucket(inode.number);
  inode.hash_next = *head;
  *head = &inode;
  list_of(inode).push_back(inode);
}

Inode* InodeCache::find(const FileSystem& fs, u64 number) const {
  for (Inode* i = *bucket(number); i != nullptr; i = i->hash_next) {
    if (i->number == number && i->fs == &fs) return i;
  }
  return nullptr;
}

Result<Inode*> InodeCache::reserve() {
  SPW_TRY_ASSIGN(memory, objects_.alloc(kAllocKernel));
  return new (memory) Inode;
}

void InodeCache::give_back(Inode& reserved) {
  reserved.~Inode();
  objects_.free(&reserved);
}

Result<Inode*> InodeCache::get_new(FileSystem& fs, u64 number, Inode& reserved) {
  if (Inode* known = find(fs, number); known != nullptr) {
    // The file system gave out a number that it had not been asked to give free.
    give_back(reserved);
    if (known->is(InodeState::deleted)) return Error::stale;
    hold(*known);
    return known;
  }
  Inode& inode = reserved;
  inode.number = number;
  inode.fs = &fs;
  inode.cache = this;
  inode.count = 1;
  inode.mapping.owner = PageOwner::file;
  inode.mapping.backing = &fs;
  inode.mapping.host = &inode;
  // Known to the cache before it is read: read_inode may mark it dirty.
  inode.set(InodeState::busy);
  insert(inode);
  pages_->adopt(inode.mapping);
  Status status = kOk;
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    status = fs.read_inode(inode);
  }
  inode.clear(InodeState::busy);
  if (!status.ok()) {
    free(inode);
    return status.error();
  }
  return &inode;
}

Result<Inode*> InodeCache::get(FileSystem& fs, u64 number) {
  if (number == 0) return Error::no_entry;
  if (Inode* inode = find(fs, number); inode != nullptr) {
    if (inode->is(InodeState::deleted)) return Error::no_entry;
    SPW_ASSERT(!inode->is(InodeState::busy));
    ++hits_;
    if (inode->count == 0) inode->set(InodeState::referenced);
    hold(*inode);
    return inode;
  }
  ++misses_;
  SPW_TRY_ASSIGN(reserved, reserve());
  return get_new(fs, number, *reserved);
}

void InodeCache::hold(Inode& inode) {
  SPW_ASSERT(!inode.is(InodeState::deleted));
  relist(inode, inode.count + 1, inode.state);
}

void InodeCache::put(Inode& inode) {
  SPW_ASSERT_LT(0u, inode.count);
  if (inode.count > 1) {
    --inode.count;
    return;
  }
  if (inode.attr.nlink != 0 && !inode.is(InodeState::bad)) {
    relist(inode, 0, inode.state);
    return;
  }
  // Nobody finds it any more; what it still has to be written does not matter.
  const u16 state = static_cast<u16>(inode.state & ~bit(InodeState::dirty));
  relist(inode, 0, static_cast<u16>(state | bit(InodeState::deleted)));
  (void)finish(inode);
}

// Ends a deleted inode unless something must be waited for; then the flusher calls again.
bool InodeCache::finish(Inode& inode) {
  SPW_ASSERT(inode.is(InodeState::deleted) && inode.count == 0 && inode.aliases == nullptr);
  if (inode.is(InodeState::busy) || !allocator_->may_enter_fs()) return false;
  if (!pages_->truncate(inode.mapping, 0, nullptr, nullptr).ok()) return false;
  if (inode.attr.nlink == 0 && !inode.is(InodeState::bad)) {
    const PageAllocator::NoFs no_fs(*allocator_);
    inode.set(InodeState::busy);
    const Status status = inode.fs->delete_inode(inode);
    inode.clear(InodeState::busy);
    if (!status.ok() && status.error() == Error::wait) return false;
    // After another error its blocks stay taken, which fsck finds; nobody is there to be told.
    if (!status.ok()) observer_->count(Counter::io_error);
  }
  release(inode);
  return true;
}

u64 InodeCache::finish_deleted() {
  if (!allocator_->may_enter_fs()) return deleted_.count;
  for (Inode* inode = deleted_.head; inode != nullptr;) {
    Inode* next = inode->next;
    (void)finish(*inode);
    inode = next;
  }
  return deleted_.count;
}

// The inode, clean and without pages, leaves memory.
void InodeCache::release(Inode& inode) {
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    inode.set(InodeState::busy);
    inode.fs->evict_inode(inode);
  }
  free(inode);
}

void InodeCache::free(Inode& inode) {
  SPW_ASSERT(inode.aliases == nullptr);
  list_of(inode).remove(inode);
  Inode** at = bucket(inode.number);
  while (*at != &inode) at = &(*at)->hash_next;
  *at = inode.hash_next;
  pages_->forget(inode.mapping);
  give_back(inode);
}

void InodeCache::mark_dirty(Inode& inode) {
  if (inode.is(InodeState::dirty) || inode.is(InodeState::deleted)) return;
  inode.dirtied_ns = machine_->clock.now_ns();
  relist(inode, inode.count, static_cast<u16>(inode.state | bit(InodeState::dirty)));
}

// Stores a dirty inode. It leaves the dirty list first, because write_inode may mark it dirty
// again; when that fails it returns to the list's end, as if it had become dirty now, so that one
// that cannot be written does not keep the others from it.
Status InodeCache::write_inode(Inode& inode) {
  SPW_ASSERT(inode.is(InodeState::dirty) && !inode.is(InodeState::busy));
  const u64 since = inode.dirtied_ns;
  const u16 clean = static_cast<u16>(inode.state & ~bit(InodeState::dirty));
  relist(inode, inode.count + 1, static_cast<u16>(clean | bit(InodeState::busy)));
  Status status = kOk;
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    status = inode.fs->write_inode(inode);
  }
  inode.clear(InodeState::busy);
  if (status.ok()) {
    ++written_;
  } else if (!inode.is(InodeState::dirty)) {
    mark_dirty(inode);
    // One that only waits keeps its place.
    if (status.error() == Error::wait) {
      inode.dirtied_ns = since;
      dirty_.remove(inode);
      Inode* after = dirty_.head;
      while (after != nullptr && after->dirtied_ns <= since) after = after->next;
      if (after == nullptr) {
        dirty_.push_back(inode);
      } else if (after->prev == nullptr) {
        dirty_.push_front(inode);
      } else {
        inode.prev = after->prev;
        inode.next = after;
        after->prev->next = &inode;
        after->prev = &inode;
        ++dirty_.count;
      }
    }
  }
  put(inode);
  return status;
}

Status InodeCache::write(Inode& inode) {
  return inode.is(InodeState::dirty) ? write_inode(inode) : kOk;
}

Status InodeCache::write_all(const FileSystem& fs, u64 dirtied_until_ns) {
  Status first = kOk;
  bool waits = false;
  // A failed one goes to the end of the list: each is tried once.
  u64 left = dirty_.count;
  for (Inode* inode = dirty_.head; inode != nullptr && left != 0; --left) {
    Inode* next = inode->next;
    if (inode->dirtied_ns > dirtied_until_ns) break;
    if (inode->fs == &fs && !inode->is(InodeState::busy)) {
      const Status status = write_inode(*inode);
      if (!status.ok() && status.error() == Error::wait) {
        waits = true;
      } else if (!status.ok() && first.ok()) {
        first = status;
      }
    }
    inode = next;
  }
  return waits ? Status(Error::wait) : first;
}

bool InodeCache::write_back_due(u64 now_ns) const {
  return dirty_.head != nullptr && now_ns - dirty_.head->dirtied_ns >= kWriteAfterNs;
}

u32 InodeCache::write_back(u32 max, u64 now_ns, bool all) {
  if (!allocator_->may_enter_fs()) return 0;
  u32 wrote = 0;
  u64 left = dirty_.count;
  for (Inode* inode = dirty_.head; inode != nullptr && wrote < max && left != 0; --left) {
    Inode* next = inode->next;
    if (!all && now_ns - inode->dirtied_ns < kWriteAfterNs) break;
    if (!inode->is(InodeState::busy)) wrote += write_inode(*inode).ok() ? 1 : 0;
    inode = next;
  }
  return wrote;
}

u64 InodeCache::prune(u64 n) {
  if (n == 0 || !allocator_->may_enter_fs()) return 0;
  const WalkScope walk(observer_->walk, "prune_icache", "{a} of {b} unused, {c} dirty", n,
                       unused_.count, dirty_.count);
  (void)write_back(kScanWriteMax, machine_->clock.now_ns(), true);
  u64 freed = 0;
  if (n > unused_.count) n = unused_.count;
  for (; n != 0 && unused_.tail != nullptr; --n) {
    Inode& inode = *unused_.tail;
    SPW_ASSERT(inode.count == 0);
    const bool spared = inode.is(InodeState::referenced);
    if (spared || inode.is(InodeState::busy) || inode.is(InodeState::truncating) ||
        inode.mapping.nr_pages != 0 || inode.mapping.areas != nullptr) {
      inode.clear(InodeState::referenced);
      unused_.remove(inode);
      unused_.push_front(inode);
      continue;
    }
    release(inode);
    ++pruned_;
    ++freed;
  }
  return freed;
}

u64 InodeCache::scan_objects(const ShrinkControl& control) {
  if (!control.may_enter_fs) return 0;
  const u64 freed = prune(control.nr_to_scan);
  if (freed != 0) shrink_slabs();
  return freed;
}

InodeCache::Stats InodeCache::stats() const {
  return {.inodes = in_use_.count + unused_.count + dirty_.count + deleted_.count,
          .in_use = in_use_.count,
          .unused = unused_.count,
          .dirty = dirty_.count,
          .deleted = deleted_.count,
          .hits = hits_,
          .misses = misses_,
          .written = written_,
          .pruned = pruned_};
}

bool InodeCache::validate() const {
  u64 listed = 0;
  bool good = true;
  InodeCache& self = const_cast<InodeCache&>(*this);
  for (const List* list : {&in_use_, &unused_, &dirty_, &deleted_}) {
    u64 count = 0;
    const Inode* before = nullptr;
    for (const Inode* i = list->head; i != nullptr; before = i, i = i->next) {
      if (++count > list->count || i->prev != before) return false;
      good = good && &self.list_of(*i) == list && find(*i->fs, i->number) == i;
      good = good && i->mapping.host == i && i->mapping.backing == i->fs && i->cache == this;
      if (list == &dirty_ && before != nullptr) {
        good = good && before->dirtied_ns <= i->dirtied_ns;
      }
      good = good && pages_->validate(i->mapping);
    }
    if (count != list->count || list->tail != before) return false;
    listed += count;
  }
  u64 hashed = 0;
  for (u64 b = 0; b <= hash_mask_; ++b) {
    for (const Inode* i = hash_[b]; i != nullptr; i = i->hash_next) {
      if (++hashed > listed || bucket(i->number) != &hash_[b]) return false;
    }
  }
  return good && hashed == listed && objects_.objects_active() >= listed && objects_.validate();
}

}  // namespace spillway
