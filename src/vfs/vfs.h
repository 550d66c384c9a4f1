// Vfs: the calls on one mounted file system, through the dentry, inode and page caches. Kernel
// (by process and path) and `spillway mount` (by inode number) are its callers.
//
// Who gets an Inode* or a Dentry* holds a reference and gives it back by put(). Names are checked
// here (invalid, name_too_long); permissions are not: they are the caller's business. Calls return
// Error::wait as FileSystem says: call again with the same arguments. A call that was given up
// while it waited leaves nothing behind. Thread safety: the engine lock.
#pragma once

#include "vfs/dentry_cache.h"
#include "vfs/readahead.h"

namespace spillway {

struct VfsConfig {
  u32 inode_hash_bits = 14;  // buckets: 2^bits, in boot memory
  u32 dentry_hash_bits = 15;
  u64 epoch_ns = 0;  // what to add to the machine's clock to get the time of day
};

struct VfsStats {
  u64 dentries = 0;
  u64 dentries_unused = 0;
  u64 dentries_negative = 0;
  u64 dentry_hits = 0;
  u64 dentry_misses = 0;
  u64 dentries_pruned = 0;
  u64 inodes = 0;
  u64 inodes_unused = 0;
  u64 inodes_dirty = 0;
  u64 inode_hits = 0;
  u64 inode_misses = 0;
  u64 inodes_pruned = 0;
  u64 inodes_written = 0;
};

// What set_attributes changes.
struct AttributeChange {
  bool mode = false, uid = false, gid = false, atime = false, mtime = false, ctime = false;
  InodeAttributes to{};
};

// Where a path ends: the directory, held, and the last name in it, whose bytes are good until the
// next walk.
struct PathEnd {
  Dentry* parent = nullptr;
  Name last;
  bool slash = false;  // a '/' follows: only a directory will do
};

// Port: the pages of files that programs have mapped. Implemented by room system over room space.
class MappedPages {
 public:
  // Takes pages from `first` on away from all programs.
  virtual void unmap(Mapping& mapping, u32 first) = 0;
  // Moves the dirty bits of page tables to the pages.
  virtual void collect_dirty(Mapping& mapping) = 0;

