// Flusher: decides when dirty blocks, pages of files and inodes are written: Linux 2.4's bdflush
// and kupdate (MECHANISMS 14.4), and the part of them that a writer does himself.
//
// kupdate: every interval_ns, all that has been dirty for FlushSource::kFlushAfterNs is written.
// bdflush: woken when dirty pages are more than nfract percent of the memory that may be dirty, or
// when the policy is short of clean pages; writes the oldest things, ndirty at a time, until that
// is no longer so. balance_dirty: above nfract_sync percent the writer himself writes, and waits.
//
// Thread safety: the engine lock. Nothing sleeps: step() does one bounded piece of work.
#pragma once

#include "pagecache/page_cache.h"
#include "vfs/flush_source.h"

namespace spillway {

// Port: how much memory may be dirty. Implemented by the reclaim policies (room reclaim), each by
// what counts as available with it.
class DirtyBase {
 public:
  // Frames of which a percentage may be dirty (Linux 2.4's nr_free_buffer_pages, later
  // global_dirtyable_memory).
  virtual u64 dirtyable_pages() const = 0;
  // Whether pages must become clean before frames can become free.
  virtual bool short_of_clean_pages() const { return false; }

 protected:
  ~DirtyBase() = default;
};

// Defaults and names of vm.bdflush in Linux 2.4.0.
struct FlusherConfig {
  u32 nfract = 30;                  // percent of dirtyable memory from which bdflush runs
  u32 nfract_sync = 60;             // percent from which writers write themselves
  u32 ndirty = 64;                  // things written in one step
  u64 interval_ns = 5'000'000'000;  // of kupdate; 0: it is stopped
};

class Flusher {
 public:
  void init(Machine& machine, PageCache& cache, const DirtyBase& base, const Observer& observer);
  // `source` outlives the flusher, or leaves by remove(). kupdate asks pages of files first, which
  // are known from the start, then the sources in the order of their arrival: inodes before blocks.
  void add(FlushSource& source);
  void remove(FlushSource& source);

  // Takes effect at once; a kupdate that was stopped runs an interval from now.
  void configure(const FlusherConfig& config);
  const FlusherConfig& config() const { return config_; }

  // For who has just made something dirty, once per call of a program. Above the first limit the
  // daemon is woken; above the second one the caller has written ndirty things when this returns,
  // and wait says that he goes on only after an I/O: that he makes this call again.
  Status balance_dirty();
  // bdflush runs at its next step.
  void wake();

  // One bounded piece of both daemons' work; true if there is more that can be done at once.
  bool step();
  // Whether step() has something to do now.
  bool wanted() const;

  u64 dirty_pages() const { return cache_->file_dirty(); }
  // The limits, in pages.
  u64 background_limit() const { return base_->dirtyable_pages() * config_.nfract / 100; }
  u64 throttle_limit() const { return base_->dirtyable_pages() * config_.nfract_sync / 100; }

 private:
  // Dirty pages of all files whose backing does not keep their age.
  class FilePages final : public FlushSource {
   public:
    void init(PageCache& cache) { cache_ = &cache; }
    u32 flush(u32 max, u64 now_ns, bool all) override;
    u64 next_flush_ns() const override;

   private:
    PageCache* cache_ = nullptr;
  };

  bool over_background() const;
  bool anything_dirty() const;
  bool due(u64 now_ns) const;
  u64 transfers() const { return cache_->writeback() + cache_->reading(); }
  bool stalled() const { return stalled_at_ != 0 && transfers() >= stalled_at_; }
  u32 flush_oldest(u32 max, u64 now_ns);
  u32 flush_old(u32 max, u64 now_ns);

  Machine* machine_ = nullptr;
  PageCache* cache_ = nullptr;
  const DirtyBase* base_ = nullptr;
  const Observer* observer_ = nullptr;
  FlusherConfig config_;
  FilePages file_pages_;
  FlushSource* sources_ = nullptr;
  u32 steps_ = 0;
  u64 last_update_ns_ = 0;
  bool updating_ = false;  // kupdate has begun and could not start all writes yet
  bool woken_ = false;
  // Nothing more could be written while so many pages were in transfer: wait for the end of one of
  // them. 0: not so.
  u64 stalled_at_ = 0;
};

}  // namespace spillway
