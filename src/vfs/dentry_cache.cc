#include "vfs/dentry_cache.h"

#include <cstring>
#include <new>
#include <utility>

#include "base/hash.h"

namespace spillway {

Status DentryCache::init(Machine& machine, InodeCache& inodes, PageAllocator& allocator,
                         const Observer& observer, u32 hash_bits) {
  inodes_ = &inodes;
  allocator_ = &allocator;
  observer_ = &observer;
  SlabChain& slabs = inodes.slabs();
  KmemCacheConfig objects = KmemCacheConfig::core("dentry_cache", sizeof(Dentry));
  objects.several = true;  // one for each Vfs
  SPW_TRY(objects_.init(slabs, objects));
  objects = KmemCacheConfig::core("dentry_name", Name::kMax + 1);
  objects.several = true;
  SPW_TRY(names_.init(slabs, objects));
  const u64 buckets = u64{1} << hash_bits;
  hash_ = static_cast<Dentry**>(machine.boot.alloc(buckets * sizeof(Dentry*), 64));
  if (hash_ == nullptr) return Error::no_memory;
  hash_mask_ = static_cast<u32>(buckets - 1);
  return kOk;
}

u32 DentryCache::hash_of(const Dentry* parent, Name name) {
  return static_cast<u32>(checksum64(name.text, name.length, parent->number));
}

// A dentry with nothing but its name, held.
Result<Dentry*> DentryCache::make(Name name) {
  SPW_ASSERT(name.length <= Name::kMax);
  char* long_name = nullptr;
  if (name.length >= Dentry::kInlineMax) {
    SPW_TRY_ASSIGN(memory, names_.alloc(kAllocKernel));
    long_name = static_cast<char*>(memory);
  }
  const Result<void*> memory = objects_.alloc(kAllocKernel);
  if (!memory.ok()) {
    if (long_name != nullptr) names_.free(long_name);
    return memory.error();
  }
  Dentry* dentry = new (memory.value()) Dentry;
  dentry->count = 1;
  dentry->number = ++last_number_;
  dentry->long_name = long_name;
  dentry->name_length = static_cast<u16>(name.length);
  std::memcpy(long_name != nullptr ? long_name : dentry->inline_name, name.text, name.length);
  ++count_;
  ++negative_;
  return dentry;
}

void DentryCache::link_child(Dentry& parent, Dentry& child) {
  child.parent = &parent;
  child.sibling_prev = nullptr;
  child.sibling_next = parent.children;
  if (parent.children != nullptr) parent.children->sibling_prev = &child;
  parent.children = &child;
}

void DentryCache::unlink_child(Dentry& child) {
  Dentry* next = child.sibling_next;
  (child.sibling_prev != nullptr ? child.sibling_prev->sibling_next : child.parent->children) =
      next;
  if (next != nullptr) next->sibling_prev = child.sibling_prev;
  child.sibling_prev = child.sibling_next = nullptr;
}

void DentryCache::link_alias(Dentry& dentry, Inode& inode) {
  SPW_ASSERT(dentry.negative());
  dentry.inode = &inode;
  dentry.alias_prev = nullptr;
  dentry.alias_next = inode.aliases;
  if (inode.aliases != nullptr) inode.aliases->alias_prev = &dentry;
  inode.aliases = &dentry;
  --negative_;
}

Inode* DentryCache::unlink_alias(Dentry& dentry) {
  Inode* inode = dentry.inode;
  Dentry* next = dentry.alias_next;
  (dentry.alias_prev != nullptr ? dentry.alias_prev->alias_next : inode->aliases) = next;
  if (next != nullptr) next->alias_prev = dentry.alias_prev;
  dentry.alias_prev = dentry.alias_next = nullptr;
  dentry.inode = nullptr;
  ++negative_;
  return inode;
}

void DentryCache::enter_unused(Dentry& dentry) {
  dentry.set(DentryFlag::unused);
  dentry.prev = nullptr;
  dentry.next = unused_head_;
  (unused_head_ != nullptr ? unused_head_->prev : unused_tail_) = &dentry;
  unused_head_ = &dentry;
  ++unused_count_;
}

void DentryCache::leave_unused(Dentry& dentry) {
  SPW_ASSERT(dentry.is(DentryFlag::unused));
  dentry.clear(DentryFlag::unused);
  (dentry.prev != nullptr ? dentry.prev->next : unused_head_) = dentry.next;
  (dentry.next != nullptr ? dentry.next->prev : unused_tail_) = dentry.prev;
  dentry.prev = dentry.next = nullptr;
  --unused_count_;
}

Result<Dentry*> DentryCache::alloc_root(Inode& inode) {
  SPW_TRY_ASSIGN(root, make(Name::of("/")));
  link_alias(*root, inode);
  return root;
}

Result<Dentry*> DentryCache::alloc(Dentry& parent, Name name) {
  SPW_ASSERT_LT(0u, parent.count);
  SPW_TRY_ASSIGN(dentry, make(name));
  get(parent);
  link_child(parent, *dentry);
  return dentry;
}

void DentryCache::add(Dentry& dentry) {
  SPW_ASSERT(!dentry.is(DentryFlag::hashed) && dentry.parent != nullptr);
  dentry.hash = hash_of(dentry.parent, dentry.name());
  Dentry** head = bucket(dentry.hash);
  dentry.hash_next = *head;
  *head = &dentry;
  dentry.set(DentryFlag::hashed);
}

void DentryCache::instantiate(Dentry& dentry, Inode& inode) { link_alias(dentry, inode); }

Dentry* DentryCache::lookup(Dentry& parent, Name name) {
  const WalkScope walk(observer_->walk, "d_lookup");
  const u32 hash = hash_of(&parent, name);
  for (Dentry* d = *bucket(hash); d != nullptr; d = d->hash_next) {
    if (d->hash != hash || d->parent != &parent || !(d->name() == name)) continue;
    ++hits_;
    d->set(DentryFlag::referenced);
    get(*d);
    return d;
  }
  ++misses_;
  return nullptr;
}

Result<Dentry*> DentryCache::obtain_alias(Inode& directory) {
  SPW_ASSERT(directory.is_directory());
  if (directory.aliases != nullptr) {
    get(*directory.aliases);
    return directory.aliases;
  }
  SPW_TRY_ASSIGN(dentry, make(Name::of("")));
  dentry->set(DentryFlag::disconnected);
  inodes_->hold(directory);
  link_alias(*dentry, directory);
  return dentry;
}

void DentryCache::get(Dentry& dentry) {
  if (dentry.count++ == 0) leave_unused(dentry);
}

void DentryCache::put(Dentry& dentry) {
  const WalkScope walk(observer_->walk, "dput", "{a} users", dentry.count);
  for (Dentry* d = &dentry; d != nullptr; d = free_one(*d)) {
    SPW_ASSERT_LT(0u, d->count);
    if (--d->count != 0) return;
    if (d->is(DentryFlag::hashed)) {
      enter_unused(*d);
      observer_->step("the last user: it stays on the list of the unused");
      return;
    }
  }
}

void DentryCache::drop(Dentry& dentry) {
  if (!dentry.is(DentryFlag::hashed)) return;
  Dentry** at = bucket(dentry.hash);
  while (*at != &dentry) at = &(*at)->hash_next;
  *at = dentry.hash_next;
  dentry.hash_next = nullptr;
  dentry.clear(DentryFlag::hashed);
}

void DentryCache::removed(Dentry& dentry) {
  SPW_ASSERT_LT(0u, dentry.count);
  if (dentry.count > 1) {
    drop(dentry);
    return;
  }
  inodes_->put(*unlink_alias(dentry));
}

Dentry* DentryCache::free_one(Dentry& dentry) {
  SPW_ASSERT(dentry.count == 0 && dentry.children == nullptr);
  SPW_ASSERT(!dentry.is(DentryFlag::unused));
  drop(dentry);
  Dentry* parent = dentry.parent;
  if (parent != nullptr) unlink_child(dentry);
  Inode* inode = dentry.negative() ? nullptr : unlink_alias(dentry);
  if (dentry.long_name != nullptr) names_.free(dentry.long_name);
  --negative_;
  --count_;
  dentry.~Dentry();
  objects_.free(&dentry);
  if (inode != nullptr) inodes_->put(*inode);
  return parent;
}

void DentryCache::swap_names(Dentry& a, Dentry& b) {
  std::swap(a.long_name, b.long_name);
  std::swap(a.name_length, b.name_length);
  std::swap(a.inline_name, b.inline_name);
}

void DentryCache::move(Dentry& moved, Dentry& target) {
  SPW_ASSERT(&moved != &target && moved.parent != &target && target.parent != &moved);
  drop(moved);
  drop(target);
  swap_names(moved, target);
  Dentry* parent = target.parent;
  if (moved.parent != nullptr) {
    Dentry* old_parent = moved.parent;
    unlink_child(moved);
    unlink_child(target);
    link_child(*old_parent, target);
  } else {
    moved.clear(DentryFlag::disconnected);
    get(*parent);
  }
  link_child(*parent, moved);
  add(moved);
}

void DentryCache::prune_below(Dentry& dentry) {
  SPW_ASSERT_LT(0u, dentry.count);
  Dentry* at = &dentry;
  Dentry* child = at->children;
  for (;;) {
    if (child == nullptr) {
      if (at == &dentry) return;
      // Its children may have been its last users.
      Dentry* parent = at->parent;
      child = at->sibling_next;
      if (at->count == 0) {
        (void)free_one(*at);
        --parent->count;
        ++pruned_;
      }
      at = parent;
      continue;
    }
    if (child->count == 0) {
      Dentry* next = child->sibling_next;
      leave_unused(*child);
      (void)free_one(*child);
      --at->count;
      ++pruned_;
      child = next;
    } else if (child->children != nullptr) {
      at = child;
      child = at->children;
    } else {
      child = child->sibling_next;
    }
  }
}

u64 DentryCache::prune(u64 n) {
  const WalkScope walk(observer_->walk, "prune_dcache", "{a} of {b} unused", n, unused_count_);
  u64 freed = 0;
  for (; n != 0 && unused_tail_ != nullptr; --n) {
    Dentry& dentry = *unused_tail_;
    leave_unused(dentry);
    if (dentry.is(DentryFlag::referenced)) {
      dentry.clear(DentryFlag::referenced);
      enter_unused(dentry);
      continue;
    }
    Dentry* parent = free_one(dentry);
    if (parent != nullptr) put(*parent);
    ++pruned_;
    ++freed;
  }
  return freed;
}

u64 DentryCache::scan_objects(const ShrinkControl& control) {
  if (!control.may_enter_fs || !allocator_->may_enter_fs()) return 0;
  const u64 freed = prune(control.nr_to_scan);
  if (freed != 0) shrink_slabs();
  return freed;
}

void DentryCache::shrink_slabs() {
  (void)objects_.shrink();
  (void)names_.shrink();
}

DentryCache::Stats DentryCache::stats() const {
  return {.dentries = count_,
          .unused = unused_count_,
          .negative = negative_,
          .hits = hits_,
          .misses = misses_,
          .pruned = pruned_};
}

namespace {

// What can be seen of one dentry alone. Children count as references.
bool dentry_valid(const Dentry& d) {
  u64 children = 0;
  for (const Dentry *c = d.children, *before = nullptr; c != nullptr;
       before = c, c = c->sibling_next) {
    if (c->parent != &d || c->sibling_prev != before) return false;
    ++children;
  }
  if (children > d.count) return false;
  if (d.is(DentryFlag::unused) != (d.count == 0)) return false;
  if (d.count == 0 && !d.is(DentryFlag::hashed)) return false;
  if (d.negative()) return children == 0 || !d.is(DentryFlag::hashed);
  bool alias = false;
  for (const Dentry* a = d.inode->aliases; a != nullptr; a = a->alias_next) {
    if (a->inode != d.inode) return false;
    alias = alias || a == &d;
  }
  if (d.inode->is_directory() && d.inode->aliases->alias_next != nullptr) return false;
  return alias && d.inode->count != 0;
}

}  // namespace

bool DentryCache::validate() const {
  u64 unused = 0;
  const Dentry* before = nullptr;
  for (const Dentry* d = unused_head_; d != nullptr; before = d, d = d->next) {
    if (++unused > unused_count_ || d->prev != before) return false;
    if (!dentry_valid(*d) || !d->is(DentryFlag::unused)) return false;
  }
  if (unused != unused_count_ || unused_tail_ != before) return false;
  u64 hashed = 0;
  for (u64 b = 0; b <= hash_mask_; ++b) {
    for (const Dentry* d = hash_[b]; d != nullptr; d = d->hash_next) {
      if (++hashed > count_ || !d->is(DentryFlag::hashed) || !dentry_valid(*d)) return false;
      if (d->hash != hash_of(d->parent, d->name()) || (d->hash & hash_mask_) != b) return false;
      if (d->parent->negative() || !d->parent->inode->is_directory()) return false;
      for (const Dentry* other = d->hash_next; other != nullptr; other = other->hash_next) {
        if (other->parent == d->parent && other->name() == d->name()) return false;
      }
    }
  }
  return objects_.objects_active() == count_ && objects_.validate() && names_.validate();
}

}  // namespace spillway
