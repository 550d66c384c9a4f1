#include "vfs/mem_fs.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace spillway {

Status MemFs::init(Machine& machine, PageCache& cache, FrameTable& frames,
                   const MemFsLimits& limits) {
  machine_ = &machine;
  cache_ = &cache;
  frames_ = &frames;
  limits_ = limits;
  KmemCacheConfig config = KmemCacheConfig::core("ramfs_node", sizeof(Node));
  config.several = true;
  SPW_TRY(nodes_.init(cache.slabs(), config));
  config = KmemCacheConfig::core("ramfs_entry", sizeof(Entry));
  config.several = true;
  SPW_TRY(entries_.init(cache.slabs(), config));
  config = KmemCacheConfig::core("ramfs_link", sizeof(Piece));
  config.several = true;
  SPW_TRY(pieces_.init(cache.slabs(), config));
  hash_ = static_cast<Node**>(machine.boot.alloc(sizeof(Node*) << kHashBits, 64));
  if (hash_ == nullptr) return Error::no_memory;
  SPW_TRY_ASSIGN(node, make_node({.mode = kModeDirectory | 0755}));
  node->parent = node->number;
  return kOk;
}

MemFs::Node* MemFs::find(u64 number) const {
  Node* node = *bucket(number);
  while (node != nullptr && node->number != number) node = node->hash_next;
  return node;
}

Result<MemFs::Node*> MemFs::make_node(const NewInode& made) {
  if (inodes_used_ >= limits_.inodes) return Error::no_space;
  SPW_TRY_ASSIGN(memory, nodes_.alloc(kAllocKernel));
  Node* node = new (memory) Node{};
  node->number = next_number_++;
  node->attr.mode = made.mode;
  node->attr.uid = made.uid;
  node->attr.gid = made.gid;
  node->attr.rdev = made.rdev;
  node->attr.nlink = (made.mode & kModeType) == kModeDirectory ? 2 : 1;
  node->attr.atime = node->attr.mtime = node->attr.ctime = made.now;
  node->next_position = 2;
  node->hash_next = *bucket(node->number);
  *bucket(node->number) = node;
  ++inodes_used_;
  return node;
}

void MemFs::free_node(Node& node) {
  SPW_ASSERT(node.entries == nullptr);
  while (node.target != nullptr) {
    Piece* piece = node.target;
    node.target = piece->next;
    pieces_.free(piece);
  }
  Node** at = bucket(node.number);
  while (*at != &node) at = &(*at)->hash_next;
  *at = node.hash_next;
  blocks_used_ -= node.blocks;
  --inodes_used_;
  nodes_.free(&node);
}

MemFs::Entry** MemFs::find_entry(Node& directory, Name name) {
  Entry** at = &directory.entries;
  while (*at != nullptr && !(Name{(*at)->name, (*at)->length} == name)) at = &(*at)->next;
  return at;
}

void MemFs::append(Node& directory, Entry& entry, Name name, u64 number, u32 type) {
  Entry** at = &directory.entries;
  while (*at != nullptr) at = &(*at)->next;
  entry.next = nullptr;
  entry.number = number;
  entry.position = directory.next_position++;
  entry.type = type;
  entry.length = name.length;
  std::memcpy(entry.name, name.text, name.length);
  *at = &entry;
}

void MemFs::change_links(Inode& inode, i32 by) {
  inode.attr.nlink = static_cast<u32>(static_cast<i32>(inode.attr.nlink) + by);
  mark_inode_dirty(inode);
}

Status MemFs::read_inode(Inode& inode) {
  Node* node = find(inode.number);
  if (node == nullptr) return Error::no_entry;
  inode.attr = node->attr;
  inode.mapping.size_bytes = node->size_bytes;
  inode.mapping.no_writeback = true;
  inode.fs_data[0] = reinterpret_cast<u64>(node);
  return kOk;
}

Status MemFs::write_inode(Inode& inode) {
  Node& node = node_of(inode);
  node.attr = inode.attr;
  node.size_bytes = inode.mapping.size_bytes;
  return kOk;
}

Status MemFs::delete_inode(Inode& inode) {
  free_node(node_of(inode));
  return kOk;
}

Result<u64> MemFs::lookup(Inode& directory, Name name) {
  Node& node = node_of(directory);
  if (name.is_dot()) return node.number;
  if (name.is_dot_dot()) return node.parent;
  const Entry* entry = *find_entry(node, name);
  if (entry == nullptr) return Error::no_entry;
  return entry->number;
}

Status MemFs::read_directory(Inode& directory, u64 position, DirectorySink& sink) {
  const Node& node = node_of(directory);
  if (position == 0) {
    if (!sink.entry(Name::of("."), node.number, kModeDirectory, 1)) return kOk;
    position = 1;
  }
  if (position == 1 && !sink.entry(Name::of(".."), node.parent, kModeDirectory, 2)) return kOk;
  for (const Entry* e = node.entries; e != nullptr; e = e->next) {
    if (e->position < position) continue;
    if (!sink.entry({e->name, e->length}, e->number, e->type, e->position + 1)) return kOk;
  }
  return kOk;
}

// Enters a node that was just made, or frees it.
Result<u64> MemFs::add_made(Inode& directory, Name name, Node& node) {
  const Result<void*> memory = entries_.alloc(kAllocKernel);
  if (!memory.ok()) {
    free_node(node);
    return memory.error();
  }
  const u32 type = node.attr.mode & kModeType;
  append(node_of(directory), *new (memory.value()) Entry{}, name, node.number, type);
  if (type == kModeDirectory) {
    node.parent = directory.number;
    change_links(directory, 1);
  }
  return node.number;
}

