// ExtBed: an image made by mke2fs on a plain device of the simulated machine, the driver over a
// buffer cache and a page cache with a reclaimer that evicts, and a Vfs on top.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "batch_reclaimer.h"
#include "ext_image.h"
#include "fs_ext/ext_fs.h"
#include "vfs/vfs.h"

namespace spillway {

// A device that counts the pages that it is asked for, and tells of those that are written in the
// order of submission.
struct CountedDevice final : BlockDevice {
  CountedDevice(BlockDevice& below, Frames& frame_bytes) : device(below), bytes(frame_bytes) {
    size_ = below.size();
  }
  void submit(IoRequest& request) override {
    (request.op == IoOp::read ? read : written) += request.count;
    for (u32 i = 0; request.op == IoOp::write && on_write && i < request.count; ++i) {
      on_write(request.block + i, bytes.bytes(request.frames[i]));
    }
    device.submit(request);
  }
  u32 in_flight() const override { return device.in_flight(); }
  Result<u64> claim_segment() override { return device.claim_segment(); }
  void release_segment(u64 segment) override { device.release_segment(segment); }
  bool sole_owner(u64 segment) const override { return device.sole_owner(segment); }
  BlockDevice& device;
  u64 read = 0;
  u64 written = 0;
  std::function<void(u64 page, const u8* bytes)> on_write;

  Frames& bytes;
};

struct ExtBed : CacheBed, ExtHost {
  static SimConfig config_of(u64 frames, u64 pages, u64 seed) {
    SimConfig config;
    config.frames = PageCount(frames);
    config.seed = seed;
    config.block_pages = {pages};
    return config;
  }
  explicit ExtBed(const Image& image, ExtMode mode = ExtMode::read_write, u64 frame_count = 1024,
                  u64 seed = 1)
      : CacheBed(config_of(frame_count, pages_for(image.size()).v, seed)), bytes_(image.size()) {
    evicting.cache = &cache;
    allocator.set_reclaimer(evicting);
    cache.set_reclaimer(evicting);
    for (u64 at = 0; at < image.size(); at += kPageSize) {
      u8 page[kPageSize] = {};
      std::memcpy(page, image.data() + at, std::min<u64>(kPageSize, image.size() - at));
      static constexpr u8 kZeros[kPageSize] = {};
      if (std::memcmp(page, kZeros, kPageSize) != 0) sim.block(0).store(at >> kPageShift, page);
    }
    open_status = start(image, mode);
  }
  Status start(const Image& image, ExtMode mode) {
    Machine& m = sim.machine();
    ExtProbe probe;
    SPW_TRY(ExtFs::probe(reinterpret_cast<const u8*>(image.data()) + ExtProbe::kOffset,
                         image.size(), &probe));
    SPW_TRY(buffers.init(m, cache, allocator, frames, observer, device, probe.block_size));
    has_buffers = true;
    SPW_TRY(ext.open({m, cache, allocator, frames, buffers, device, *this, bytes_}, mode));
    SPW_TRY(vfs.init(m, cache, allocator, frames, observer,
                     {.inode_hash_bits = 6, .dentry_hash_bits = 6}));
    return wait_for([&] { return vfs.mount(ext); });
  }
  bool complete_io() override {
    const bool ended = sim.complete_one();
    return ext.deliver() != 0 || ended;
  }
  Status sync_device() override {
    ++device_syncs;
    return kOk;
  }

  template <class Call>
  auto wait_for(Call call) -> decltype(call()) {
    for (u32 idle = 0;;) {
      const auto result = call();
      if (result.ok() || result.error() != Error::wait) return result;
      if (complete_io()) {
        idle = 0;
      } else if (++idle == 100) {
        ADD_FAILURE() << "waits for nothing";
        return Error::wait;
      }
    }
  }
  void complete_all() {
    while (complete_io()) {
    }
  }
  Status unmount() {
    const Status status = wait_for([&] { return vfs.unmount(); });
    if (!status.ok()) return status;
    SPW_TRY(ext.close());
    SPW_TRY(wait_for([&] { return buffers.close(); }));
    has_buffers = false;
    return kOk;
  }
  // What the device holds now, as after kill -9.
  Image stored() {
    Image image(bytes_, '\0');
    for (u64 at = 0; at < bytes_; at += kPageSize) {
      const u8* page = sim.block(0).stored(at >> kPageShift);
      if (page != nullptr) {
        std::memcpy(image.data() + at, page, std::min<u64>(kPageSize, bytes_ - at));
      }
    }
    return image;
  }

