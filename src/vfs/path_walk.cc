// The walk along a path, component by component. Symbolic links are not followed by recursion:
// what is left of the path is put behind their target, in one of two buffers.
#include <cstring>

#include "vfs/vfs_held.h"

namespace spillway {

// Puts the link's target and behind it `rest` into the other buffer, and `*path` at its start.
Status Vfs::expand_link(Inode& link, const char* rest, const char** path) {
  char* buffer = *path >= path_ && *path < path_ + kPathMax ? path_ + kPathMax : path_;
  const u64 rest_bytes = std::strlen(rest) + 1;
  SPW_TRY_ASSIGN(length, readlink(link, buffer, kPathMax));
  if (length == 0) return Error::no_entry;
  if (length + rest_bytes > kPathMax) return Error::name_too_long;
  std::memcpy(buffer + length, rest, rest_bytes);
  *path = buffer;
  return kOk;
}

// One walk: to the last component's dentry, or with `parent_only` to its directory.
Result<PathEnd> Vfs::walk_path(Dentry& from, const char* path, bool last_link, bool parent_only) {
  if (path[0] == 0) return Error::no_entry;
  if (std::strlen(path) >= kPathMax) return Error::name_too_long;
  Held at(dentries_, path[0] == '/' ? *root_ : from);
  const char* rest = path;
  for (u32 links = 0;;) {
    while (*rest == '/') ++rest;
    if (*rest == 0) {
      if (parent_only) return Error::exists;
      return PathEnd{at.release(), {}, true};
    }
    const char* end = rest;
    while (*end != 0 && *end != '/') ++end;
    const Name name{rest, static_cast<u32>(end - rest)};
    const char* after = end;
    while (*after == '/') ++after;
    const bool slash = *end == '/';
    const bool last = *after == 0;
    if (last && parent_only) return PathEnd{at.release(), name, slash};
    SPW_TRY_ASSIGN(found, lookup_dentry(*at, name));
    Held next(dentries_, found, Held::kTaken);
    if (next->negative()) return Error::no_entry;
    Inode& inode = *next->inode;
    if (inode.is_symlink() && (!last || slash || last_link)) {
      if (++links > kLinksMax) return Error::loop;
      SPW_TRY(expand_link(inode, end, &rest));
      if (*rest == '/') at.replace(*root_);
      continue;
    }
    if ((!last || slash) && !inode.is_directory()) return Error::not_directory;
    if (last) return PathEnd{next.release(), {}, slash};
    at.replace(*next);
    rest = after;
  }
}

Result<Dentry*> Vfs::walk_dentry(Dentry& from, const char* path, bool last_link) {
  SPW_TRY_ASSIGN(end, walk_path(from, path, last_link, false));
  return end.parent;
}

Result<PathEnd> Vfs::walk_parent(Dentry& from, const char* path) {
  return walk_path(from, path, false, true);
}

Result<Inode*> Vfs::walk(Inode& from, const char* path, bool last_link) {
  if (!from.is_directory()) return Error::not_directory;
  SPW_TRY_ASSIGN(alias, dentries_.obtain_alias(from));
  Held start(dentries_, alias, Held::kTaken);
  SPW_TRY_ASSIGN(found, walk_dentry(*start, path, last_link));
  Held end(dentries_, found, Held::kTaken);
  inodes_.hold(*end->inode);
  return end->inode;
}

}  // namespace spillway
