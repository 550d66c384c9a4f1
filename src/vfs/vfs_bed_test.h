// VfsBed: a Vfs over a file system in memory, on the floor of EvictingBed.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "vfs/file_bed_test.h"
#include "vfs/mem_fs.h"
#include "vfs/vfs.h"

namespace spillway {

// What read_directory tells, and the calls that it took with room for `room` entries each.
struct Listing final : DirectorySink {
  bool entry(Name name, u64 ino, u32, u64 next) override {
    if (left == 0) return false;
    --left;
    position = next;
    names.push_back(std::string(name.text, name.length));
    numbers.push_back(ino);
    return true;
  }
  u32 left = 0;
  u64 position = 0;
  std::vector<std::string> names;
  std::vector<u64> numbers;
};

struct VfsBed : EvictingBed {
  explicit VfsBed(u64 frame_count = 4096, MemFsLimits limits = {})
      : EvictingBed(config_of(frame_count, 64)) {
    EXPECT_TRUE(mem.init(sim.machine(), cache, frames, limits).ok());
    EXPECT_TRUE(vfs.init(sim.machine(), cache, allocator, frames, observer,
                         {.inode_hash_bits = 6, .dentry_hash_bits = 6})
                    .ok());
    EXPECT_TRUE(vfs.mount(mem).ok());
  }
  Inode& root() { return vfs.root(); }
  static Name name(const std::string& s) { return {s.data(), static_cast<u32>(s.size())}; }
  static NewInode file() { return {}; }
  static NewInode directory() { return {.mode = kModeDirectory | 0755}; }

  // By path from the root; the result is an error's name or "ok".
  struct End {
    Inode* parent = nullptr;
    std::string last;
    Error error = Error::wait;
  };
  End end_of(const std::string& path) {
    End end;
    const Result<PathEnd> r =
        wait_for([&] { return vfs.walk_parent(vfs.root_dentry(), path.c_str()); });
    if (!r.ok()) {
      end.error = r.error();
      return end;
    }
    end.parent = r.value().parent->inode;
    end.last.assign(r.value().last.text, r.value().last.length);
    vfs.hold(*end.parent);
    vfs.put(*r.value().parent);
    return end;
  }
  template <class Call>
  std::string at(const std::string& path, Call call) {
    const End end = end_of(path);
    if (end.parent == nullptr) return name_of(end.error);
    const auto r = wait_for([&] { return call(*end.parent, name(end.last)); });
    vfs.put(*end.parent);
    return r.ok() ? "ok" : name_of(r.error());
  }
  std::string make(const std::string& path, const NewInode& made) {
    return at(path, [&](Inode& dir, Name n) -> Status {
      SPW_TRY_ASSIGN(inode, vfs.create(dir, n, made));
      vfs.put(*inode);
      return kOk;
    });
  }
  std::string touch(const std::string& path) { return make(path, file()); }
  std::string mkdir(const std::string& path) { return make(path, directory()); }
  std::string unlink(const std::string& path) {
    return at(path, [&](Inode& dir, Name n) { return vfs.unlink(dir, n); });
  }
  std::string rmdir(const std::string& path) {
    return at(path, [&](Inode& dir, Name n) { return vfs.rmdir(dir, n); });
  }
  std::string symlink(const std::string& target, const std::string& path) {
    return at(path, [&](Inode& dir, Name n) -> Status {
      SPW_TRY_ASSIGN(inode, vfs.symlink(dir, n, name(target), {}));
      vfs.put(*inode);
      return kOk;
    });
  }
  std::string link(const std::string& old_path, const std::string& path) {
    Inode* target = walk(old_path, false);
    if (target == nullptr) return name_of(last_error);
    const std::string r = at(path, [&](Inode& dir, Name n) { return vfs.link(dir, n, *target); });
    vfs.put(*target);
    return r;
  }
  std::string rename(const std::string& old_path, const std::string& path, bool noreplace = false) {
    const End from = end_of(old_path);
    if (from.parent == nullptr) return name_of(from.error);
    const std::string r = at(path, [&](Inode& dir, Name n) {
      return vfs.rename(*from.parent, name(from.last), dir, n, noreplace);
    });
    vfs.put(*from.parent);
    return r;
  }
  // Held, or null with last_error.
  Inode* walk(const std::string& path, bool last_link = true) {
    const Result<Inode*> r = wait_for([&] { return vfs.walk(root(), path.c_str(), last_link); });
    if (r.ok()) return r.value();
    last_error = r.error();
    return nullptr;
  }
  std::string look(const std::string& path, bool last_link = true) {
    Inode* inode = walk(path, last_link);
    if (inode == nullptr) return name_of(last_error);
    vfs.put(*inode);
    return "ok";
  }
  std::string write_file(Inode& inode, u64 offset, const std::string& data) {
    u64 done = 0;
    const Result<u64> r = wait_for([&] {
      return vfs.write(inode, offset, reinterpret_cast<const u8*>(data.data()), data.size(), &done);
    });
    return r.ok() ? std::to_string(r.value()) : name_of(r.error());
  }
  std::string read_file(Inode& inode, u64 offset, u64 bytes) {
    std::string out(bytes, '?');
    u64 done = 0;
    FileReadahead ra;
    const Result<u64> r = wait_for([&] {
      return vfs.read(inode, ra, offset, reinterpret_cast<u8*>(out.data()), bytes, &done);
    });
    if (!r.ok()) return name_of(r.error());
    out.resize(r.value());
    return out;
  }
  Listing list(Inode& directory, u32 room = 3) {
    Listing listing;
    for (;;) {
      listing.left = room;
      const Status status =
          wait_for([&] { return vfs.read_directory(directory, listing.position, listing); });
      EXPECT_TRUE(status.ok());
      if (!status.ok() || listing.left == room) return listing;
    }
  }
  std::string unmount() {
    const Status status = wait_for([&] { return vfs.unmount(); });
    return status.ok() ? "ok" : name_of(status.error());
  }

  MemFs mem;
  Vfs vfs;
  Error last_error = Error::wait;
};

}  // namespace spillway
