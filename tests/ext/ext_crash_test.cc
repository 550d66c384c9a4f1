// Goal: whenever the serving process is killed, e2fsck -fy repairs the image and everything that
// fsync had confirmed is there.
// Method: random operations on an image whose device remembers every write in its order, with dirty
// buffers written at random moments besides. For many points in that order the image as it was then
// is repaired and compared with what was confirmed until then: contents that nothing has changed
// since are the same byte for byte, and a name that was confirmed leads to the file that it had or
// to one that it was given since. A kind, a seed and a point replay a failure.
#include <algorithm>
#include <map>
#include <set>

#include "ext_bed.h"

namespace spillway {
namespace {

constexpr const char* kOptions[] = {
    "-t ext2 -b 1024",
    "-t ext2 -b 4096",
    "-t ext3 -b 1024",
    "-t ext4 -b 1024 -O metadata_csum,64bit",
    "-t ext4 -b 4096 -O metadata_csum,64bit",
    "-t ext4 -b 1024 -O ^has_journal,^metadata_csum",
};
constexpr u64 kImageKib = 4096;

u64 setting(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

struct LoggedWrite {
  u64 page = 0;
  std::string bytes;
};

// What is known of a file's contents since its last fsync.
struct Confirmed {
  std::string bytes;
  std::vector<bool> changed;  // of each byte: it was written since
  bool exact = true;          // nothing at all was changed
  std::set<std::string> places;
  bool lives = true;  // it must be at one of its places

  bool allows(const std::string& found) const {
    if (exact) return found == bytes;
    for (u64 i = 0; i < bytes.size(); ++i) {
      if (!changed[i] && (i >= found.size() || found[i] != bytes[i])) return false;
    }
    return true;
  }
};
struct Expectations {
  std::map<int, Confirmed> files;
  std::map<std::string, std::set<int>> names;  // a confirmed name, and the files that it may be
};
struct Snapshot {
  u64 from;  // writes so far
  Expectations expected;
  std::string operation;
};

class Crash {
 public:
  Crash(const Image& base, u64 seed) : bed_(base, ExtMode::read_write, 768, seed), prng_(seed) {
    EXPECT_TRUE(bed_.open_status.ok());
    bed_.device.on_write = [this](u64 page, const u8* bytes) {
      log_.push_back({page, std::string(reinterpret_cast<const char*>(bytes), kPageSize)});
    };
  }

  void run(u32 steps) {
    note("start");
    for (const char* folder : {"/a", "/b"}) ASSERT_EQ(bed_.mkdir(folder), "ok");
    for (u32 i = 0; i < steps && !testing::Test::HasFatalFailure(); ++i) {
      step();
      if (prng_.below(3) == 0) write_some();
    }
  }
  void write_some() {
    if (prng_.below(2) == 0) (void)bed_.vfs.inodes().write_back(8, 0, true);
    for (u64 n = prng_.below(6); n != 0; --n) {
      u64 value = 0;
      u32 index = static_cast<u32>(prng_.below(kImageKib / 4));
      const Mapping& m = bed_.buffers.mapping();
      if (!m.tree.next_tagged(&index, ~u32{0}, Mapping::kTagDirty, &value)) continue;
      const Pfn pfn = CacheEntry::from_bits(value).pfn();
      if (!bed_.frames[pfn].has(PageFlag::writeback)) (void)bed_.cache.write_page(pfn);
    }
    if (prng_.below(2) == 0) bed_.complete_all();
  }

  const std::vector<LoggedWrite>& log() const { return log_; }
  // What was done with a name until the point.
  std::string history(const std::string& name, u64 point) const {
    std::string out;
    for (const Snapshot& s : snapshots_) {
      const bool names_it = s.operation.find(name) != std::string::npos;
      if (s.from <= point && (names_it || s.operation.starts_with("fsync"))) {
        out += std::to_string(s.from) + " " + s.operation + "\n";
      }
    }
    return out;
  }
  const Snapshot& at(u64 point) const {
    const auto after = std::upper_bound(snapshots_.begin(), snapshots_.end(), point,
                                        [](u64 p, const Snapshot& s) { return p < s.from; });
    return *std::prev(after);
  }

 private:
  struct File {
    std::string bytes;
    std::set<std::string> names;
  };

  void note(const std::string& operation) { snapshots_.push_back({log_.size(), now_, operation}); }
  std::string some_name() {
    static constexpr const char* kFolders[] = {"/a/", "/b/", "/big/", "/big/"};
    const u64 n = prng_.below(120);
    const std::string fill(n % 3 == 0 ? 60 : 0, 'n');
    return kFolders[prng_.below(4)] + fill + std::to_string(n);
  }
  std::string known_name() {
    if (at_.empty()) return "";
    return std::next(at_.begin(), static_cast<long>(prng_.below(at_.size())))->first;
  }

  void step() {
    const u64 kind = prng_.below(20);
    if (kind < 5) {
      create();
    } else if (kind < 10) {
      write();
    } else if (kind < 11) {
      truncate();
    } else if (kind < 13) {
      fsync();
    } else if (kind < 16) {
      rename();
    } else if (kind < 18) {
      unlink();
    } else if (kind < 19) {
      link();
    } else {
      scratch();
    }
  }
  void create() {
    const std::string name = some_name();
    if (at_.contains(name)) return;
    note("create " + name);
    ASSERT_EQ(bed_.touch(name), "ok");
    at_[name] = next_id_;
    files_[next_id_++].names = {name};
    if (prng_.below(3) != 0) write_to(name, 0, 1 + prng_.below(6000));
  }
  void write() {
    const std::string name = known_name();
    if (name.empty()) return;
    if (prng_.below(3) == 0) {
      // Holes in between, so that trees of extents grow.
      u64 at = prng_.below(200) * 1024;
      for (u64 n = prng_.below(12); n != 0; --n, at += 8192) write_to(name, at, 700);
    } else {
      write_to(name, prng_.below(40'000), 1 + prng_.below(20'000));
    }
  }
  void write_to(const std::string& name, u64 at, u64 bytes) {
    std::string data(bytes, '\0');
    for (char& c : data) c = static_cast<char>(prng_.below(256));
    const int id = at_[name];
    if (const auto known = now_.files.find(id); known != now_.files.end()) {
      Confirmed& c = known->second;
      c.exact = false;
      for (u64 i = at; i < at + bytes && i < c.bytes.size(); ++i) c.changed[i] = true;
    }
    note("write " + name + " at " + std::to_string(at));
    const std::string said = bed_.write(name, at, data);
    if (said == "ENOSPC") return;
    ASSERT_EQ(said, "ok");
    std::string& all = files_[id].bytes;
    if (all.size() < at + bytes) all.resize(at + bytes);
    std::copy(data.begin(), data.end(), all.begin() + static_cast<long>(at));
  }
  void truncate() {
    const std::string name = known_name();
    if (name.empty()) return;
    const int id = at_[name];
    const u64 size = prng_.below(files_[id].bytes.size() + 1);
    if (const auto known = now_.files.find(id); known != now_.files.end()) {
      Confirmed& c = known->second;
      c.exact = false;
      if (c.bytes.size() > size) c.bytes.resize(size);
    }
    note("truncate " + name + " to " + std::to_string(size));
    ASSERT_EQ(bed_.set_size(name, size), "ok");
    files_[id].bytes.resize(size);
  }
  // Stores all names, and confirms them with this file's contents.
  void fsync() {
    const std::string name = known_name();
    if (name.empty()) return;
    note("fsync " + name);
    ASSERT_EQ(bed_.fsync(name), "ok");
    const int id = at_[name];
    const std::string& bytes = files_[id].bytes;
    now_.files[id] = {bytes, std::vector<bool>(bytes.size()), true, {}, true};
    now_.names.clear();
    for (const auto& [path, file] : at_) now_.names[path] = {file};
    std::erase_if(now_.files, [](const auto& f) { return !f.second.lives; });
    for (auto& [number, file] : now_.files) file.places = files_[number].names;
    note("after fsync " + name);
  }
  void drop_name(const std::string& name) {
    const int id = at_[name];
    at_.erase(name);
    files_[id].names.erase(name);
    const auto known = now_.files.find(id);
    if (files_[id].names.empty() && known != now_.files.end()) known->second.lives = false;
  }
  void rename() {
    const std::string from = known_name();
    const std::string to = prng_.below(2) == 0 ? known_name() : some_name();
    if (from.empty() || from == to) return;
    const int id = at_[from];
    if (at_.contains(to) && at_[to] == id) return;  // two names of one file: nothing happens
    now_.names.erase(from);
    if (const auto known = now_.names.find(to); known != now_.names.end()) {
      known->second.insert(id);
    }
    if (const auto f = now_.files.find(id); f != now_.files.end()) f->second.places.insert(to);
    if (at_.contains(to)) drop_name(to);
    note("rename " + from + " to " + to);
    ASSERT_EQ(bed_.rename(from, to), "ok");
    at_.erase(from);
    at_[to] = id;
    files_[id].names.erase(from);
    files_[id].names.insert(to);
  }
  void unlink() {
    const std::string name = known_name();
    if (name.empty()) return;
    now_.names.erase(name);
    drop_name(name);
    note("unlink " + name);
    ASSERT_EQ(bed_.unlink(name), "ok");
  }
  void link() {
    const std::string from = known_name();
    const std::string to = some_name();
    if (from.empty() || at_.contains(to)) return;
    const int id = at_[from];
    if (const auto f = now_.files.find(id); f != now_.files.end()) f->second.places.insert(to);
    now_.names.erase(to);
    note("link " + from + " to " + to);
    ASSERT_EQ(bed_.link(from, to), "ok");
    at_[to] = id;
    files_[id].names.insert(to);
  }
  // Directories and links that come and go, for their blocks' sake.
  void scratch() {
    note("scratch");
    const std::string said = bed_.mkdir("/a/scratch");
    if (said == "ENOSPC") return;
    if (said == "EEXIST") {
      (void)bed_.unlink("/a/scratch/" + std::string(50, 'l'));
      ASSERT_EQ(bed_.rmdir("/a/scratch"), "ok");
      return;
    }
    ASSERT_EQ(said, "ok");
    const std::string made =
        bed_.symlink(std::string(300, 't'), "/a/scratch/" + std::string(50, 'l'));
    ASSERT_TRUE(made == "ok" || made == "ENOSPC") << made;
  }

  ExtBed bed_;
  Prng prng_;
  std::vector<LoggedWrite> log_;
  std::vector<Snapshot> snapshots_;
  Expectations now_;
  std::map<std::string, int> at_;
  std::map<int, File> files_;
  int next_id_ = 0;
};

std::string broken_promise(const Image& image, const Expectations& expected) {
  Image repaired;
  const CommandEnd fixed = e2fsck(image, "-y", &repaired);
  if (fixed.code != 0 && fixed.code != 1) return "e2fsck -fy: " + fixed.output;
  ExtBed bed(repaired, ExtMode::read_only, 768);
  if (!bed.open_status.ok()) return "cannot be opened";
  std::map<std::string, std::string> contents;
  const auto content_of = [&](const std::string& name) -> const std::string& {
    const auto [entry, fresh] = contents.try_emplace(name);
    if (fresh) entry->second = bed.read(name);
    return entry->second;
  };
  for (const auto& [name, candidates] : expected.names) {
    const std::string& found = content_of(name);
    if (found == "ENOENT") return name + " is gone\n" + fixed.output;
    const bool allowed = std::any_of(candidates.begin(), candidates.end(), [&](int id) {
      const auto file = expected.files.find(id);
      return file == expected.files.end() || file->second.allows(found);
    });
    if (!allowed) {
      const Confirmed& file = expected.files.at(*candidates.begin());
      u64 at = 0;
      while (at < found.size() && at < file.bytes.size() &&
             (found[at] == file.bytes[at] || file.changed[at])) {
        ++at;
      }
      return name + " has other contents from byte " + std::to_string(at) + " on, " +
             std::to_string(found.size()) + " bytes for " + std::to_string(file.bytes.size()) +
             (file.exact ? " exactly\n" : "\n") + fixed.output;
    }
  }
  for (const auto& [id, file] : expected.files) {
    if (!file.lives) continue;
    const bool there = std::any_of(file.places.begin(), file.places.end(),
                                   [&](const auto& p) { return file.allows(content_of(p)); });
    if (!there) return *file.places.begin() + "'s file is nowhere\n" + fixed.output;
  }
  return "";
}

Image base_image(const char* options) {
  const Image fresh = make_image(options, kImageKib, "-N 2000");
  ExtBed bed(fresh);
  EXPECT_EQ(bed.mkdir("/big"), "ok");
  for (int i = 1000; i < 1200; ++i) {
    EXPECT_EQ(bed.touch("/big/" + std::string(40, 'x') + std::to_string(i)), "ok");
  }
  EXPECT_TRUE(bed.unmount().ok());
  Image hashed;
  EXPECT_LE(e2fsck(bed.stored(), "-y -D", &hashed).code, 1);
  return hashed;
}

class ExtCrashTest : public testing::TestWithParam<u32> {};

TEST_P(ExtCrashTest, what_fsync_confirmed_is_there_whenever_the_process_is_killed) {
  const Image base = base_image(kOptions[GetParam()]);
  const u64 first = setting("SPW_CRASH_SEED", 1);
  for (u64 seed = first; seed < first + setting("SPW_CRASH_SEEDS", 1); ++seed) {
    Crash crash(base, seed);
    crash.run(static_cast<u32>(setting("SPW_CRASH_STEPS", 400)));
    ASSERT_FALSE(HasFatalFailure());
    Prng prng(seed);
    std::set<u64> points;
    for (u64 i = setting("SPW_CRASH_POINTS", 20); i != 0; --i) {
      points.insert(prng.below(crash.log().size() + 1));
    }
    Image image = base;
    u64 applied = 0;
    for (const u64 point : points) {
      for (; applied < point; ++applied) {
        const LoggedWrite& write = crash.log()[applied];
        image.replace(write.page * kPageSize, kPageSize, write.bytes);
      }
      const Snapshot& snapshot = crash.at(point);
      const std::string broken = broken_promise(image, snapshot.expected);
      EXPECT_EQ(broken, "") << kOptions[GetParam()] << ", seed " << seed << ", point " << point
                            << " of " << crash.log().size() << ", in: " << snapshot.operation
                            << "\n"
                            << crash.history(broken.substr(0, broken.find_first_of(" '")), point);
      if (!broken.empty()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(kinds, ExtCrashTest, testing::Range(0U, u32{std::size(kOptions)}));

}  // namespace
}  // namespace spillway
