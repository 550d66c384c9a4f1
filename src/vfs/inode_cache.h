// InodeCache: the inodes in memory, found by file system and number (MECHANISMS 14.2).
//
// An inode is in use (count > 0), or unused but findable, until memory is short; a dirty one is on
// the dirty list, used or not, in the order in which they became dirty; a deleted one waits for the
// end of its transfers. A scan writes dirty inodes first, then takes unused ones from the least
// recent end; one that was looked up while unused is spared once, one with cached pages stays: its
// pages go first.
//
// Invariants: IC1 an inode is on exactly one list, which follows from its state and count; IC2 the
// hash finds exactly the inodes that are there; IC3 the dirty list is sorted by time; IC4 a
// file system is entered only where it may be (PageAllocator::may_enter_fs).
// Cost: get, put O(1) but for the file system's part. Thread safety: the engine lock.
#pragma once

#include "machine/machine.h"
#include "page/shrinker.h"
#include "pagecache/page_cache.h"
#include "vfs/file_system.h"
#include "vfs/flush_source.h"

namespace spillway {

class InodeCache final : public Shrinker, public FlushSource {
 public:
  static constexpr u64 kWriteAfterNs = kFlushAfterNs;  // age of a dirty inode when it is written
  static constexpr u32 kScanWriteMax = 64;             // dirty inodes that one scan writes

  struct Stats {
    u64 inodes = 0;
    u64 in_use = 0;
    u64 unused = 0;
    u64 dirty = 0;
    u64 deleted = 0;  // waiting for transfers
    u64 hits = 0;
    u64 misses = 0;
    u64 written = 0;
    u64 pruned = 0;
  };

  // 2^hash_bits buckets of boot memory. no_memory.
  Status init(Machine& machine, PageCache& pages, PageAllocator& allocator,
              const Observer& observer, u32 hash_bits);

  // The inode, held. One that is not in memory is read. no_entry: no such inode, or it is being
  // deleted; else what read_inode says.
  Result<Inode*> get(FileSystem& fs, u64 number);
  // The inode if it is in memory, not held; null otherwise.
  Inode* find(const FileSystem& fs, u64 number) const;
  // Memory for an inode that is about to be made, so that taking it into the cache cannot fail.
  Result<Inode*> reserve();
  void give_back(Inode& reserved);
  // As get, for an inode that was just made. Takes `reserved`.
  Result<Inode*> get_new(FileSystem& fs, u64 number, Inode& reserved);

  void hold(Inode& inode);
  // The last put of an inode without a name deletes it, now or when its transfers have ended.
  void put(Inode& inode);

  void mark_dirty(Inode& inode);
  // Stores the inode now if it is dirty. It stays dirty when that fails.
  Status write(Inode& inode);
  // Stores all inodes of a file system that became dirty at `dirtied_until` or before. wait; the
  // first error of others, after trying all. One that fails counts as dirtied now.
  Status write_all(const FileSystem& fs, u64 dirtied_until_ns);
  // Writes up to `max` dirty inodes, the oldest first, only those of kWriteAfterNs unless `all`.
  // Returns how many. Those whose write must wait or fails stay dirty.
  u32 write_back(u32 max, u64 now_ns, bool all);
  bool write_back_due(u64 now_ns) const;
  // For the Flusher: finish_deleted, to which its time has always come, and write_back.
  u32 flush(u32 max, u64 now_ns, bool all) override {
    (void)finish_deleted();
    return write_back(max, now_ns, all);
  }
  u64 next_flush_ns() const override {
    if (deleted_.head != nullptr) return 0;
    return dirty_.head == nullptr ? ~u64{0} : dirty_.head->dirtied_ns + kWriteAfterNs;
  }
  // Ends deleted inodes whose transfers have ended; returns how many are left.
  u64 finish_deleted();

  // Frees up to n unused inodes as the head of this file says; 0 is nothing. Returns how many.
  u64 prune(u64 n);

  const char* shrinker_name() const override { return "inode_cache"; }
  u64 count_objects() const override { return unused_.count; }
  u64 scan_objects(const ShrinkControl& control) override;
  // Gives empty slabs back.
  void shrink_slabs() { (void)objects_.shrink(); }

  Stats stats() const;
  const KmemCache& objects() const { return objects_; }
  PageAllocator& allocator() { return *allocator_; }
  SlabChain& slabs() { return pages_->slabs(); }
  // Every inode in memory; `visit` must not free any. One that it makes dirty is seen twice.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const List* list : {&in_use_, &unused_, &dirty_, &deleted_}) {
      for (Inode *inode = list->head, *next; inode != nullptr; inode = next) {
        next = inode->next;  // the visit may move it to another list
        visit(*inode);
      }
    }
  }
  // O(inodes and their pages): IC1 to IC3 and the mappings.
  bool validate() const;

 private:
  struct List {
    Inode* head = nullptr;
    Inode* tail = nullptr;
    u64 count = 0;
    void push_front(Inode& inode);
    void push_back(Inode& inode);
    void remove(Inode& inode);
  };

  List& list_of(const Inode& inode);
  void relist(Inode& inode, u32 count, u16 state);
  Inode** bucket(u64 number) const;
  void insert(Inode& inode);
  Status write_inode(Inode& inode);
  bool finish(Inode& inode);
  void release(Inode& inode);
  void free(Inode& inode);

  Machine* machine_ = nullptr;
  PageCache* pages_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  const Observer* observer_ = nullptr;
  KmemCache objects_;
  Inode** hash_ = nullptr;
  u64 hash_mask_ = 0;
  List in_use_;
  List unused_;  // most recent first
  List dirty_;   // oldest first
  List deleted_;
  u64 hits_ = 0;
  u64 misses_ = 0;
  u64 written_ = 0;
  u64 pruned_ = 0;
};

}  // namespace spillway
