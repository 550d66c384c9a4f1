// FuseServer: answers the kernel's requests (FUSE 3, low-level) from a MountEngine. The operations
// are in fuse_names.cc and fuse_data.cc. Requests come on several threads of libfuse; each takes
// the engine lock for its work in the caches and answers without it.
//
// Permissions are checked by the kernel (default_permissions) with the attributes that we report.
// In the root there is a directory `.spillway` that no listing shows, with the file `stats`; a real
// entry of that name hides it for good.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "mount/engine.h"
#include "mount/node_ids.h"

namespace spillway {

struct ListedEntry {
  std::string name;
  u64 number;
  u32 type;
  u64 next;  // where the listing goes on behind it
};

// An open file or directory: what fuse_file_info::fh points to.
struct OpenFile {
  Inode* inode = nullptr;  // held; null for the statistics
  FileReadahead readahead;
  std::string text;  // of the statistics, as they were at open(2)
  // Of a directory of an image: its beginning, as it was when it was read from the start. Splits of
  // hashed blocks move entries, and a listing shows each once all the same.
  std::vector<ListedEntry> listed;
};

struct ServerConfig {
  std::string source;
  std::string mountpoint;
  bool allow_other = false;
  bool read_only = false;
  u64 kernel_cache_s = 1;
  u32 threads = 8;
};

class FuseServer {
 public:
  FuseServer(MountEngine& engine, const ServerConfig& config);
  ~FuseServer();
  FuseServer(const FuseServer&) = delete;
  FuseServer& operator=(const FuseServer&) = delete;

  // Mounts. Throws CliError.
  void mount();
  // Serves until the file system is unmounted or a signal asks for the end. False: the connection
  // broke.
  bool serve();
  void unmount();
  // Whether the statistics can be read through the mount.
  bool shows_stats() const { return shows_stats_; }
  std::string stats_text();

  // For the operations.
  static constexpr fuse_ino_t kStatsDirectory = ~u64{0} - 1;
  static constexpr fuse_ino_t kStatsFile = ~u64{0} - 2;
  static constexpr const char* kStatsDirectoryName = ".spillway";
  static constexpr const char* kStatsFileName = "stats";
  MountEngine& engine() { return engine_; }
  Vfs& vfs() { return engine_.vfs(); }
  NodeIds& ids() { return ids_; }
  double timeout() const { return static_cast<double>(config_.kernel_cache_s); }
  bool keeps_pages() const { return config_.kernel_cache_s != 0; }
  bool read_only() const { return config_.read_only; }
  struct stat stat_of(const Inode& inode) const;
  // Of our own directory and its file.
  struct stat stat_of_stats(fuse_ino_t id) const;
  bool is_stats_directory(fuse_ino_t parent, const char* name) const;
  void trim_names();
  // What is open, so that it can be closed when the kernel will not say so any more. Engine lock.
  void opened(OpenFile& file) { open_files_.insert(&file); }
  void closed(OpenFile& file) { open_files_.erase(&file); }
  // After serve(): lets go of everything that the kernel held.
  void let_go();

 private:
  static void chore(void* self) { static_cast<FuseServer*>(self)->trim_names(); }

  MountEngine& engine_;
  ServerConfig config_;
  NodeIds ids_;
  fuse_session* session_ = nullptr;
  bool mounted_ = false;
  bool shows_stats_ = true;
  std::unordered_set<OpenFile*> open_files_;
};

}  // namespace spillway
