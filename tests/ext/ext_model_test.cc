// Goal: random operations through the Vfs give what a tree in memory gives, with few frames, on all
// kinds of images; the image is clean afterwards and reads back equal to the tree. A seed and a
// kind replay a failure.
#include <map>
#include <memory>

#include "ext_bed.h"

namespace spillway {
namespace {

constexpr const char* kOptions[] = {
    "-t ext2 -b 1024",
    "-t ext3 -b 4096",
    "-t ext4 -b 2048 -O metadata_csum,64bit",
    "-t ext4 -b 4096 -O metadata_csum,64bit",
    "-t ext4 -b 4096 -O ^metadata_csum,^dir_index",
};

// What has a path in the tree. Names of one file share their contents.
struct Node {
  u32 type = kModeRegular;
  std::shared_ptr<std::string> contents;  // of a link: the target
};
using Tree = std::map<std::string, Node>;

class Model {
 public:
  Model(ExtBed& bed, u64 seed) : bed_(bed), prng_(seed) {}

  void step() {
    switch (prng_.below(12)) {
      case 0: return make_directory();
      case 1:
      case 2: return make_file();
      case 3: return make_link();
      case 4: return make_name();
      case 5: return remove();
      case 6: return move();
      case 7: return resize();
      case 8: return sync();
      case 9: return check(any());
      default: return write();
    }
  }
  Tree& tree() { return tree_; }
  void check(const std::string& path) {
    if (path.empty()) return;
    const Node& node = tree_[path];
    if (node.type == kModeRegular) {
      ASSERT_EQ(bed_.read(path) == *node.contents, true) << path;
    } else if (node.type == kModeSymlink) {
      ASSERT_EQ(bed_.readlink(path), *node.contents) << path;
    }
  }

 private:
  std::string any() {
    if (tree_.empty()) return "";
    return std::next(tree_.begin(), static_cast<long>(prng_.below(tree_.size())))->first;
  }
  std::string any_file() {
    for (u32 i = 0; i < 8; ++i) {
      const std::string path = any();
      if (!path.empty() && tree_[path].type == kModeRegular) return path;
    }
    return "";
  }
  std::string directory() {
    for (u32 i = 0; i < 8; ++i) {
      const std::string path = any();
      if (!path.empty() && tree_[path].type == kModeDirectory) return path;
    }
    return "";
  }
  std::string fresh() {
    return directory() + "/n" + std::string(prng_.below(30), 'm') + std::to_string(prng_.below(60));
  }
  bool empty(const std::string& path) const {
    const auto next = tree_.upper_bound(path + "/");
    return next == tree_.end() || next->first.rfind(path + "/", 0) != 0;
  }
  std::string data(u64 most) {
    std::string out(1 + prng_.below(most), '\0');
    for (char& c : out) c = static_cast<char>('a' + prng_.below(26));
    return out;
  }
  std::string expected(const std::string& path) { return tree_.count(path) != 0 ? "EEXIST" : "ok"; }

