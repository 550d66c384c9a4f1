// Vfs: names. Each call finds the dentries that it needs first, which may fail or wait, then asks
// the file system once, and then changes the caches by steps that cannot fail.
#include <cstring>

#include "vfs/vfs_held.h"

namespace spillway {
namespace {

// Whether a name may be made or taken away. "." and ".." are the caller's.
Status check_name(Name name) {
  if (name.length > Name::kMax) return Error::name_too_long;
  return name.valid() ? kOk : Status(Error::invalid);
}

Status usable_directory(const Inode& inode) {
  if (!inode.is_directory()) return Error::not_directory;
  return inode.is(InodeState::bad) ? Status(Error::io) : kOk;
}

}  // namespace

// The dentry of "..".
Result<Dentry*> Vfs::parent_of(Dentry& directory) {
  if (&directory == root_ || directory.parent != nullptr) {
    Dentry& parent = &directory == root_ ? directory : *directory.parent;
    dentries_.get(parent);
    return &parent;
  }
  Result<u64> number = u64{0};
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    number = fs_->lookup(*directory.inode, Name::of(".."));
  }
  if (!number.ok()) return number.error();
  SPW_TRY_ASSIGN(inode, inodes_.get(*fs_, number.value()));
  const Result<Dentry*> alias =
      inode->is_directory() ? dentries_.obtain_alias(*inode) : Result<Dentry*>(Error::corrupt);
  inodes_.put(*inode);
  return alias;
}

// `fresh`, a dentry that no lookup finds yet, is the name of `inode`: takes over both references
// and returns the dentry to use, held. A directory keeps the one that it has.
Result<Dentry*> Vfs::adopt(Dentry& fresh, Inode& inode) {
  Dentry* alias = inode.is_directory() ? inode.aliases : nullptr;
  if (alias == nullptr) {
    dentries_.instantiate(fresh, inode);
    dentries_.add(fresh);
    return &fresh;
  }
  Held name(dentries_, &fresh, Held::kTaken);
  Held known(dentries_, *alias);
  inodes_.put(inode);
  // A directory that is found below itself: the file system is damaged.
  for (const Dentry* d = fresh.parent; d != nullptr; d = d->parent) {
    if (d == alias) return Error::corrupt;
  }
  if (alias == root_) return Error::corrupt;
  dentries_.move(*alias, fresh);
  return known.release();
}

Result<Dentry*> Vfs::lookup_dentry(Dentry& directory, Name name) {
  SPW_TRY(usable_directory(*directory.inode));
  if (name.is_dot()) {
    dentries_.get(directory);
    return &directory;
  }
  if (name.is_dot_dot()) return parent_of(directory);
  SPW_TRY(check_name(name));
  if (Dentry* known = dentries_.lookup(directory, name); known != nullptr) return known;
  if (directory.inode->attr.nlink == 0) return Error::no_entry;
  SPW_TRY_ASSIGN(made, dentries_.alloc(directory, name));
  Held fresh(dentries_, made, Held::kTaken);
  Result<u64> number = u64{0};
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    number = fs_->lookup(*directory.inode, name);
  }
  if (!number.ok()) {
    if (number.error() != Error::no_entry) return number.error();
    dentries_.add(*fresh);
    return fresh.release();
  }
  const Result<Inode*> inode = inodes_.get(*fs_, number.value());
  if (!inode.ok()) {
    // A name of an inode that is not there.
    return inode.error() == Error::no_entry ? Error::corrupt : inode.error();
  }
  return adopt(*fresh.release(), *inode.value());
}

Result<Inode*> Vfs::get(u64 number) { return inodes_.get(*fs_, number); }

Result<Inode*> Vfs::lookup(Inode& directory, Name name) {
  SPW_TRY(usable_directory(directory));
  SPW_TRY_ASSIGN(alias, dentries_.obtain_alias(directory));
  Held parent(dentries_, alias, Held::kTaken);
  SPW_TRY_ASSIGN(found, lookup_dentry(*parent, name));
  Held dentry(dentries_, found, Held::kTaken);
  if (dentry->negative()) return Error::no_entry;
  inodes_.hold(*dentry->inode);
  return dentry->inode;
}

