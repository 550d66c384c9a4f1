// DentryCache: names in memory, found by parent and name (MECHANISMS 14.1).
//
// put() of the last reference moves a dentry to the head of the list of unused ones; a lookup takes
// it off again at no cost and marks it referenced. A scan takes from the tail; a referenced one
// loses the mark and goes back to the head, which costs one of the budget like a freed one. Freeing
// a dentry puts its inode and its parent, which may follow: in a loop, however deep the tree.
//
// Invariants: DC1 on the unused list exactly if count is 0; every other dentry is in use; DC2 a
// dentry with a parent is among its children, and holds one reference of it; DC3 no two hashed
// dentries have one parent and name; DC4 a dentry is an alias of its inode; a directory has one
// alias that lookups find.
// Cost: lookup, put O(1). Thread safety: the engine lock.
#pragma once

#include "vfs/dentry.h"
#include "vfs/inode_cache.h"

namespace spillway {

class DentryCache final : public Shrinker {
 public:
  struct Stats {
    u64 dentries = 0;
    u64 unused = 0;
    u64 negative = 0;
    u64 hits = 0;
    u64 misses = 0;
    u64 pruned = 0;
  };

  // 2^hash_bits buckets of boot memory. no_memory.
  Status init(Machine& machine, InodeCache& inodes, PageAllocator& allocator,
              const Observer& observer, u32 hash_bits);

  // A root for `inode`, of which the caller's reference is taken over. Held.
  Result<Dentry*> alloc_root(Inode& inode);
  // A negative dentry, held, that lookups do not find before add(). The name has 1 to 255 bytes.
  Result<Dentry*> alloc(Dentry& parent, Name name);
  // Lookups find it from now on. None of this name is there.
  void add(Dentry& dentry);
  // A negative dentry becomes the name of `inode`; takes over the caller's reference.
  void instantiate(Dentry& dentry, Inode& inode);
  // The dentry, held, negative or not; null on a miss.
  Dentry* lookup(Dentry& parent, Name name);
  // The directory's dentry, held: the one there is, or a disconnected one.
  Result<Dentry*> obtain_alias(Inode& directory);

  void get(Dentry& dentry);
  void put(Dentry& dentry);
  // Lookups do not find it any more; it goes with its last reference.
  void drop(Dentry& dentry);
  // The name was removed from its directory (d_delete). Held by the caller only, it turns negative;
  // otherwise it is dropped.
  void removed(Dentry& dentry);
  // `moved` takes the place and the name of `target`, which is dropped (d_move). Both are held by
  // the caller; `moved` may be disconnected. Never fails.
  void move(Dentry& moved, Dentry& target);
  // Frees the unused descendants of a dentry that the caller holds (shrink_dcache_parent).
  void prune_below(Dentry& dentry);

  // Looks at up to n unused dentries from the tail, as the head of this file says; 0 is nothing.
  // Returns how many were freed.
  u64 prune(u64 n);

  const char* shrinker_name() const override { return "dentry_cache"; }
  u64 count_objects() const override { return unused_count_; }
  // shrink_dcache_memory: nothing where no file system may be entered, because freeing a dentry may
  // end an inode. Empty slabs go back to the page allocator.
  u64 scan_objects(const ShrinkControl& control) override;
  void shrink_slabs();

  Stats stats() const;
  const KmemCache& objects() const { return objects_; }
  const KmemCache& long_names() const { return names_; }
  // O(dentries): DC1 to DC4.
  bool validate() const;

 private:
  static u32 hash_of(const Dentry* parent, Name name);
  Dentry** bucket(u32 hash) const { return &hash_[hash & hash_mask_]; }
  Result<Dentry*> make(Name name);
  void link_child(Dentry& parent, Dentry& child);
  void unlink_child(Dentry& child);
  void link_alias(Dentry& dentry, Inode& inode);
  Inode* unlink_alias(Dentry& dentry);
  void enter_unused(Dentry& dentry);
  void leave_unused(Dentry& dentry);
  // Frees a dentry with count 0 and returns its parent, whose reference is the caller's.
  Dentry* free_one(Dentry& dentry);
  void swap_names(Dentry& a, Dentry& b);

  InodeCache* inodes_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  const Observer* observer_ = nullptr;
  KmemCache objects_;
  KmemCache names_;
  Dentry** hash_ = nullptr;
  u32 hash_mask_ = 0;
  u32 last_number_ = 0;
  Dentry* unused_head_ = nullptr;
  Dentry* unused_tail_ = nullptr;
  u64 unused_count_ = 0;
  u64 count_ = 0;
  u64 negative_ = 0;
  u64 hits_ = 0;
  u64 misses_ = 0;
  u64 pruned_ = 0;
};

}  // namespace spillway
