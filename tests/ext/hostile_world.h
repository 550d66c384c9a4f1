// HostileWorld: an image that may hold anything, opened and used through all that a mount uses,
// without GoogleTest, so that the fuzzer and the tests share it. Whatever the image says, calls end
// with a result; what is wrong inside shows as a sanitizer's report, an assertion, or no end.
//
// An input is a base image (its first byte chooses one) with patches: three bytes of offset, a
// number n of bytes (1..15) and the bytes; n = 0 ends them, and the rest is a list of paths to look
// up, one to a line.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fs_ext/ext_fs.h"
#include "hostile_base.h"
#include "machine_sim/sim_machine.h"
#include "vfs/vfs.h"

namespace spillway {

// Frames are never short here.
class NoReclaim final : public Reclaimer {
 public:
  ReclaimOutcome reclaim(PageCount) override { return ReclaimOutcome::exhausted; }
  void page_added(Pfn, Arrival, u32) override {}
  void page_touched(Pfn) override {}
  void page_unmapped(Pfn) override {}
  void page_removed(Pfn) override {}
  void page_added_unmapped(Pfn) override {}
  void page_locked(Pfn) override {}
  void page_unlocked(Pfn) override {}
  void page_written(Pfn, Status) override {}
  void page_cold(Pfn) override {}
  ReclaimOutcome page_out(Pfn) override { return ReclaimOutcome::exhausted; }
};

class HostileWorld final : public ExtHost {
 public:
  static constexpr u32 kInodesMax = 200;  // visited of one image
  static constexpr u32 kDepthMax = 6;
  static constexpr u64 kReadMax = 32768;
  static constexpr u32 kRoundsMax = 200'000;  // of one call
  static constexpr u32 kFramesAtFirst = 64;   // more come as they are needed

  explicit HostileWorld(const std::string& image) : image_(image), sim_(config_for(image)) {
    Machine& m = sim_.machine();
    const PageCount count = m.frames.count();
    frames_.init(static_cast<Page*>(m.boot.alloc(count.v * sizeof(Page), 64)), count);
    allocator_.init(m, frames_, observer_);
    allocator_.set_reclaimer(reclaimer_);
    slabs_.init(allocator_, frames_, m.frames);
    cache_.init(slabs_, allocator_, frames_, observer_, sim_.clock());
    cache_.set_reclaimer(reclaimer_);
    (void)allocator_.grow(kFramesAtFirst);
    for (u64 at = 0; at < image.size(); at += kPageSize) {
      u8 page[kPageSize] = {};
      std::memcpy(page, image.data() + at, std::min<u64>(kPageSize, image.size() - at));
      sim_.block(0).store(at >> kPageShift, page);
    }
  }
  // Opens, walks, looks the paths up, and with read_write changes things everywhere. What open()
  // said.
  Status run(ExtMode mode, const std::vector<std::string>& paths) {
    const Status opened = open(mode);
    if (!opened.ok()) return opened;
    for (const std::string& path : paths) {
      const auto r = wait_for([&] { return vfs_.walk(vfs_.root(), path.c_str(), true); });
      if (!r.ok()) continue;
      look_at(*r.value());
      vfs_.put(*r.value());
    }
    visit(vfs_.root(), 0, mode == ExtMode::read_write);
    if (mode == ExtMode::read_write) (void)wait_for([&] { return vfs_.sync(); });
    (void)wait_for([&] { return vfs_.unmount(); });
    closed_ = ext_.close();
    if (mode == ExtMode::read_write) opens_again();
    return kOk;
  }
  u32 visited() const { return static_cast<u32>(seen_.size()); }
  Status closed() const { return closed_; }
  bool complete_io() override {
    const bool ended = sim_.complete_one();
    return ext_.deliver() != 0 || ended;
  }
  Status sync_device() override { return kOk; }

 private:
  static SimConfig config_for(const std::string& image) {
    SimConfig config;
    config.frames = PageCount(1024);
    config.block_pages = {std::max<u64>(pages_for(image.size()).v, 1)};
    return config;
  }
  Status open(ExtMode mode) {
    Machine& m = sim_.machine();
    if (image_.size() < ExtProbe::kOffset + ExtProbe::kBytes) return Error::invalid;
    ExtProbe probe;
    SPW_TRY(ExtFs::probe(reinterpret_cast<const u8*>(image_.data()) + ExtProbe::kOffset,
                         image_.size(), &probe));
    SPW_TRY(buffers_.init(m, cache_, allocator_, frames_, observer_, *m.block_devices[0],
                          probe.block_size));
    SPW_TRY(ext_.open(
        {m, cache_, allocator_, frames_, buffers_, *m.block_devices[0], *this, image_.size()},
        mode));
    SPW_TRY(vfs_.init(m, cache_, allocator_, frames_, observer_,
                      {.inode_hash_bits = 6, .dentry_hash_bits = 6}));
    return wait_for([&] { return vfs_.mount(ext_); });
  }
  // Whatever a damaged image made of the changes, they did not go over what holds it together.
  void opens_again() {
    Machine& m = sim_.machine();
    const Status status = ext_.open(
        {m, cache_, allocator_, frames_, buffers_, *m.block_devices[0], *this, image_.size()},
        ExtMode::read_only);
    if (!status.ok() && status.error() != Error::no_memory) {
      std::fprintf(stderr, "an image that cannot be opened any more: %s\n",
                   name_of(status.error()));
      std::abort();
    }
    (void)ext_.close();
  }
  template <class Call>
  auto wait_for(Call call) -> decltype(call()) {
    u32 idle = 0;
    for (u32 round = 0; round < kRoundsMax; ++round) {
      const auto result = call();
      if (result.ok() || result.error() != Error::wait) return result;
      idle = complete_io() ? 0 : idle + 1;
      if (idle == 100) break;
    }
    std::fprintf(stderr, "a call that waits for nothing\n");
    std::abort();
  }
  struct Names final : DirectorySink {
    bool entry(Name name, u64, u32, u64 next) override {
      // A name with a slash or a zero byte would be a way out of the directory.
      if (name.length == 0 || std::memchr(name.text, '/', name.length) != nullptr ||
          std::memchr(name.text, 0, name.length) != nullptr) {
        std::fprintf(stderr, "a name that is none\n");
        std::abort();
      }
      if (names.size() >= 100) return false;
      names.emplace_back(name.text, name.length);
      position = next;
      return true;
    }
    std::vector<std::string> names;
    u64 position = 0;
  };