 protected:
  ~MappedPages() = default;
};

class Vfs {
 public:
  static constexpr u32 kLinksMax = 40;        // symbolic links of one walk, as Linux
  static constexpr u32 kPathMax = 4096;       // bytes of a path with its zero (PATH_MAX)
  static constexpr u32 kAncestorsMax = 4096;  // levels between a directory and the root
  static constexpr u64 kSizeMax = u64{0xffff'fffe} << kPageShift;  // page numbers have 32 bits

  Status init(Machine& machine, PageCache& cache, PageAllocator& allocator, FrameTable& frames,
              const Observer& observer, const VfsConfig& config);
  void set_mapped_pages(MappedPages& mapped) { mapped_ = &mapped; }
  // Reads the root directory; comes before all other calls. wait, and what read_inode says.
  Status mount(FileSystem& fs);
  // Stores everything and lets go of it. busy: somebody holds an inode. Otherwise as sync().
  Status unmount();
  bool mounted() const { return root_ != nullptr; }
  Inode& root() { return *root_->inode; }
  Dentry& root_dentry() { return *root_; }

  // The inode by number: from the inode cache, or read. no_entry: no such inode.
  Result<Inode*> get(u64 number);
  void hold(Inode& inode) { inodes_.hold(inode); }
  void put(Inode& inode) { inodes_.put(inode); }

  // --- Names. Each directory is held by the caller.
  // From the dentry cache, or asked of the file system; that there is none is remembered too.
  // "." and ".." work. no_entry, not_directory.
  Result<Inode*> lookup(Inode& directory, Name name);
  // By components, following symbolic links (at most 40: loop). `last_link`: also one at the end.
  Result<Inode*> walk(Inode& from, const char* path, bool last_link);
  Result<Inode*> create(Inode& directory, Name name, const NewInode& made);
  Result<Inode*> symlink(Inode& directory, Name name, Name target, const NewInode& made);
  Result<u32> readlink(Inode& inode, char* out, u32 max);
  Status link(Inode& directory, Name name, Inode& target);
  Status unlink(Inode& directory, Name name);  // is_directory
  Status rmdir(Inode& directory, Name name);   // not_directory, not_empty
  // As renameat2 with `noreplace`: exists. invalid: a directory into itself.
  Status rename(Inode& from, Name old_name, Inode& to, Name new_name, bool noreplace);
  Status read_directory(Inode& directory, u64 position, DirectorySink& sink);

  // --- The same by dentries, for who keeps the name of what he opened.
  // The name's dentry, held; it may be negative. "." and ".." work.
  Result<Dentry*> lookup_dentry(Dentry& directory, Name name);
  // As walk; never a negative one.
  Result<Dentry*> walk_dentry(Dentry& from, const char* path, bool last_link);
  // Walks all but the last name. The last one may be "." or ".."; a path of slashes alone: exists.
  Result<PathEnd> walk_parent(Dentry& from, const char* path);
  void hold(Dentry& dentry) { dentries_.get(dentry); }
  void put(Dentry& dentry) { dentries_.put(dentry); }

  // --- Contents, through the page cache; `done` carries progress over wait: pass 0 first.
  // Bytes read; fewer at the end of file or before an error. file_too_big: behind kSizeMax.
  Result<u64> read(Inode& inode, FileReadahead& ra, u64 offset, u8* out, u64 bytes, u64* done);
  // Bytes written; fewer before an error. Space on the device is had before this returns.
  Result<u64> write(Inode& inode, u64 offset, const u8* data, u64 bytes, u64* done);
  Status set_size(Inode& inode, u64 bytes);
  Status set_attributes(Inode& inode, const AttributeChange& change);
  // Writes the file's pages, then its attributes, then what the file system needs for them, and
  // waits. Errors as PageCache::sync. `progress`: fresh at first, kept over wait. Nothing that
  // becomes dirty after the first call holds it.
  Status fsync(Inode& inode, SyncProgress& progress);
  // All pages, inodes and blocks that are dirty when the sync begins. `ticket` in the same way.
  Status sync(SyncTicket& ticket);
  // The same, begun anew by each repetition (SyncRounds): for who is alone.
  Status fsync(Inode& inode) {
    SyncProgress progress;
    return fsync(inode, progress);
  }
  Status sync() {
    SyncTicket ticket;
    return sync(ticket);
  }

  FileSystem& file_system() { return *fs_; }
  InodeCache& inodes() { return inodes_; }
  const InodeCache& inodes() const { return inodes_; }
  DentryCache& dentries() { return dentries_; }
  const DentryCache& dentries() const { return dentries_; }
  FileTime now() const;
  VfsStats stats() const;
  // O(all): the caches' invariants. At quiescence.
  bool validate() const;

 private:
  class Held;  // a dentry reference that ends with its scope

  // vfs.cc
  enum class SyncStage : u8 { none, pages, inodes, blocks };
  void begin_sync();
  void sync_failed(Status status);
  bool push_sync();

  // vfs_names.cc
  Result<Dentry*> parent_of(Dentry& directory);
  Result<Dentry*> adopt(Dentry& fresh, Inode& inode);
  Result<bool> is_below(Dentry& directory, const Inode& ancestor);
  Result<Inode*> make(Inode& directory, Name name, const Name* target, const NewInode& made);
  Status remove(Inode& directory, Name name, bool wants_directory);
  void touch_directory(Inode& directory);
  void touch_changed(Inode& inode);

  // path_walk.cc
  Result<PathEnd> walk_path(Dentry& from, const char* path, bool last_link, bool parent_only);
  Status expand_link(Inode& link, const char* rest, const char** path);

  // vfs_io.cc
  u8* bytes_of(Pfn pfn) const;
  Status read_missing(Inode& inode, FileReadahead& ra, u32 index);
  void read_ahead(Inode& inode, FileReadahead& ra, u32 index);
  Result<Pfn> page_to_write(Inode& inode, u32 index, bool replaces_all, bool zero, bool* fresh);
  Result<Pfn> begin_write(Inode& inode, u32 index, bool replaces_all, bool zero);
  void grow_to(Inode& inode, u64 size);
  Status cut(Inode& inode, u64 bytes);
  Status finish_truncate(Inode& inode);
  void written(Inode& inode);
  Status fsync_step(Inode& inode, SyncProgress& progress);

  Machine* machine_ = nullptr;
  PageCache* cache_ = nullptr;
  PageAllocator* allocator_ = nullptr;
  FrameTable* frames_ = nullptr;
  const Observer* observer_ = nullptr;
  MappedPages* mapped_ = nullptr;
  FileSystem* fs_ = nullptr;
  // The round of syncs that goes on, unless its stage is none.
  SyncRounds syncs_;
  SyncStage sync_stage_ = SyncStage::none;
  u64 sync_pages_ended_ns_ = 0;
  SyncTicket sync_blocks_;
  Status sync_error_ = kOk;  // of the last rounds, not told yet
  VfsConfig config_;
  InodeCache inodes_;
  DentryCache dentries_;
  Dentry* root_ = nullptr;
  char* path_ = nullptr;  // two buffers of kPathMax for links on the way, in boot memory
  // A file was made, but its inode had to wait: the repeated call takes it.
  u64 made_in_ = 0;
  u64 made_ = 0;
};

// Makes bytes of the cached page behind the end of file zero; false if they were. For file systems,
// before such a page is written.
bool zero_tail(const PageCache& cache, FrameTable& frames, Machine& machine, const Mapping& mapping,
               u64 size_bytes);

}  // namespace spillway
