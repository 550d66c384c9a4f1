#include "vfs/flusher.h"

namespace spillway {

u32 Flusher::FilePages::flush(u32 max, u64 now_ns, bool all) {
  if (!all && now_ns < kFlushAfterNs) return 0;
  return cache_->flush(max, all ? ~u64{0} : now_ns - kFlushAfterNs);
}

u64 Flusher::FilePages::next_flush_ns() const {
  const u64 oldest = cache_->oldest_dirty_ns();
  return oldest == ~u64{0} ? oldest : oldest + kFlushAfterNs;
}

void Flusher::init(Machine& machine, PageCache& cache, const DirtyBase& base,
                   const Observer& observer) {
  machine_ = &machine;
  cache_ = &cache;
  base_ = &base;
  observer_ = &observer;
  last_update_ns_ = machine.clock.now_ns();
  file_pages_.init(cache);
  add(file_pages_);
}

void Flusher::add(FlushSource& source) {
  FlushSource** at = &sources_;
  while (*at != nullptr) at = &(*at)->next_source_;
  *at = &source;
  source.next_source_ = nullptr;
}

void Flusher::remove(FlushSource& source) {
  FlushSource** at = &sources_;
  while (*at != &source) at = &(*at)->next_source_;
  *at = source.next_source_;
}

void Flusher::configure(const FlusherConfig& config) {
  if (config_.interval_ns == 0) last_update_ns_ = machine_->clock.now_ns();
  config_ = config;
  if (config.interval_ns == 0) updating_ = false;
}

bool Flusher::over_background() const { return dirty_pages() > background_limit(); }

bool Flusher::anything_dirty() const {
  for (const FlushSource* s = sources_; s != nullptr; s = s->next_source_) {
    if (s->next_flush_ns() != ~u64{0}) return true;
  }
  return false;
}

bool Flusher::due(u64 now_ns) const {
  for (const FlushSource* s = sources_; s != nullptr; s = s->next_source_) {
    if (s->next_flush_ns() <= now_ns) return true;
  }
  return false;
}

// Up to `max` dirty things, from that source first which has the oldest. One that writes nothing is
// not asked again in this step.
u32 Flusher::flush_oldest(u32 max, u64 now_ns) {
  ++steps_;
  u32 started = 0;
  while (started < max) {
    FlushSource* oldest = nullptr;
    for (FlushSource* s = sources_; s != nullptr; s = s->next_source_) {
      if (s->asked_ == steps_ || s->next_flush_ns() == ~u64{0}) continue;
      if (oldest == nullptr || s->next_flush_ns() < oldest->next_flush_ns()) oldest = s;
    }
    if (oldest == nullptr) break;
    const u32 more = oldest->flush(max - started, now_ns, true);
    if (more == 0) oldest->asked_ = steps_;
    started += more;
  }
  return started;
}

// Up to `max` things whose time has come.
u32 Flusher::flush_old(u32 max, u64 now_ns) {
  u32 started = 0;
  for (FlushSource* s = sources_; s != nullptr && started < max; s = s->next_source_) {
    if (s->next_flush_ns() <= now_ns) started += s->flush(max - started, now_ns, false);
  }
  return started;
}

void Flusher::wake() {
  if (woken_) return;
  woken_ = true;
  observer_->count(Counter::bdflush_wakeup);
}

Status Flusher::balance_dirty() {
  const u64 dirty = dirty_pages();
  const u64 background = background_limit();
  const u64 throttle = throttle_limit();
  if (dirty <= background && !base_->short_of_clean_pages()) return kOk;
  const WalkScope walk(observer_->walk, "balance_dirty", "{a} dirty pages, limits {b} and {c}",
                       dirty, background, throttle);
  observer_->step("wakeup_bdflush");
  wake();
  if (dirty <= throttle) return kOk;
  observer_->count(Counter::balance_dirty_throttled);
  const u32 started = flush_oldest(config_.ndirty, machine_->clock.now_ns());
  observer_->step("above the second limit: the writer starts {a} writes", started);
  if (dirty_pages() <= throttle) return kOk;
  // With nothing in flight waiting would not help: what is dirty cannot be written now.
  return cache_->writeback() != 0 ? Status(Error::wait) : kOk;
}

bool Flusher::step() {
  const u64 now = machine_->clock.now_ns();
  if (config_.interval_ns != 0 && now - last_update_ns_ >= config_.interval_ns) {
    last_update_ns_ = now;
    updating_ = true;
    observer_->count(Counter::kupdate_run);
  }
  u32 started = 0;
  stalled_at_ = 0;
  const bool update = updating_;
  if (update) {
    const WalkScope walk(observer_->walk, "kupdate", "{a} dirty pages", dirty_pages());
    started = flush_old(config_.ndirty, now);
    updating_ = due(now);
    observer_->step(updating_ ? "{a} writes started, more is due" : "{a} writes started", started);
  } else {
    const WalkScope walk(observer_->walk, "bdflush", "{a} dirty pages, limit {b}", dirty_pages(),
                         background_limit());
    started = flush_oldest(config_.ndirty, now);
    woken_ = over_background() || base_->short_of_clean_pages();
    observer_->step(
        woken_ ? "{a} writes started, still above the limit" : "{a} writes started: sleeps",
        started);
  }
  if (started != 0 || (update && woken_)) return updating_ || woken_;
  // The next interval or waking tries again, unless the end of a transfer comes first.
  stalled_at_ = transfers();
  if (stalled_at_ == 0) updating_ = woken_ = false;
  return false;
}

bool Flusher::wanted() const {
  if (config_.interval_ns != 0 && anything_dirty() &&
      machine_->clock.now_ns() - last_update_ns_ >= config_.interval_ns) {
    return true;
  }
  return (updating_ || woken_) && !stalled();
}

}  // namespace spillway
