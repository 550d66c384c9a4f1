// FileAreas: what areas that map a file do to its inode (Linux's generic vm_ops).
// Thread safety: the engine lock.
#pragma once

#include "space/area.h"
#include "vfs/file_store.h"

namespace spillway {

class FileAreas final : public AreaOps {
 public:
  void init(FileStore& files) { files_ = &files; }
  static StoreInode& inode_of(const Mapping& mapping) {
    return *static_cast<StoreInode*>(mapping.host);
  }

  void area_opened(Area& area) override {
    StoreInode& inode = inode_of(*area.mapping);
    files_->get(inode);
    if (area.executable) --inode.writers;  // nobody may write a program that runs
  }
  void area_closed(Area& area) override {
    StoreInode& inode = inode_of(*area.mapping);
    if (area.executable) ++inode.writers;
    files_->put(inode);
  }
  const char* area_name(const Area& area) const override { return inode_of(*area.mapping).name; }

 private:
  FileStore* files_ = nullptr;
};

}  // namespace spillway