void Vfs::touch_changed(Inode& inode) {
  inode.attr.ctime = now();
  inodes_.mark_dirty(inode);
}

void Vfs::touch_directory(Inode& directory) {
  directory.attr.mtime = now();
  touch_changed(directory);
}

Result<Inode*> Vfs::make(Inode& directory, Name name, const Name* target, const NewInode& made) {
  SPW_TRY(usable_directory(directory));
  if (name.is_dot() || name.is_dot_dot()) return Error::exists;
  SPW_TRY(check_name(name));
  SPW_TRY_ASSIGN(alias, dentries_.obtain_alias(directory));
  Held parent(dentries_, alias, Held::kTaken);
  SPW_TRY_ASSIGN(found, lookup_dentry(*parent, name));
  Held dentry(dentries_, found, Held::kTaken);
  if (!dentry->negative()) {
    Inode& there = *dentry->inode;
    if (made_ == 0 || made_ != there.number || made_in_ != directory.number) return Error::exists;
    made_ = made_in_ = 0;
    inodes_.hold(there);
    return &there;
  }
  if (fs_->read_only()) return Error::read_only;
  (void)inodes_.finish_deleted();
  SPW_TRY_ASSIGN(reserved, inodes_.reserve());
  Result<u64> number = u64{0};
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    number = target != nullptr ? fs_->symlink(directory, name, *target, made)
                               : fs_->create(directory, name, made);
  }
  if (!number.ok()) {
    inodes_.give_back(*reserved);
    return number.error();
  }
  touch_directory(directory);
  const Result<Inode*> inode = inodes_.get_new(*fs_, number.value(), *reserved);
  if (!inode.ok()) {
    // Against the contract of create(). The name is there all the same.
    dentries_.drop(*dentry);
    made_in_ = directory.number;
    made_ = number.value();
    return inode.error();
  }
  inodes_.hold(*inode.value());
  dentries_.instantiate(*dentry, *inode.value());
  return inode;
}

Result<Inode*> Vfs::create(Inode& directory, Name name, const NewInode& made) {
  const u32 type = made.mode & kModeType;
  if (type == kModeSymlink || type == 0) return Error::invalid;
  return make(directory, name, nullptr, made);
}

Result<Inode*> Vfs::symlink(Inode& directory, Name name, Name target, const NewInode& made) {
  if (target.length == 0) return Error::no_entry;
  if (target.length >= kPathMax) return Error::name_too_long;
  if (std::memchr(target.text, 0, target.length) != nullptr) return Error::invalid;
  NewInode link = made;
  link.mode = kModeSymlink | 0777;
  return make(directory, name, &target, link);
}

Result<u32> Vfs::readlink(Inode& inode, char* out, u32 max) {
  if (!inode.is_symlink()) return Error::invalid;
  if (inode.is(InodeState::bad)) return Error::io;
  const PageAllocator::NoFs no_fs(*allocator_);
  return fs_->readlink(inode, out, max);
}

Status Vfs::link(Inode& directory, Name name, Inode& target) {
  SPW_TRY(usable_directory(directory));
  if (name.is_dot() || name.is_dot_dot()) return Error::exists;
  SPW_TRY(check_name(name));
  if (target.is_directory()) return Error::perm;
  if (target.is(InodeState::bad)) return Error::io;
  if (target.attr.nlink == 0) return Error::no_entry;
  SPW_TRY_ASSIGN(alias, dentries_.obtain_alias(directory));
  Held parent(dentries_, alias, Held::kTaken);
  SPW_TRY_ASSIGN(found, lookup_dentry(*parent, name));
  Held dentry(dentries_, found, Held::kTaken);
  if (!dentry->negative()) return Error::exists;
  if (fs_->read_only()) return Error::read_only;
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    SPW_TRY(fs_->link(directory, name, target));
  }
  inodes_.hold(target);
  dentries_.instantiate(*dentry, target);
  touch_changed(target);
  touch_directory(directory);
  return kOk;
}

