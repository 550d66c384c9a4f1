// Vfs against a tree of maps: random names are made, found, linked, moved and removed, files read,
// written and cut, while both caches are pruned at any time. Over MemFs, and over FileStore with
// its metadata on the device, where every call may have to wait. Every invariant is checked after
// each step, and at the end all that is left is found again from cold caches.
#include <map>
#include <memory>

#include "base/prng.h"
#include "vfs/vfs_bed_test.h"

namespace spillway {
namespace {

struct ModelNode {
  u32 type = kModeRegular;
  u32 nlink = 1;
  std::string content;  // or a link's target
  std::map<std::string, std::shared_ptr<ModelNode>> names;
};
using NodePtr = std::shared_ptr<ModelNode>;

// The calls of a bed, by Vfs alone.
template <class Bed>
class VfsModel {
 public:
  VfsModel(Bed& bed, u64 seed) : bed_(bed), prng_(seed) {
    root_ = std::make_shared<ModelNode>();
    root_->type = kModeDirectory;
    root_->nlink = 2;
  }
  void run(u32 steps) {
    for (u32 i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      SCOPED_TRACE(::testing::Message() << "step " << i);
      step();
      ASSERT_TRUE(bed_.vfs.validate());
    }
    drop();
    compare(bed_.vfs.root(), *root_);
  }

 private:
  struct Dir {
    Inode* inode;
    NodePtr node;
  };
  static Name as_name(const std::string& s) { return {s.data(), static_cast<u32>(s.size())}; }
  template <class Call>
  auto call(Call c) {
    return bed_.wait_for(c);
  }
  // A directory by a random walk, held.
  Dir some_directory() {
    Dir at{&bed_.vfs.root(), root_};
    bed_.vfs.hold(*at.inode);
    while (prng_.one_in(2)) {
      std::vector<std::string> below;
      for (const auto& [name, node] : at.node->names) {
        if (node->type == kModeDirectory) below.push_back(name);
      }
      if (below.empty()) break;
      const std::string name = below[prng_.below(below.size())];
      const Result<Inode*> next = call([&] { return bed_.vfs.lookup(*at.inode, as_name(name)); });
      EXPECT_TRUE(next.ok()) << name;
      if (!next.ok()) break;
      bed_.vfs.put(*at.inode);
      at = {next.value(), at.node->names[name]};
    }
    return at;
  }
  // Few, so that they meet; some too long to lie in the dentry.
  std::string some_name() {
    std::string name(1, static_cast<char>('a' + prng_.below(6)));
    if (prng_.one_in(5)) name.resize(200, name[0]);
    return name;
  }
  static bool reaches(const NodePtr& from, const NodePtr& to) {
    if (from == to) return true;
    for (const auto& [name, node] : from->names) {
      if (reaches(node, to)) return true;
    }
    return false;
  }
  static NodePtr find(const Dir& dir, const std::string& name) {
    const auto it = dir.node->names.find(name);
    return it == dir.node->names.end() ? nullptr : it->second;
  }
  void expect(const Status& got, Error want, const char* what) {
    // `wait` stands for: well.
    if (want == Error::wait) {
      EXPECT_TRUE(got.ok()) << what << ": " << (got.ok() ? "" : name_of(got.error()));
    } else {
      EXPECT_FALSE(got.ok()) << what;
      EXPECT_STREQ(got.ok() ? "ok" : name_of(got.error()), name_of(want)) << what;
    }
  }

