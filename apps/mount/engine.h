// MountEngine: Spillway's caches over one file system, under one budget of RAM, for threads that
// serve requests. It owns the machine, the System, the virtual file system and the driver.
//
// There is one engine lock. run() takes it, makes a call and, while the call must wait, ends
// transfers and repeats it; transfers are made under the lock, because the arena machine's are
// synchronous. A thread of its own does what daemons do: keeps frames free, writes what is old.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "fs_host/fs_host.h"
#include "machine_arena/arena_machine.h"
#include "mount/image.h"
#include "mount/source.h"
#include "system/system_impl.h"
#include "vfs/vfs.h"

namespace spillway {

struct EngineConfig {
  SourceKind kind = SourceKind::directory;
  std::string source;
  bool read_only = false;
  u64 ram_bytes = 0;
  u32 threads = 1;  // that call run()
  u64 sync_interval_s = 5;
};

class MountEngine {
 public:
  MountEngine();
  ~MountEngine();
  MountEngine(const MountEngine&) = delete;
  MountEngine& operator=(const MountEngine&) = delete;

  // Opens the source and mounts its file system in the caches. Throws CliError.
  void open(const EngineConfig& config);
  // The daemon; started after everything that forks or restricts this process.
  void start_daemon();
  void stop_daemon();
  // Stores everything and says in the image that it is clean. Nobody calls run() any more.
  Status close();

  // A device whose writes fail leaves pages dirty, and a call that needs their memory would wait
  // for ever: it ends as io after so long.
  static constexpr u64 kCallMaxNs = 20'000'000'000;

  // Repeats `call`, which returns a Status or Result, while it returns Error::wait.
  template <class Call>
  auto run(Call call) -> decltype(call()) {
    const std::lock_guard lock(mutex_);
    const u64 begun = arena_->machine().clock.now_ns();
    for (u32 idle = 0; idle < ArenaMachine::kIdleRoundsMax;) {
      auto result = call();
      if (result.ok() || result.error() != Error::wait) {
        settle();
        return result;
      }
      if (arena_->machine().clock.now_ns() - begun > kCallMaxNs) return Error::io;
      if (complete() != 0) {
        idle = 0;
      } else {
        ++idle;
        make_progress();
      }
    }
    return Error::no_memory;  // nothing is in flight and nothing helps
  }
  // A call without a result that may wait.
  template <class Call>
  void with_lock(Call call) {
    const std::lock_guard lock(mutex_);
    call();
    settle();
  }
  // fsync(2): everything that the file needs is on the device, and durable there.
  Status fsync(Inode& inode) {
    SyncProgress progress;
    return run([&] { return vfs_->fsync(inode, progress); });
  }
  // After a write(2): the daemon is woken, or who made too many pages dirty writes some himself.
  void balance_dirty();
  // Asks the daemon to look at once.
  void wake_daemon();
  // Called by the daemon in every round, without the lock.
  void set_chore(void (*chore)(void*), void* context) {
    chore_ = chore;
    chore_context_ = context;
  }

  Vfs& vfs() { return *vfs_; }
  SystemImpl& system() { return *system_; }
  ArenaMachine& arena() { return *arena_; }
  const EngineConfig& config() const { return config_; }
  // Null when an image is served.
  FsHost* host_directory() { return host_.get(); }
  // Null when a directory is served.
  MountedImage* image() { return image_.get(); }
  // Most frames that were in use at the end of a call.
  u64 frames_used_max() const { return frames_used_max_; }

 private:
  u32 complete();
  void settle();
  void make_progress();
  void open_directory();
  void daemon();
  void daemon_round();

  EngineConfig config_;
  std::mutex mutex_;
  std::unique_ptr<ArenaMachine> arena_;
  Counters counters_{};
  EventRing events_;
  SystemImpl* system_ = nullptr;  // in boot memory
  std::unique_ptr<Vfs> vfs_;
  std::unique_ptr<FsHost> host_;
  std::unique_ptr<MountedImage> image_;
  FileSystem* fs_ = nullptr;

  std::thread thread_;
  std::mutex daemon_mutex_;
  std::condition_variable daemon_wakes_;
  bool stopping_ = false;
  bool woken_ = false;
  void (*chore_)(void*) = nullptr;
  void* chore_context_ = nullptr;
  u64 frames_used_max_ = 0;
};

}  // namespace spillway