Result<u64> MemFs::create(Inode& directory, Name name, const NewInode& made) {
  if (*find_entry(node_of(directory), name) != nullptr) return Error::exists;
  SPW_TRY_ASSIGN(node, make_node(made));
  return add_made(directory, name, *node);
}

Result<u64> MemFs::symlink(Inode& directory, Name name, Name target, const NewInode& made) {
  if (*find_entry(node_of(directory), name) != nullptr) return Error::exists;
  SPW_TRY_ASSIGN(node, make_node(made));
  Piece** at = &node->target;
  for (u32 done = 0; done < target.length; at = &(*at)->next) {
    const Result<void*> memory = pieces_.alloc(kAllocKernel);
    if (!memory.ok()) {
      free_node(*node);
      return memory.error();
    }
    Piece* piece = new (memory.value()) Piece{};
    piece->length = std::min(Piece::kBytes, target.length - done);
    std::memcpy(piece->text, target.text + done, piece->length);
    done += piece->length;
    *at = piece;
  }
  node->size_bytes = target.length;
  return add_made(directory, name, *node);
}

Result<u32> MemFs::readlink(Inode& inode, char* out, u32 max) {
  u32 done = 0;
  for (const Piece* p = node_of(inode).target; p != nullptr && done < max; p = p->next) {
    const u32 n = std::min(p->length, max - done);
    std::memcpy(out + done, p->text, n);
    done += n;
  }
  return done;
}

Status MemFs::link(Inode& directory, Name name, Inode& target) {
  if (*find_entry(node_of(directory), name) != nullptr) return Error::exists;
  if (target.attr.nlink >= kLinksMax) return Error::too_many_links;
  SPW_TRY_ASSIGN(memory, entries_.alloc(kAllocKernel));
  append(node_of(directory), *new (memory) Entry{}, name, target.number, target.type());
  change_links(target, 1);
  return kOk;
}

Status MemFs::unlink(Inode& directory, Name name, Inode& target) {
  Entry** at = find_entry(node_of(directory), name);
  if (*at == nullptr || (*at)->number != target.number) return Error::no_entry;
  if (target.is_directory() && node_of(target).entries != nullptr) return Error::not_empty;
  Entry* gone = *at;
  *at = gone->next;
  entries_.free(gone);
  if (target.is_directory()) change_links(directory, -1);
  change_links(target, target.is_directory() ? -2 : -1);
  return kOk;
}

Status MemFs::rename(Inode& from, Name old_name, Inode& to, Name new_name, Inode& moved,
                     Inode* replaced) {
  Entry** at = find_entry(node_of(from), old_name);
  if (*at == nullptr || (*at)->number != moved.number) return Error::no_entry;
  if (replaced != nullptr) SPW_TRY(unlink(to, new_name, *replaced));
  at = find_entry(node_of(from), old_name);
  Entry* entry = *at;
  *at = entry->next;
  append(node_of(to), *entry, new_name, moved.number, moved.type());
  if (moved.is_directory() && &from != &to) {
    node_of(moved).parent = to.number;
    change_links(from, -1);
    change_links(to, 1);
  }
  return kOk;
}

Status MemFs::reserve_blocks(Inode& inode, u64 first, u64 count) {
  Node& node = node_of(inode);
  u64 fresh = 0;
  for (u64 i = first; i < first + count; ++i) {
    const Pfn pfn = cache_->find(inode.mapping, static_cast<u32>(i)).pfn();
    if (!pfn.valid() || !(*frames_)[pfn].has(PageFlag::dirty)) ++fresh;
  }
  if (fresh > limits_.blocks - blocks_used_) return Error::no_space;
  node.blocks += fresh;
  blocks_used_ += fresh;
  inode.attr.sectors = node.blocks * (kPageSize / 512);
  return kOk;
}

Status MemFs::truncate(Inode& inode, u64) {
  Node& node = node_of(inode);
  blocks_used_ = blocks_used_ - node.blocks + inode.mapping.nr_dirty;
  node.blocks = inode.mapping.nr_dirty;
  inode.attr.sectors = node.blocks * (kPageSize / 512);
  return kOk;
}

FileSystemStats MemFs::stats() {
  FileSystemStats s;
  s.block_size = static_cast<u32>(kPageSize);
  s.blocks = std::min(limits_.blocks, frames_->count().v);
  s.blocks_free = s.blocks_available = s.blocks - std::min(s.blocks, blocks_used_);
  s.inodes = limits_.inodes;
  s.inodes_free = limits_.inodes - inodes_used_;
  return s;
}

// Everything that is not in the cache is a hole.
Status MemFs::read_pages(Mapping&, u32, const Pfn* frames, u32 count) {
  for (u32 i = 0; i < count; ++i) {
    std::memset(machine_->frames.bytes(frames[i]), 0, kPageSize);
    cache_->read_done(frames[i], kOk);
  }
  return kOk;
}

bool MemFs::validate() const {
  u64 nodes = 0;
  u64 entries = 0;
  u64 blocks = 0;
  for (u64 b = 0; b < u64{1} << kHashBits; ++b) {
    for (const Node* n = hash_[b]; n != nullptr; n = n->hash_next) {
      if (++nodes > inodes_used_ || find(n->number) != n) return false;
      blocks += n->blocks;
      u64 position = 1;
      for (const Entry* e = n->entries; e != nullptr; e = e->next) {
        const Node* child = find(e->number);
        if (child == nullptr || e->position <= position) return false;
        if (e->type == kModeDirectory && child->parent != n->number) return false;
        position = e->position;
        ++entries;
      }
    }
  }
  return nodes == inodes_used_ && blocks == blocks_used_ && nodes == nodes_.objects_active() &&
         entries == entries_.objects_active();
}

}  // namespace spillway