  void step() {
    const Dir dir = some_directory();
    const std::string name = some_name();
    switch (prng_.below(12)) {
      case 0:
      case 1: make(dir, name, kModeRegular); break;
      case 2: make(dir, name, kModeDirectory); break;
      case 3: make(dir, name, kModeSymlink); break;
      case 4: remove(dir, name); break;
      case 5:
      case 6: rename(dir, name); break;
      case 7: link(dir, name); break;
      case 8:
      case 9:
      case 10: contents(dir, name); break;
      default:
        if (prng_.one_in(4)) {
          drop();
        } else {
          (void)bed_.vfs.dentries().prune(prng_.below(8));
          (void)bed_.vfs.inodes().prune(prng_.below(8));
        }
    }
    bed_.vfs.put(*dir.inode);
  }
  void drop() {
    for (u32 i = 0; i < 3; ++i) {
      (void)bed_.vfs.dentries().prune(10000);
      (void)bed_.vfs.inodes().prune(10000);
      bed_.complete_all();
    }
    if constexpr (requires { bed_.files; }) {
      EXPECT_TRUE(call([&] { return bed_.vfs.sync(); }).ok());
      (void)bed_.files.buffers()->drop_clean();
    }
  }
  void make(const Dir& dir, const std::string& name, u32 type) {
    const std::string target(prng_.between(1, 300), 't');
    const Result<Inode*> made = call([&]() -> Result<Inode*> {
      NewInode n;
      n.mode = type | 0700;
      n.capacity_pages = 8;
      if (type == kModeSymlink) {
        return bed_.vfs.symlink(*dir.inode, as_name(name), as_name(target), n);
      }
      return bed_.vfs.create(*dir.inode, as_name(name), n);
    });
    if (find(dir, name) != nullptr) {
      ASSERT_FALSE(made.ok());
      EXPECT_EQ(made.error(), Error::exists);
      return;
    }
    if (!made.ok()) {
      EXPECT_STREQ(name_of(made.error()), name_of(Error::no_space));
      return;
    }
    auto node = std::make_shared<ModelNode>();
    node->type = type;
    if (type == kModeSymlink) node->content = target;
    if (type == kModeDirectory) {
      node->nlink = 2;
      ++dir.node->nlink;
    }
    EXPECT_EQ(made.value()->attr.nlink, node->nlink);
    bed_.vfs.put(*made.value());
    dir.node->names[name] = node;
  }
  void remove(const Dir& dir, const std::string& name) {
    const NodePtr node = find(dir, name);
    const bool wants_directory = prng_.one_in(2);
    Error want = Error::wait;
    if (node == nullptr) {
      want = Error::no_entry;
    } else if (wants_directory != (node->type == kModeDirectory)) {
      want = wants_directory ? Error::not_directory : Error::is_directory;
    } else if (!node->names.empty()) {
      want = Error::not_empty;
    }
    expect(call([&] {
             return wants_directory ? bed_.vfs.rmdir(*dir.inode, as_name(name))
                                    : bed_.vfs.unlink(*dir.inode, as_name(name));
           }),
           want, "remove");
    if (want != Error::wait) return;
    --node->nlink;
    if (wants_directory) --dir.node->nlink;
    dir.node->names.erase(name);
  }
  void rename(const Dir& from, const std::string& old_name) {
    const Dir to = some_directory();
    const std::string name = some_name();
    const bool noreplace = prng_.one_in(4);
    const NodePtr node = find(from, old_name);
    const NodePtr there = find(to, name);
    Error want = Error::wait;
    if (node == nullptr) {
      want = Error::no_entry;
    } else if (from.node != to.node && node->type == kModeDirectory && reaches(node, to.node)) {
      want = Error::invalid;
    } else if (there != nullptr) {
      const bool is_dir = there->type == kModeDirectory;
      if (noreplace) {
        want = Error::exists;
      } else if (from.node != to.node && is_dir && reaches(there, from.node)) {
        want = Error::not_empty;
      } else if (there != node && is_dir != (node->type == kModeDirectory)) {
        want = is_dir ? Error::is_directory : Error::not_directory;
      } else if (there != node && !there->names.empty()) {
        want = Error::not_empty;
      }
    }
    const Status got = call([&] {
      return bed_.vfs.rename(*from.inode, as_name(old_name), *to.inode, as_name(name), noreplace);
    });
    bed_.vfs.put(*to.inode);
    if (want == Error::wait && !got.ok() && got.error() == Error::no_space) return;
    expect(got, want, "rename");
    if (want != Error::wait || there == node) return;
    const bool is_dir = node->type == kModeDirectory;
    if (there != nullptr) {
      --there->nlink;
      if (is_dir) --to.node->nlink;
    }
    from.node->names.erase(old_name);
    to.node->names[name] = node;
    if (is_dir) {
      --from.node->nlink;
      ++to.node->nlink;
    }
  }
  void link(const Dir& from, const std::string& old_name) {
    const NodePtr node = find(from, old_name);
    if (node == nullptr) return;
    const Result<Inode*> inode =
        call([&] { return bed_.vfs.lookup(*from.inode, as_name(old_name)); });
    ASSERT_TRUE(inode.ok());
    const Dir to = some_directory();
    const std::string name = some_name();
    Error want = Error::wait;
    if (node->type == kModeDirectory) {
      want = Error::perm;
    } else if (find(to, name) != nullptr) {
      want = Error::exists;
    }
    const Status got =
        call([&] { return bed_.vfs.link(*to.inode, as_name(name), *inode.value()); });
    bed_.vfs.put(*inode.value());
    bed_.vfs.put(*to.inode);
    if (want == Error::wait && !got.ok() && got.error() == Error::no_space) return;
    expect(got, want, "link");
    if (want != Error::wait) return;
    ++node->nlink;
    to.node->names[name] = node;
  }
  void contents(const Dir& dir, const std::string& name) {
    const NodePtr node = find(dir, name);
    const Result<Inode*> found = call([&] { return bed_.vfs.lookup(*dir.inode, as_name(name)); });
    ASSERT_EQ(found.ok(), node != nullptr);
    if (node == nullptr) {
      EXPECT_EQ(found.error(), Error::no_entry);
      return;
    }
    Inode& inode = *found.value();
    EXPECT_EQ(inode.attr.nlink, node->nlink);
    EXPECT_EQ(inode.type(), node->type);
    if (node->type == kModeRegular) {
      const u64 at = prng_.below(3 * kPageSize);
      if (prng_.one_in(3)) {
        EXPECT_TRUE(call([&] { return bed_.vfs.set_size(inode, at); }).ok());
        node->content.resize(at, '\0');
      } else {
        std::string data(prng_.between(1, 5000), static_cast<char>('A' + prng_.below(26)));
        u64 done = 0;
        const Result<u64> wrote = call([&] {
          return bed_.vfs.write(inode, at, reinterpret_cast<const u8*>(data.data()), data.size(),
                                &done);
        });
        ASSERT_TRUE(wrote.ok()) << name_of(wrote.error());
        if (node->content.size() < at + data.size()) node->content.resize(at + data.size(), '\0');
        node->content.replace(at, data.size(), data);
      }
      if (prng_.one_in(4)) {
        EXPECT_TRUE(call([&] { return bed_.vfs.fsync(inode); }).ok());
      }
      check_contents(inode, *node);
    }
    bed_.vfs.put(inode);
  }
  void check_contents(Inode& inode, const ModelNode& node) {
    if (node.type == kModeSymlink) {
      char text[512];
      const Result<u32> length = call([&] { return bed_.vfs.readlink(inode, text, sizeof text); });
      ASSERT_TRUE(length.ok());
      EXPECT_EQ(std::string(text, length.value()), node.content);
      return;
    }
    ASSERT_EQ(inode.mapping.size_bytes, node.content.size());
    std::string out(node.content.size() + 1, '?');
    u64 done = 0;
    FileReadahead ra;
    const Result<u64> got = call([&] {
      return bed_.vfs.read(inode, ra, 0, reinterpret_cast<u8*>(out.data()), out.size(), &done);
    });
    ASSERT_TRUE(got.ok());
    out.resize(got.value());
    EXPECT_TRUE(out == node.content) << "SILENT CORRUPTION";
  }
  void compare(Inode& directory, const ModelNode& node) {
    EXPECT_EQ(directory.attr.nlink, node.nlink);
    Listing listing;
    for (bool more = true; more;) {
      listing.left = 4;
      ASSERT_TRUE(
          call([&] { return bed_.vfs.read_directory(directory, listing.position, listing); }).ok());
      more = listing.left != 4;
    }
    std::set<std::string> names(listing.names.begin(), listing.names.end());
    EXPECT_EQ(names.size(), listing.names.size());
    EXPECT_EQ(names.size(), node.names.size() + 2);
    for (const auto& [name, child] : node.names) {
      EXPECT_EQ(names.count(name), 1U);
      const Result<Inode*> found = call([&] { return bed_.vfs.lookup(directory, as_name(name)); });
      ASSERT_TRUE(found.ok()) << name;
      if (child->type == kModeDirectory) {
        compare(*found.value(), *child);
      } else {
        EXPECT_EQ(found.value()->attr.nlink, child->nlink);
        check_contents(*found.value(), *child);
      }
      bed_.vfs.put(*found.value());
    }
  }

  Bed& bed_;
  Prng prng_;
  NodePtr root_;
};

TEST(VfsModelTest, a_file_system_in_memory_agrees_with_a_tree_of_maps) {
  for (u64 seed = 1; seed <= 8 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    VfsBed bed;
    VfsModel<VfsBed>(bed, seed).run(1500);
    EXPECT_TRUE(bed.mem.validate());
    EXPECT_EQ(bed.unmount(), "ok");
  }
}

TEST(VfsModelTest, a_file_store_with_metadata_on_the_device_agrees_with_a_tree_of_maps) {
  for (u64 seed = 1; seed <= 8 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    FileBed bed(FileBed::config_of(2048, 2048, seed), Metadata::on_device);
    VfsModel<FileBed>(bed, seed).run(1200);
    EXPECT_TRUE(bed.validate());
    EXPECT_TRUE(bed.wait_for([&] { return bed.vfs.unmount(); }).ok());
  }
}

}  // namespace
}  // namespace spillway
