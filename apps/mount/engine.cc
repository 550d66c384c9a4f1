#include "mount/engine.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <new>

#include "cli/exit_codes.h"

namespace spillway {
namespace {

// Inodes of which a budget has room are several in a page; a hash of one bucket per two frames
// keeps its chains short.
u32 hash_bits_for(u64 frames) {
  u32 bits = 10;
  while (bits < 22 && (u64{1} << bits) < frames / 2) ++bits;
  return bits;
}

u64 epoch_ns(Clock& clock) {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  const u64 wall = static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
  return wall - clock.now_ns();
}

// Descriptors for the driver of directories: half of what the process may have.
u32 descriptors_for_host() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<u32>(limit.rlim_cur / 2);
}

// Rounds of background work of one turn of the daemon, so that requests are not kept waiting.
constexpr u32 kStepsMax = 32;

}  // namespace

MountEngine::MountEngine() = default;
MountEngine::~MountEngine() { stop_daemon(); }

void MountEngine::open(const EngineConfig& config) {
  config_ = config;
  const auto too_small = [&](const char* what) {
    return CliError("mount --ram", fmt::format("there is not enough memory for {}", what),
                    "give more with --ram");
  };
  arena_ = std::make_unique<ArenaMachine>();
  const ArenaConfig arena{.frames = PageCount(config.ram_bytes >> kPageShift),
                          .cpus = std::min(config.threads + 2, PageAllocator::kCpusMax)};
  if (!arena_->prepare(arena).ok()) throw too_small("the arena of frames");
  if (config.kind == SourceKind::image) {
    image_ = std::make_unique<MountedImage>(*arena_, config.source, config.read_only);
  }

  Machine& machine = arena_->machine();
  Config mm;
  mm.policy = Policy::two_list;
  mm.slots_max = 0;
  void* const memory = machine.boot.alloc(sizeof(SystemImpl), alignof(SystemImpl));
  if (memory == nullptr) throw too_small("the system");
  system_ = ::new (memory) SystemImpl(machine, mm, counters_, events_);
  if (!system_->boot().ok()) throw too_small("the system");
  while (system_->allocator.grow(PageAllocator::kGrowBatch) > 0) {
  }
  vfs_ = std::make_unique<Vfs>();
  const u32 bits = hash_bits_for(arena.frames.v);
  const VfsConfig vfs_config{
      .inode_hash_bits = bits, .dentry_hash_bits = bits + 1, .epoch_ns = epoch_ns(machine.clock)};
  if (!vfs_->init(machine, system_->cache, system_->allocator, system_->frames, system_->observer,
                  vfs_config)
           .ok()) {
    throw too_small("the tables of the caches");
  }
  system_->pageout.shrinkers().add(vfs_->dentries());
  system_->pageout.shrinkers().add(vfs_->inodes());
  system_->flusher.configure({.interval_ns = config.sync_interval_s * 1'000'000'000});
  system_->flusher.add(vfs_->inodes());
  if (image_ != nullptr) {
    image_->open(*system_);
    fs_ = &image_->fs();
  } else {
    open_directory();
  }
  const Status mounted = run([&] { return vfs_->mount(*fs_); });
  if (!mounted.ok()) {
    if (image_ != nullptr) (void)image_->close();
    throw CliError(fmt::format("mount {}", config.source),
                   fmt::format("its root directory cannot be read ({})", name_of(mounted.error())),
                   "check the image with e2fsck -fn");
  }
}

void MountEngine::open_directory() {
  host_ = std::make_unique<FsHost>();
  fs_ = host_.get();
  const FsHostConfig host{.path = config_.source.c_str(),
                          .read_only = config_.read_only,
                          .fds_max = descriptors_for_host(),
                          .set_owner = ::geteuid() == 0};
  const Status status =
      host_->init(host, system_->cache, system_->frames, arena_->machine().frames);
  if (!status.ok()) {
    throw CliError(fmt::format("mount {}", config_.source),
                   fmt::format("cannot be opened ({})", name_of(status.error())),
                   "check its permissions and that /proc is mounted");
  }
}

u32 MountEngine::complete() { return image_ != nullptr ? image_->complete() : host_->deliver(); }

// After every call: what it started ends, so that pages do not stay under write-back while nobody
// calls.
void MountEngine::settle() {
  for (u32 round = 0; round < kStepsMax && complete() != 0; ++round) {
  }
  const PageAllocator& allocator = system_->allocator;
  frames_used_max_ = std::max(frames_used_max_, allocator.online().v - allocator.free_pages().v);
}

// A call must wait but nothing is in flight: what daemons do is all that can help.
void MountEngine::make_progress() {
  (void)vfs_->inodes().finish_deleted();
  (void)system_->system.background_step();
}

Status MountEngine::close() {
  // Told once each: a second look finds what the first one left.
  const Status stored = config_.read_only ? kOk : run([&] { return vfs_->sync(); });
  Status closed = run([&] { return vfs_->unmount(); });
  const std::lock_guard lock(mutex_);
  if (image_ != nullptr) {
    const Status marked = image_->close();
    if (closed.ok()) closed = marked;
  }
  return stored.ok() ? closed : stored;
}

void MountEngine::start_daemon() {
  thread_ = std::thread([this] { daemon(); });
}

void MountEngine::stop_daemon() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(daemon_mutex_);
    stopping_ = true;
  }
  daemon_wakes_.notify_all();
  thread_.join();
}

void MountEngine::wake_daemon() {
  {
    const std::lock_guard lock(daemon_mutex_);
    woken_ = true;
  }
  daemon_wakes_.notify_all();
}

void MountEngine::daemon() {
  std::unique_lock lock(daemon_mutex_);
  while (!stopping_) {
    daemon_wakes_.wait_for(lock, std::chrono::seconds(1), [&] { return stopping_ || woken_; });
    woken_ = false;
    if (stopping_) return;
    lock.unlock();
    daemon_round();
    if (chore_ != nullptr) chore_(chore_context_);
    lock.lock();
  }
}

void MountEngine::daemon_round() {
  const std::lock_guard lock(mutex_);
  for (u32 i = 0; i < kStepsMax && system_->system.background_wanted(); ++i) {
    if (!system_->system.background_step().more) break;
    settle();
  }
  (void)vfs_->inodes().finish_deleted();
  for (u32 i = 0; i < kStepsMax && !config_.read_only && system_->flusher.wanted(); ++i) {
    const bool more = system_->flusher.step();
    settle();
    if (!more) break;
  }
  settle();
}

void MountEngine::balance_dirty() {
  (void)run([&] { return system_->flusher.balance_dirty(); });
  bool wanted = false;
  with_lock([&] { wanted = system_->flusher.wanted(); });
  if (wanted) wake_daemon();
}

}  // namespace spillway
