// MountedImage: an ext2, ext3 or ext4 image with its device, its buffer cache and its driver.
// Thread safety: the engine lock.
#pragma once

#include <string>

#include "fs_ext/ext_fs.h"
#include "machine_arena/arena_machine.h"
#include "system/system_impl.h"

namespace spillway {

class MountedImage final : public ExtHost {
 public:
  // `path` is locked against other processes and looked at: anything that is no image for us is
  // refused here. Throws CliError.
  MountedImage(ArenaMachine& arena, const std::string& path, bool read_only);

  // Opens the file system in the caches of `system`. Throws CliError.
  void open(SystemImpl& system);
  // Ends transfers; returns how many.
  u32 complete();
  // Marks the image clean, once nobody uses an inode of it any more.
  Status close();

  ExtFs& fs() { return fs_; }
  const BufferCache& buffers() const { return buffers_; }
  Status sync_device() override { return arena_.sync_device(device_); }

 private:
  bool complete_io() override { return complete() != 0; }
  void probe();

  ArenaMachine& arena_;
  std::string path_;
  bool read_only_;
  u32 device_ = 0;
  ExtProbe probe_;
  BufferCache buffers_;
  ExtFs fs_;
  bool open_ = false;
};

}  // namespace spillway