  // --- Calls by path; results as "ok" or an error's name.
  Inode* walk(const std::string& path, bool last_link = false) {
    const auto r = wait_for([&] { return vfs.walk(vfs.root(), path.c_str(), last_link); });
    if (r.ok()) return r.value();
    last_error = r.error();
    return nullptr;
  }
  static std::string said(Status status) { return status.ok() ? "ok" : name_of(status.error()); }
  template <class Call>
  std::string at(const std::string& path, Call call) {
    const size_t slash = path.rfind('/');
    const std::string dir = slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
    const std::string last = slash == std::string::npos ? path : path.substr(slash + 1);
    Inode* parent = walk(dir, true);
    if (parent == nullptr) return name_of(last_error);
    const Name name{last.data(), static_cast<u32>(last.size())};
    const auto r = wait_for([&] { return call(*parent, name); });
    vfs.put(*parent);
    return r.ok() ? "ok" : name_of(r.error());
  }
  std::string make(const std::string& path, u32 mode, u64 rdev = 0) {
    return at(path, [&](Inode& dir, Name n) -> Status {
      SPW_TRY_ASSIGN(inode, vfs.create(dir, n, {.mode = mode, .rdev = rdev, .now = kNow}));
      vfs.put(*inode);
      return kOk;
    });
  }
  std::string touch(const std::string& path) { return make(path, kModeRegular | 0640); }
  std::string mkdir(const std::string& path) { return make(path, kModeDirectory | 0755); }
  std::string symlink(const std::string& target, const std::string& path) {
    return at(path, [&](Inode& dir, Name n) -> Status {
      SPW_TRY_ASSIGN(
          inode,
          vfs.symlink(dir, n, Name{target.data(), static_cast<u32>(target.size())}, {.now = kNow}));
      vfs.put(*inode);
      return kOk;
    });
  }
  std::string unlink(const std::string& path) {
    return at(path, [&](Inode& dir, Name n) { return vfs.unlink(dir, n); });
  }
  std::string rmdir(const std::string& path) {
    return at(path, [&](Inode& dir, Name n) { return vfs.rmdir(dir, n); });
  }
  std::string link(const std::string& old_path, const std::string& path) {
    Inode* target = walk(old_path);
    if (target == nullptr) return name_of(last_error);
    const std::string r = at(path, [&](Inode& dir, Name n) { return vfs.link(dir, n, *target); });
    vfs.put(*target);
    return r;
  }
  std::string rename(const std::string& old_path, const std::string& path) {
    return at(old_path,
              [&](Inode& from, Name old_name) -> Status {
                const std::string r = at(path, [&](Inode& to, Name new_name) {
                  return vfs.rename(from, old_name, to, new_name, false);
                });
                rename_said = r;
                return kOk;
              }) == "ok"
               ? rename_said
               : std::string(name_of(last_error));
  }
  std::string write(const std::string& path, u64 offset, const std::string& data) {
    Inode* inode = walk(path);
    if (inode == nullptr) return name_of(last_error);
    // What balance_dirty_pages does for a program.
    if (cache.dirty() > frames.count().v / 2) (void)sync();
    u64 done = 0;
    const Result<u64> r = wait_for([&] {
      return vfs.write(*inode, offset, reinterpret_cast<const u8*>(data.data()), data.size(),
                       &done);
    });
    vfs.put(*inode);
    if (!r.ok()) return name_of(r.error());
    return r.value() == data.size() ? "ok" : "short " + std::to_string(r.value());
  }
  std::string put_file(const std::string& path, const std::string& data) {
    const std::string made = touch(path);
    return made == "ok" && !data.empty() ? write(path, 0, data) : made;
  }
  std::string read(const std::string& path) {
    Inode* inode = walk(path);
    if (inode == nullptr) return name_of(last_error);
    std::string out(inode->mapping.size_bytes, '?');
    u64 done = 0;
    FileReadahead ra;
    const Result<u64> r = wait_for([&] {
      return vfs.read(*inode, ra, 0, reinterpret_cast<u8*>(out.data()), out.size(), &done);
    });
    vfs.put(*inode);
    if (!r.ok()) return name_of(r.error());
    out.resize(r.value());
    return out;
  }
  std::string set_size(const std::string& path, u64 bytes) {
    Inode* inode = walk(path);
    if (inode == nullptr) return name_of(last_error);
    const Status r = wait_for([&] { return vfs.set_size(*inode, bytes); });
    vfs.put(*inode);
    return said(r);
  }
  std::string readlink(const std::string& path) {
    Inode* inode = walk(path);
    if (inode == nullptr) return name_of(last_error);
    char text[4096];
    const Result<u32> r = wait_for([&] { return vfs.readlink(*inode, text, sizeof text); });
    vfs.put(*inode);
    return r.ok() ? std::string(text, r.value()) : name_of(r.error());
  }
  std::string sync() {
    SyncTicket ticket;
    return said(wait_for([&] { return vfs.sync(ticket); }));
  }
  std::string fsync(const std::string& path) {
    Inode* inode = walk(path);
    if (inode == nullptr) return name_of(last_error);
    SyncProgress progress;
    const Status r = wait_for([&] { return vfs.fsync(*inode, progress); });
    vfs.put(*inode);
    return said(r);
  }
  struct Listing final : DirectorySink {
    bool entry(Name name, u64 ino, u32 type, u64 next) override {
      if (left == 0) return false;
      --left;
      position = next;
      names.emplace_back(name.text, name.length);
      numbers.push_back(ino);
      types.push_back(type);
      return true;
    }
    u32 left = 0;
    u64 position = 0;
    std::vector<std::string> names;
    std::vector<u64> numbers;
    std::vector<u32> types;
    Status status = kOk;
  };
  Listing list(Inode& directory, u32 room = 5) {
    Listing listing;
    for (u32 round = 0; round < 1'000'000; ++round) {
      listing.left = room;
      listing.status =
          wait_for([&] { return vfs.read_directory(directory, listing.position, listing); });
      if (!listing.status.ok() || listing.left == room) return listing;
    }
    ADD_FAILURE() << "a directory without end";
    return listing;
  }

  static constexpr FileTime kNow{1'700'000'123, 456'789'012};
  const u64 bytes_;
  BatchReclaimer evicting{allocator, frames};
  CountedDevice device{*sim.machine().block_devices[0], sim.machine().frames};
  BufferCache buffers;
  ExtFs ext;
  Vfs vfs;
  bool has_buffers = false;
  Status open_status = kOk;
  Error last_error = Error::wait;
  std::string rename_said;
  u32 device_syncs = 0;
};

}  // namespace spillway
