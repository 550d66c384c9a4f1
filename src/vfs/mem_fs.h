// MemFs: a file system in memory (Linux's ramfs), with directories, links and a limit: for tests,
// and as the shortest example of a FileSystem.
//
// Its inodes, names and link targets are objects of slab caches. The contents of files are pages of
// the page cache and nowhere else: once written they are dirty for ever, so nobody reclaims them;
// a clean page is a hole, which reads as zeros and may go.
// Invariants: MF1 a node's blocks are the dirty pages of its file; MF2 link counts are the number
// of names (of a directory: 2 and its subdirectories). Thread safety: the engine lock.
#pragma once

#include "machine/machine.h"
#include "pagecache/page_cache.h"
#include "vfs/file_system.h"

namespace spillway {

struct MemFsLimits {
  u64 blocks = ~u64{0};  // pages of contents
  u64 inodes = ~u64{0};
};

class MemFs final : public FileSystem {
 public:
  static constexpr u32 kHashBits = 10;
  static constexpr u32 kLinksMax = 65000;  // names of a file, as ext4

  // Makes the root directory. no_memory.
  Status init(Machine& machine, PageCache& cache, FrameTable& frames, const MemFsLimits& limits);

  const char* type_name() const override { return "ramfs"; }
  u64 root() const override { return 1; }
  bool read_only() const override { return false; }
  Status read_inode(Inode& inode) override;
  Status write_inode(Inode& inode) override;
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
  Status sync(SyncTicket&) override { return kOk; }
  Status read_pages(Mapping& mapping, u32 index, const Pfn* frames, u32 count) override;
  WriteOutcome write_page(Mapping&, Pfn) override { return WriteOutcome::refused; }

  // O(nodes and names): MF2 and the hash.
  bool validate() const;

 private:
  struct Entry {
    Entry* next;
    u64 number;
    u64 position;
    u32 type;
    u32 length;
    char name[Name::kMax];
  };
  // A part of a symbolic link's target.
  struct Piece {
    static constexpr u32 kBytes = 240;
    Piece* next;
    u32 length;
    char text[kBytes];
  };
  struct Node {
    u64 number;
    InodeAttributes attr;
    u64 size_bytes;
    u64 blocks;
    Node* hash_next;
    Entry* entries;  // of a directory, in order of position
    u64 next_position;
    u64 parent;  // of a directory
    Piece* target;
  };

  static Node& node_of(const Inode& inode) { return *reinterpret_cast<Node*>(inode.fs_data[0]); }
  Node* find(u64 number) const;
  Node** bucket(u64 number) const { return &hash_[number & ((1U << kHashBits) - 1)]; }
  static Entry** find_entry(Node& directory, Name name);
  static void append(Node& directory, Entry& entry, Name name, u64 number, u32 type);
  Result<Node*> make_node(const NewInode& made);
  void free_node(Node& node);
  Result<u64> add_made(Inode& directory, Name name, Node& node);
  static void change_links(Inode& inode, i32 by);

  Machine* machine_ = nullptr;
  PageCache* cache_ = nullptr;
  FrameTable* frames_ = nullptr;
  KmemCache nodes_;
  KmemCache entries_;
  KmemCache pieces_;
  Node** hash_ = nullptr;
  MemFsLimits limits_;
  u64 next_number_ = 1;
  u64 inodes_used_ = 0;
  u64 blocks_used_ = 0;
};

}  // namespace spillway
