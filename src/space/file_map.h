// FileAreas: what areas that map a file do to its inode (Linux's generic vm_ops). Area::file is the
// dentry by which the file was opened, or null: then the area holds the inode alone and has no
// name. FileMaps: the same the other way round, for Vfs. Thread safety: the engine lock.
#pragma once

#include "space/space_table.h"
#include "vfs/vfs.h"

namespace spillway {

class FileAreas final : public AreaOps {
 public:
  void init(Vfs& vfs) { vfs_ = &vfs; }
  static Dentry* dentry_of(const Area& area) { return static_cast<Dentry*>(area.file); }

  void area_opened(Area& area) override {
    Inode& inode = inode_of(*area.mapping);
    if (Dentry* dentry = dentry_of(area); dentry != nullptr) {
      vfs_->hold(*dentry);
    } else {
      vfs_->hold(inode);
    }
    if (area.executable) --inode.writers;  // nobody may write a program that runs
  }
  void area_closed(Area& area) override {
    Inode& inode = inode_of(*area.mapping);
    if (area.executable) ++inode.writers;
    if (Dentry* dentry = dentry_of(area); dentry != nullptr) {
      vfs_->put(*dentry);
    } else {
      vfs_->put(inode);
    }
  }
  const char* area_name(const Area& area) const override {
    const Dentry* dentry = dentry_of(area);
    return dentry != nullptr ? dentry->name().text : "";
  }

 private:
  Vfs* vfs_ = nullptr;
};

class FileMaps final : public MappedPages {
 public:
  void init(SpaceTable& spaces) { spaces_ = &spaces; }
  void unmap(Mapping& mapping, u32 first) override { spaces_->unmap_mapping(mapping, first); }
  void collect_dirty(Mapping& mapping) override {
    for (Area* a = mapping.areas; a != nullptr; a = a->share_next) {
      a->space->collect_dirty(a->range());
    }
  }

 private:
  SpaceTable* spaces_ = nullptr;
};

}  // namespace spillway