  void make_directory() {
    const std::string path = fresh();
    const std::string want = expected(path);
    ASSERT_EQ(bed_.mkdir(path), want) << path;
    if (want == "ok") tree_[path] = {kModeDirectory, nullptr};
  }
  void make_file() {
    const std::string path = fresh();
    const std::string want = expected(path);
    ASSERT_EQ(bed_.touch(path), want) << path;
    if (want == "ok") tree_[path] = {kModeRegular, std::make_shared<std::string>()};
  }
  void make_link() {
    const std::string path = fresh();
    const std::string want = expected(path);
    const std::string target = data(prng_.below(2) == 0 ? 59 : 900);
    ASSERT_EQ(bed_.symlink(target, path), want) << path;
    if (want == "ok") tree_[path] = {kModeSymlink, std::make_shared<std::string>(target)};
  }
  void make_name() {
    const std::string old_path = any_file();
    if (old_path.empty()) return;
    const std::string path = fresh();
    const std::string want = expected(path);
    ASSERT_EQ(bed_.link(old_path, path), want) << old_path << " " << path;
    if (want == "ok") tree_[path] = tree_[old_path];
  }
  void remove() {
    const std::string path = any();
    if (path.empty()) return;
    if (tree_[path].type == kModeDirectory) {
      const std::string want = empty(path) ? "ok" : "ENOTEMPTY";
      ASSERT_EQ(bed_.rmdir(path), want) << path;
      if (want != "ok") return;
    } else {
      ASSERT_EQ(bed_.unlink(path), "ok") << path;
    }
    tree_.erase(path);
  }
  void move() {
    const std::string from = any();
    const std::string to = prng_.below(3) == 0 ? any() : fresh();
    if (from.empty() || to.empty() || from == to || to.rfind(from + "/", 0) == 0) return;
    const Node moved = tree_[from];
    if (tree_.count(to) != 0) {
      const Node& old = tree_[to];
      // What Vfs refuses is its own tests' business.
      if ((old.type == kModeDirectory) != (moved.type == kModeDirectory)) return;
      if (old.type == kModeDirectory && !empty(to)) return;
      if (old.contents != nullptr && old.contents == moved.contents) return;
    }
    ASSERT_EQ(bed_.rename(from, to), "ok") << from << " " << to;
    Tree below;
    for (auto at = tree_.lower_bound(from); at != tree_.end();) {
      const bool inside = at->first == from || at->first.rfind(from + "/", 0) == 0;
      if (at->first.rfind(from, 0) != 0) break;
      if (inside) {
        below[to + at->first.substr(from.size())] = at->second;
        at = tree_.erase(at);
      } else {
        ++at;
      }
    }
    for (auto& [path, node] : below) tree_[path] = node;
  }
  void write() {
    const std::string path = any_file();
    if (path.empty()) return;
    std::string& contents = *tree_[path].contents;
    const u64 at = prng_.below(contents.size() + 9000);
    const std::string bytes = data(prng_.below(4) == 0 ? 40000 : 3000);
    if (contents.size() < at + bytes.size()) contents.resize(at + bytes.size(), '\0');
    contents.replace(at, bytes.size(), bytes);
    ASSERT_EQ(bed_.write(path, at, bytes), "ok") << path;
  }
  void resize() {
    const std::string path = any_file();
    if (path.empty()) return;
    std::string& contents = *tree_[path].contents;
    const u64 size = prng_.below(contents.size() + 6000);
    ASSERT_EQ(bed_.set_size(path, size), "ok") << path;
    contents.resize(size, '\0');
  }
  void sync() {
    if (prng_.below(3) == 0) {
      ASSERT_EQ(bed_.sync(), "ok");
      return;
    }
    const std::string path = any_file();
    if (path.empty()) return;
    ASSERT_EQ(bed_.fsync(path), "ok") << path;
  }

  ExtBed& bed_;
  Prng prng_;
  Tree tree_;
};

// Everything under `path` is in the tree, and is what it says.
void compare(ExtBed& bed, const Tree& tree) {
  u64 names = 0;
  std::vector<std::string> directories{""};
  for (size_t i = 0; i < directories.size(); ++i) {
    const std::string dir = directories[i];
    Inode* inode = bed.walk(dir.empty() ? "/" : dir);
    ASSERT_NE(inode, nullptr) << dir;
    const ExtBed::Listing listing = bed.list(*inode);
    bed.vfs.put(*inode);
    ASSERT_TRUE(listing.status.ok());
    for (const std::string& name : listing.names) {
      const std::string path = dir + "/" + name;
      if (name == "." || name == ".." || path == "/lost+found") continue;
      ++names;
      const auto at = tree.find(path);
      ASSERT_NE(at, tree.end()) << path;
      if (at->second.type == kModeDirectory) {
        directories.push_back(path);
      } else if (at->second.type == kModeRegular) {
        ASSERT_EQ(bed.read(path) == *at->second.contents, true) << path;
      } else {
        ASSERT_EQ(bed.readlink(path), *at->second.contents) << path;
      }
    }
  }
  EXPECT_EQ(names, tree.size());
}

class ExtModel : public testing::TestWithParam<u32> {};
INSTANTIATE_TEST_SUITE_P(Kinds, ExtModel, testing::Range(0U, 5U));

TEST_P(ExtModel, random_operations_give_what_a_tree_in_memory_gives) {
  const Image image = make_image(kOptions[GetParam()], 24576);
  for (u64 seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(seed);
    // 384 frames are 1.5 MiB: contents and directories leave the caches all the time.
    ExtBed bed(image, ExtMode::read_write, seed == 1 ? 2048 : 384, seed);
    ASSERT_TRUE(bed.open_status.ok()) << name_of(bed.open_status.error());
    Model model(bed, seed * 100 + GetParam());
    for (u32 step = 0; step < 500 && !HasFatalFailure(); ++step) {
      SCOPED_TRACE(step);
      model.step();
    }
    if (HasFatalFailure()) return;
    compare(bed, model.tree());
    EXPECT_TRUE(bed.buffers.validate());
    EXPECT_TRUE(bed.vfs.validate());
    ASSERT_EQ(ExtBed::said(bed.unmount()), "ok");
    const Image after = bed.stored();
    const CommandEnd end = e2fsck(after, "-n");
    ASSERT_EQ(end.code, 0) << end.output;
    ExtBed again(after, ExtMode::read_only, 2048);
    ASSERT_TRUE(again.open_status.ok());
    compare(again, model.tree());
    EXPECT_TRUE(again.unmount().ok());
  }
}

}  // namespace
}  // namespace spillway