  void look_at(Inode& inode) {
    if (inode.is_symlink()) {
      char text[4096];
      (void)wait_for([&] { return vfs_.readlink(inode, text, sizeof text); });
    }
    if (!inode.is_regular()) return;
    static u8 bytes[kReadMax];
    const u64 ends[] = {0, inode.mapping.size_bytes / 2,
                        inode.mapping.size_bytes > 100 ? inode.mapping.size_bytes - 100 : 0};
    for (const u64 at : ends) {
      u64 done = 0;
      FileReadahead ra;
      (void)wait_for([&] { return vfs_.read(inode, ra, at, bytes, kReadMax, &done); });
    }
  }
  void visit(Inode& directory, u32 depth, bool change) {
    if (!seen_.insert(directory.number).second) return;
    Names names;
    (void)wait_for([&] { return vfs_.read_directory(directory, names.position, names); });
    for (const std::string& text : names.names) {
      if (text == "." || text == ".." || seen_.size() > kInodesMax) continue;
      const Name name{text.data(), static_cast<u32>(text.size())};
      const auto r = wait_for([&] { return vfs_.lookup(directory, name); });
      if (!r.ok()) continue;
      Inode& inode = *r.value();
      look_at(inode);
      if (inode.is_directory() && depth < kDepthMax) visit(inode, depth + 1, change);
      if (change && !inode.is_directory() && seen_.insert(inode.number).second) alter(inode);
      vfs_.put(inode);
    }
    if (change) change_in(directory, names.names);
  }
  void alter(Inode& inode) {
    if (!inode.is_regular()) return;
    u64 done = 0;
    const std::string data(6000, 'w');
    const auto* bytes = reinterpret_cast<const u8*>(data.data());
    (void)wait_for([&] { return vfs_.write(inode, 3000, bytes, data.size(), &done); });
    if (inode.number % 3 == 0) (void)wait_for([&] { return vfs_.fsync(inode); });
    if (inode.number % 2 == 0) (void)wait_for([&] { return vfs_.set_size(inode, 1500); });
  }
  void change_in(Inode& directory, const std::vector<std::string>& names) {
    const Name file = Name::of("fuzz-file");
    const Name moved = Name::of("fuzz-moved");
    const auto make = [&](Name name, u32 mode) {
      const auto r = wait_for([&] { return vfs_.create(directory, name, {.mode = mode}); });
      if (r.ok()) vfs_.put(*r.value());
    };
    make(file, kModeRegular | 0644);
    make(Name::of("fuzz-directory"), kModeDirectory | 0755);
    (void)wait_for([&] { return vfs_.rename(directory, file, directory, moved, false); });
    for (size_t i = 0; i < names.size(); i += 2) {
      const Name name{names[i].data(), static_cast<u32>(names[i].size())};
      if (name.is_dot() || name.is_dot_dot()) continue;
      (void)wait_for([&] { return vfs_.unlink(directory, name); });
      (void)wait_for([&] { return vfs_.rmdir(directory, name); });
    }
    (void)wait_for([&] { return vfs_.rmdir(directory, Name::of("fuzz-directory")); });
  }

  const std::string image_;
  SimMachine sim_;
  Counters counters_{};
  EventRing events_;
  Observer observer_{&counters_, &events_};
  FrameTable frames_;
  PageAllocator allocator_;
  NoReclaim reclaimer_;
  SlabChain slabs_;
  PageCache cache_;
  BufferCache buffers_;
  ExtFs ext_;
  Vfs vfs_;
  std::set<u64> seen_;
  Status closed_ = kOk;
};

// Runs one input of the form above.
inline void run_hostile_input(const u8* data, size_t size) {
  static std::string bases[std::size(kHostileBases)];
  // The library's clock: the same bytes whenever it runs.
  static const int clock = ::setenv("E2FSPROGS_FAKE_TIME", "1700000000", 1);
  if (size == 0 || clock != 0) return;
  const u32 number = data[0] & 3;
  if (bases[number].empty()) bases[number] = hostile_base(number);
  std::string image = bases[number];
  const ExtMode mode = (data[0] & 4) != 0 ? ExtMode::read_write : ExtMode::read_only;
  size_t at = 1;
  while (at + 4 <= size) {
    const u64 offset = (data[at] | u64{data[at + 1]} << 8 | u64{data[at + 2]} << 16) % image.size();
    const size_t n = data[at + 3] & 15;
    at += 4;
    if (n == 0) break;
    for (size_t i = 0; i < n && at < size && offset + i < image.size(); ++i, ++at) {
      image[offset + i] = static_cast<char>(data[at]);
    }
  }
  std::vector<std::string> paths{""};
  for (; at < size && paths.size() < 20; ++at) {
    if (data[at] == '\n') {
      paths.emplace_back();
    } else if (data[at] != 0) {
      paths.back() += static_cast<char>(data[at]);
    }
  }
  HostileWorld world(image);
  (void)world.run(mode, paths);
}

}  // namespace spillway
