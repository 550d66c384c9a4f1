#include "mount/node_ids.h"

#include <algorithm>

namespace spillway {
namespace {

constexpr u32 kGenerationShift = 32;

}  // namespace

fuse_ino_t NodeIds::id_of(const Inode& inode) const {
  const u64 root = vfs_.file_system().root();
  if (inode.number == root) return FUSE_ROOT_ID;
  if (by_number_) return (u64{inode.attr.generation} << kGenerationShift) | inode.number;
  // The number that the kernel uses for the root changes places with the root's own.
  return inode.number == FUSE_ROOT_ID ? root : inode.number;
}

Result<Inode*> NodeIds::get(fuse_ino_t id) {
  const u64 root = vfs_.file_system().root();
  if (id == FUSE_ROOT_ID) return vfs_.get(root);
  if (!by_number_) {
    if (held_.find(id) == held_.end()) return Error::stale;
    return vfs_.get(id == root ? u64{FUSE_ROOT_ID} : id);
  }
  const Result<Inode*> inode = vfs_.get(id & 0xffff'ffff);
  if (!inode.ok()) {
    return inode.error() == Error::no_entry ? Error::stale : inode.error();
  }
  if (inode.value()->attr.generation != id >> kGenerationShift) {
    vfs_.put(*inode.value());
    return Error::stale;
  }
  return inode;
}

void NodeIds::announce(Inode& inode, fuse_ino_t parent, Name name) {
  const fuse_ino_t id = id_of(inode);
  if (by_number_ || id == FUSE_ROOT_ID) {
    vfs_.put(inode);
    return;
  }
  const auto [at, fresh] = held_.try_emplace(id);
  if (fresh) {
    at->second = {1, parent, std::string(name.text, name.length),
                  by_age_.insert(by_age_.end(), id)};
    return;  // the reference is the table's now
  }
  ++at->second.times;
  at->second.parent = parent;
  at->second.name.assign(name.text, name.length);
  vfs_.put(inode);
}

void NodeIds::forget(fuse_ino_t id, u64 times) {
  const auto at = held_.find(id);
  if (at == held_.end()) return;
  if (at->second.times > times) {
    at->second.times -= times;
    return;
  }
  by_age_.erase(at->second.age);
  held_.erase(at);
  Inode* inode = vfs_.inodes().find(vfs_.file_system(),
                                    id == vfs_.file_system().root() ? u64{FUSE_ROOT_ID} : id);
  SPW_ASSERT(inode != nullptr);
  vfs_.put(*inode);
}

void NodeIds::forget_all() {
  while (!held_.empty()) {
    const fuse_ino_t id = held_.begin()->first;
    forget(id, held_.begin()->second.times);
  }
}

std::vector<NodeIds::OldName> NodeIds::old_names(u32 max) {
  std::vector<OldName> out;
  if (held_.size() <= held_max_) return out;
  const u64 over = std::min<u64>(held_.size() - held_max_ * 3 / 4, max);
  for (u64 i = 0; i < over; ++i) {
    const u64 id = by_age_.front();
    by_age_.splice(by_age_.end(), by_age_, by_age_.begin());
    const Held& held = held_.at(id);
    out.push_back({held.parent, held.name});
  }
  return out;
}

u64 NodeIds::bytes() const {
  // An entry, its bucket and its place in the order of ages.
  return held_.size() * (sizeof(Held) + 72);
}

}  // namespace spillway