Status Vfs::remove(Inode& directory, Name name, bool wants_directory) {
  SPW_TRY(usable_directory(directory));
  if (name.is_dot()) return wants_directory ? Error::invalid : Error::is_directory;
  if (name.is_dot_dot()) return wants_directory ? Error::not_empty : Error::is_directory;
  SPW_TRY(check_name(name));
  SPW_TRY_ASSIGN(alias, dentries_.obtain_alias(directory));
  Held parent(dentries_, alias, Held::kTaken);
  SPW_TRY_ASSIGN(found, lookup_dentry(*parent, name));
  Held dentry(dentries_, found, Held::kTaken);
  if (dentry->negative()) return Error::no_entry;
  Inode& target = *dentry->inode;
  if (wants_directory != target.is_directory()) {
    return wants_directory ? Error::not_directory : Error::is_directory;
  }
  if (fs_->read_only()) return Error::read_only;
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    SPW_TRY(fs_->unlink(directory, name, target));
  }
  touch_directory(directory);
  touch_changed(target);
  if (wants_directory) dentries_.prune_below(*dentry);
  dentries_.removed(*dentry);
  return kOk;
}

Status Vfs::unlink(Inode& directory, Name name) { return remove(directory, name, false); }
Status Vfs::rmdir(Inode& directory, Name name) { return remove(directory, name, true); }

// Whether the directory is `ancestor` or lies below it.
Result<bool> Vfs::is_below(Dentry& directory, const Inode& ancestor) {
  Held at(dentries_, directory);
  for (u32 levels = 0; levels < kAncestorsMax; ++levels) {
    if (at->inode == &ancestor) return true;
    if (&*at == root_ || at->inode == root_->inode) return false;
    SPW_TRY_ASSIGN(parent, parent_of(*at));
    Held above(dentries_, parent, Held::kTaken);
    at.replace(*above);
  }
  return Error::loop;
}

Status Vfs::rename(Inode& from, Name old_name, Inode& to, Name new_name, bool noreplace) {
  SPW_TRY(usable_directory(from));
  SPW_TRY(usable_directory(to));
  for (const Name name : {old_name, new_name}) {
    if (name.is_dot() || name.is_dot_dot()) return Error::busy;
    SPW_TRY(check_name(name));
  }
  SPW_TRY_ASSIGN(from_alias, dentries_.obtain_alias(from));
  Held source(dentries_, from_alias, Held::kTaken);
  SPW_TRY_ASSIGN(to_alias, dentries_.obtain_alias(to));
  Held target(dentries_, to_alias, Held::kTaken);
  SPW_TRY_ASSIGN(found_old, lookup_dentry(*source, old_name));
  Held old_dentry(dentries_, found_old, Held::kTaken);
  if (old_dentry->negative()) return Error::no_entry;
  SPW_TRY_ASSIGN(found_new, lookup_dentry(*target, new_name));
  Held new_dentry(dentries_, found_new, Held::kTaken);
  Inode& moved = *old_dentry->inode;
  Inode* replaced = new_dentry->inode;
  if (&from != &to) {
    if (moved.is_directory()) {
      SPW_TRY_ASSIGN(below, is_below(*target, moved));
      if (below) return Error::invalid;
    }
    if (replaced != nullptr && replaced->is_directory() && !noreplace) {
      SPW_TRY_ASSIGN(below, is_below(*source, *replaced));
      if (below) return Error::not_empty;
    }
  }
  if (replaced != nullptr) {
    if (noreplace) return Error::exists;
    if (replaced == &moved) return kOk;
    if (moved.is_directory() != replaced->is_directory()) {
      return moved.is_directory() ? Error::not_directory : Error::is_directory;
    }
  }
  if (fs_->read_only()) return Error::read_only;
  {
    const PageAllocator::NoFs no_fs(*allocator_);
    SPW_TRY(fs_->rename(from, old_name, to, new_name, moved, replaced));
  }
  touch_directory(from);
  if (&from != &to) touch_directory(to);
  touch_changed(moved);
  if (replaced != nullptr) {
    touch_changed(*replaced);
    if (replaced->is_directory()) dentries_.prune_below(*new_dentry);
  }
  dentries_.move(*old_dentry, *new_dentry);
  return kOk;
}

Status Vfs::read_directory(Inode& directory, u64 position, DirectorySink& sink) {
  SPW_TRY(usable_directory(directory));
  if (directory.attr.nlink == 0) return kOk;
  const PageAllocator::NoFs no_fs(*allocator_);
  return fs_->read_directory(directory, position, sink);
}

}  // namespace spillway
