// FsHost: a directory of the host as a file system. Names and attributes go to the host at once;
// pages are read and written with pread(2) and pwrite(2), straight from and to the frames.
//
// The tree is one file system of the host: what is mounted below the directory is refused, and no
// symbolic link is ever followed (host_nodes.h says how). Inode numbers are the host's. What others
// change in the directory meanwhile is seen when caches let go of what they remember, not before;
// whatever they do, no call leaves the tree.
//
// Inodes cannot be found by number alone: each is found by its parent and name, which lookup()
// leaves with HostNodes. fs_data is not used.
//
// Transfers are made before the call returns. The host's page cache stands below, so they rarely
// wait for a device; the ends of writes are told by deliver(), which the program calls after every
// call under the engine lock. Thread safety: the engine lock.
#pragma once

#include "fs_host/host_nodes.h"
#include "machine/frames.h"
#include "pagecache/page_cache.h"
#include "vfs/file_system.h"

namespace spillway {

struct FsHostConfig {
  const char* path = nullptr;
  bool read_only = false;
  u32 fds_max = 512;
  // Whether new files are given to who asked for them (chown), as root can.
  bool set_owner = false;
};

struct FsHostStats {
  u64 nodes = 0;        // memory of the driver's own, outside of the budget
  u64 nodes_bytes = 0;  // about
  u32 open_fds = 0;
  u64 reopened = 0;  // descriptors that were closed for want of room and opened again
};

class FsHost final : public FileSystem {
 public:
  static constexpr u32 kWritesMax = 256;  // ended and not yet told

  Status init(const FsHostConfig& config, PageCache& cache, FrameTable& frames, Frames& memory);
  // Tells the page cache of writes that have ended; returns how many.
  u32 deliver();
  FsHostStats node_stats() const;

  const char* type_name() const override { return "host"; }
  u64 root() const override { return root_number_; }
  bool read_only() const override { return config_.read_only; }
  bool finds_by_number() const override { return false; }

  Status read_inode(Inode& inode) override;
  Status write_inode(Inode& inode) override;
  void evict_inode(Inode& inode) override;
  Status delete_inode(Inode& inode) override;

  Result<u64> lookup(Inode& directory, Name name) override;
  Status read_directory(Inode& directory, u64 position, DirectorySink& sink) override;
  Result<u64> create(Inode& directory, Name name, const NewInode& made) override;
  Result<u64> symlink(Inode& directory, Name name, Name target, const NewInode& made) override;
  Result<u32> readlink(Inode& inode, char* out, u32 max) override;
  Status link(Inode& directory, Name name, Inode& target) override;
  Status unlink(Inode& directory, Name name, Inode& target) override;
  Status rename(Inode& from, Name old_name, Inode& to, Name new_name, Inode& moved,
                Inode* replaced) override;

  Status reserve_blocks(Inode& inode, u64 first, u64 count) override;
  Status truncate(Inode& inode, u64 bytes) override;
  FileSystemStats stats() override;
  Status sync(SyncTicket& ticket) override;
  Status sync_inode(Inode& inode, SyncTicket& ticket) override;

  Status read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) override;
  WriteOutcome write_page(Mapping& mapping, Pfn pfn) override;

 private:
  struct Ended {
    Pfn pfn;
    Status status;
  };

  HostNode* node_of(const Inode& inode) { return nodes_.find(inode.number); }
  Status may_write() const { return config_.read_only ? Status(Error::read_only) : kOk; }
  // The attributes as the host has them now.
  Status refresh(Inode& inode);
  Status store_times(HostNode& node, const Inode& inode);
  // What create and symlink made: found, given to its owner, known.
  Result<u64> made_known(Inode& directory, HostNode& parent, const std::string& name,
                         const NewInode& made);
  Status write_bytes(HostNode& node, const Mapping& mapping, Pfn pfn);

  FsHostConfig config_;
  HostNodes nodes_;
  PageCache* cache_ = nullptr;
  FrameTable* frames_ = nullptr;
  Frames* memory_ = nullptr;
  u64 root_number_ = 0;
  Ended ended_[kWritesMax] = {};
  u32 ended_count_ = 0;
};

}  // namespace spillway
