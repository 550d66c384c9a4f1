// FsHost on a temporary directory: what is done through it must be on the host, what is on the host
// must be seen through it, and no name and no symbolic link may lead out of the directory.
#include "fs_host/fs_host.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>

#include "pagecache/cache_bed_test.h"

namespace spillway {
namespace {

namespace files = std::filesystem;

struct Names final : DirectorySink {
  bool entry(Name name, u64, u32, u64 next) override {
    if (seen == limit) return false;
    ++seen;
    names.insert(std::string(name.text, name.length));
    position = next;
    return true;
  }
  std::set<std::string> names;
  u64 position = 0;
  u32 seen = 0;
  u32 limit = ~u32{0};
};

// The directory `tree` is served; `beside` is what must never be reached.
struct FsHostTest : ::testing::Test, CacheBed {
  FsHostTest() : CacheBed(config_of(512)) {
    char name[] = "/tmp/spw-fs-host-XXXXXX";
    base = ::mkdtemp(name);
    files::create_directories(base / "tree");
    files::create_directories(base / "beside");
    put(base / "beside" / "secret", "nobody may read this");
    open();
  }
  ~FsHostTest() override {
    for (auto& inode : inodes) {
      (void)cache.truncate(inode->mapping, 0, nullptr, nullptr);
      cache.forget(inode->mapping);
    }
    fs.reset();
    files::remove_all(base);
  }
  void open(u32 fds_max = 64, bool read_only = false) {
    fs = std::make_unique<FsHost>();
    const std::string path = (base / "tree").string();
    const FsHostConfig config{.path = path.c_str(), .read_only = read_only, .fds_max = fds_max};
    ASSERT_TRUE(fs->init(config, cache, frames, sim.machine().frames).ok());
    root = take(fs->root());
  }
  Inode* take(u64 number) {
    inodes.push_back(std::make_unique<Inode>());
    Inode& inode = *inodes.back();
    inode.number = number;
    inode.fs = fs.get();
    inode.mapping.host = &inode;
    inode.mapping.backing = fs.get();
    cache.adopt(inode.mapping);
    const Status status = fs->read_inode(inode);
    EXPECT_TRUE(status.ok()) << name_of(status.error());
    return &inode;
  }
  Inode* get(Inode* directory, const char* name) {
    const Result<u64> number = fs->lookup(*directory, Name::of(name));
    EXPECT_TRUE(number.ok()) << name << ": " << name_of(number.error());
    return number.ok() ? take(number.value()) : nullptr;
  }
  Error lookup_error(Inode* directory, const char* name) {
    const Result<u64> number = fs->lookup(*directory, Name::of(name));
    EXPECT_FALSE(number.ok());
    return number.ok() ? Error::wait : number.error();
  }
  static void put(const files::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  static std::string text_at(const files::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream out;
    out << file.rdbuf();
    return out.str();
  }
  Pfn page(Inode* inode, u32 index) {
    Result<Pfn> pfn = cache.lookup(inode->mapping, index);
    if (!pfn.ok() && pfn.error() == Error::no_entry) {
      const Status started = cache.start_read(inode->mapping, index, 1, index, kAllocUser);
      EXPECT_TRUE(started.ok());
      pfn = cache.lookup(inode->mapping, index);
    }
    return pfn.ok() ? pfn.value() : kNoPfn;
  }
  std::string read_page(Inode* inode, u32 index) {
    const Pfn pfn = page(inode, index);
    if (!pfn.valid()) return "no page";
    return std::string(reinterpret_cast<char*>(sim.machine().frames.bytes(pfn)), kPageSize);
  }
  // As write(2) of a whole file of at most a page.
  void write_file(Inode* inode, const std::string& text) {
    ASSERT_TRUE(fs->reserve_blocks(*inode, 0, 1).ok());
    const Result<Pfn> added = cache.add_new(inode->mapping, 0, true, kAllocUser);
    ASSERT_TRUE(added.ok());
    inode->mapping.size_bytes = text.size();
    std::memcpy(sim.machine().frames.bytes(added.value()), text.data(), text.size());
    cache.set_dirty(added.value());
    sync(inode);
  }
  void sync(Inode* inode) {
    SyncTicket ticket;
    for (;;) {
      const Status status = cache.sync(inode->mapping, 0, ~u32{0}, ticket);
      if (status.ok()) break;
      ASSERT_EQ(status.error(), Error::wait) << name_of(status.error());
      ASSERT_NE(fs->deliver(), 0U);
    }
    ASSERT_TRUE(fs->write_inode(*inode).ok());
  }
  Result<u64> make(Inode* directory, const char* name, u32 mode) {
    NewInode made;
    made.mode = mode;
    return fs->create(*directory, Name::of(name), made);
  }

  files::path base;
  std::unique_ptr<FsHost> fs;
  std::vector<std::unique_ptr<Inode>> inodes;
  Inode* root = nullptr;
};

TEST_F(FsHostTest, reads_what_the_host_has) {
  put(base / "tree" / "a", std::string(kPageSize, 'x') + "end");
  Inode* a = get(root, "a");
  EXPECT_EQ(a->mapping.size_bytes, kPageSize + 3);
  EXPECT_TRUE(a->is_regular());
  EXPECT_EQ(read_page(a, 0), std::string(kPageSize, 'x'));
  EXPECT_EQ(read_page(a, 1), "end" + std::string(kPageSize - 3, '\0'));
  EXPECT_EQ(lookup_error(root, "b"), Error::no_entry);
}

TEST_F(FsHostTest, what_is_written_is_on_the_host_with_its_times) {
  const Result<u64> number = make(root, "new", kModeRegular | 0640);
  ASSERT_TRUE(number.ok());
  Inode* inode = take(number.value());
  inode->attr.mtime = {1'000'000, 123};
  write_file(inode, "hello, host");
  EXPECT_EQ(text_at(base / "tree" / "new"), "hello, host");
  struct stat status;
  ASSERT_EQ(::stat((base / "tree" / "new").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
  EXPECT_EQ(status.st_mtim.tv_sec, 1'000'000);
  EXPECT_EQ(status.st_mtim.tv_nsec, 123);
  inode->attr.mode = kModeRegular | 0600;
  EXPECT_TRUE(fs->write_inode(*inode).ok());
  ASSERT_EQ(::stat((base / "tree" / "new").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);
}

TEST_F(FsHostTest, a_size_that_only_memory_has_reaches_the_host) {
  Inode* inode = take(make(root, "sparse", kModeRegular | 0644).value());
  inode->mapping.size_bytes = 10 * kPageSize + 7;
  ASSERT_TRUE(fs->write_inode(*inode).ok());
  EXPECT_EQ(files::file_size(base / "tree" / "sparse"), 10 * kPageSize + 7);
  inode->mapping.size_bytes = 5;
  ASSERT_TRUE(fs->truncate(*inode, 5).ok());
  EXPECT_EQ(files::file_size(base / "tree" / "sparse"), 5U);
}

TEST_F(FsHostTest, directories_are_listed_in_pieces) {
  std::set<std::string> expected = {".", ".."};
  for (int i = 0; i < 2000; ++i) {
    const std::string name = "file" + std::to_string(i);
    put(base / "tree" / name, "");
    expected.insert(name);
  }
  Names got;
  while (true) {
    got.limit = got.seen + 37;
    const u32 before = got.seen;
    ASSERT_TRUE(fs->read_directory(*root, got.position, got).ok());
    if (got.seen == before) break;
  }
  EXPECT_EQ(got.names, expected);
  EXPECT_EQ(got.seen, expected.size());
}

TEST_F(FsHostTest, the_parent_of_the_root_is_the_root) {
  struct Sink final : DirectorySink {
    bool entry(Name name, u64 ino, u32, u64) override {
      if (name.is_dot_dot()) above = ino;
      return true;
    }
    u64 above = 0;
  } sink;
  ASSERT_TRUE(fs->read_directory(*root, 0, sink).ok());
  EXPECT_EQ(sink.above, root->number);
}

TEST_F(FsHostTest, names_change_on_the_host) {
  Inode* directory = take(make(root, "d", kModeDirectory | 0755).value());
  Inode* file = take(make(directory, "f", kModeRegular | 0644).value());
  EXPECT_EQ(make(directory, "f", kModeRegular | 0644).error(), Error::exists);
  ASSERT_TRUE(fs->link(*root, Name::of("second"), *file).ok());
  EXPECT_EQ(file->attr.nlink, 2U);
  EXPECT_EQ(fs->unlink(*root, Name::of("d"), *directory).error(), Error::not_empty);
  ASSERT_TRUE(fs->rename(*directory, Name::of("f"), *root, Name::of("moved"), *file, nullptr).ok());
  EXPECT_TRUE(files::exists(base / "tree" / "moved"));
  ASSERT_TRUE(fs->unlink(*root, Name::of("d"), *directory).ok());
  EXPECT_EQ(directory->attr.nlink, 0U);
  NewInode made;
  Inode* link = take(fs->symlink(*root, Name::of("l"), Name::of("../beside/secret"), made).value());
  char text[64];
  const Result<u32> length = fs->readlink(*link, text, sizeof text);
  ASSERT_TRUE(length.ok());
  EXPECT_EQ(std::string(text, length.value()), "../beside/secret");
  EXPECT_TRUE(link->is_symlink());
}

TEST_F(FsHostTest, rename_over_a_file_keeps_the_lost_one_usable) {
  Inode* a = take(make(root, "a", kModeRegular | 0644).value());
  Inode* b = take(make(root, "b", kModeRegular | 0644).value());
  write_file(a, "first");
  write_file(b, "second");
  ASSERT_TRUE(fs->rename(*root, Name::of("a"), *root, Name::of("b"), *a, b).ok());
  EXPECT_EQ(b->attr.nlink, 0U);
  EXPECT_EQ(text_at(base / "tree" / "b"), "first");
  (void)cache.truncate(b->mapping, 0, nullptr, nullptr);
  EXPECT_EQ(read_page(b, 0).substr(0, 6), "second");
}

TEST_F(FsHostTest, a_file_without_a_name_lives_until_its_last_user) {
  Inode* file = take(make(root, "gone", kModeRegular | 0644).value());
  write_file(file, "still here");
  open();  // nothing is open any more
  file = get(root, "gone");
  ASSERT_TRUE(fs->unlink(*root, Name::of("gone"), *file).ok());
  EXPECT_EQ(file->attr.nlink, 0U);
  EXPECT_FALSE(files::exists(base / "tree" / "gone"));
  EXPECT_EQ(read_page(file, 0).substr(0, 10), "still here");
  ASSERT_TRUE(fs->delete_inode(*file).ok());
  const u64 number = file->number;
  (void)cache.truncate(file->mapping, 0, nullptr, nullptr);
  fs->evict_inode(*file);
  Inode again;
  again.number = number;
  EXPECT_EQ(fs->read_inode(again).error(), Error::no_entry);
}

TEST_F(FsHostTest, few_descriptors_serve_many_files) {
  open(16);
  std::vector<Inode*> deep;
  Inode* at = root;
  for (int i = 0; i < 60; ++i) {
    const std::string name = "level" + std::to_string(i);
    at = take(make(at, name.c_str(), kModeDirectory | 0755).value());
    deep.push_back(take(make(at, "file", kModeRegular | 0644).value()));
  }
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < deep.size(); ++i) {
      if (round == 0) write_file(deep[i], "number " + std::to_string(i));
      (void)cache.truncate(deep[i]->mapping, 0, nullptr, nullptr);
      const std::string expected = "number " + std::to_string(i);
      EXPECT_EQ(read_page(deep[i], 0).substr(0, expected.size()), expected);
      EXPECT_LE(fs->node_stats().open_fds, 16U);
    }
  }
  EXPECT_GT(fs->node_stats().reopened, 60U);
}

TEST_F(FsHostTest, nodes_go_with_their_inodes) {
  Inode* at = root;
  std::vector<Inode*> made;
  for (int i = 0; i < 50; ++i) {
    at = take(make(at, "d", kModeDirectory | 0755).value());
    made.push_back(at);
  }
  EXPECT_EQ(fs->node_stats().nodes, 51U);
  // From the top: those above stay as long as somebody below needs them.
  for (Inode* inode : made) fs->evict_inode(*inode);
  EXPECT_EQ(fs->node_stats().nodes, 1U);
}

TEST_F(FsHostTest, hostile_names_are_refused) {
  for (const char* name : {"..", ".", "", "a/b", "/etc/passwd", "../beside/secret"}) {
    EXPECT_EQ(lookup_error(root, name), Error::invalid) << name;
    EXPECT_EQ(make(root, name, kModeRegular | 0644).error(), Error::invalid) << name;
  }
  const Name zero{"a\0b", 3};
  EXPECT_EQ(fs->lookup(*root, zero).error(), Error::invalid);
  EXPECT_EQ(lookup_error(root, std::string(256, 'x').c_str()), Error::invalid);
}

TEST_F(FsHostTest, symbolic_links_are_not_followed) {
  files::create_directory_symlink(base / "beside", base / "tree" / "out");
  Inode* link = get(root, "out");
  EXPECT_TRUE(link->is_symlink());
  EXPECT_EQ(lookup_error(link, "secret"), Error::not_directory);
  EXPECT_FALSE(make(link, "planted", kModeRegular | 0644).ok());
  EXPECT_FALSE(files::exists(base / "beside" / "planted"));
  link->attr.mode = kModeRegular | 0644;  // even who believes that it is a file
  link->mapping.size_bytes = kPageSize;
  EXPECT_EQ(cache.start_read(link->mapping, 0, 1, 0, kAllocUser).error(), Error::loop);
}

// Between two calls somebody replaces a directory by a link out of the tree. With few descriptors
// every one of them has to be opened again by name.
TEST_F(FsHostTest, a_component_that_becomes_a_link_does_not_lead_out) {
  files::create_directories(base / "tree" / "a" / "b");
  put(base / "tree" / "a" / "b" / "secret", "inside");
  put(base / "beside" / "b", "");
  files::remove(base / "beside" / "b");
  files::create_directories(base / "beside" / "b");
  put(base / "beside" / "b" / "secret", "outside");
  open(16);
  Inode* a = get(root, "a");
  Inode* b = get(a, "b");
  Inode* secret = get(b, "secret");
  for (int i = 0; i < 40; ++i) {
    (void)make(root, ("filler" + std::to_string(i)).c_str(), kModeRegular | 0644);
  }
  files::rename(base / "tree" / "a", base / "tree" / "was_a");
  files::create_directory_symlink(base / "beside", base / "tree" / "a");
  EXPECT_EQ(fs->lookup(*b, Name::of("secret")).error(), Error::stale);
  EXPECT_EQ(cache.start_read(secret->mapping, 0, 1, 0, kAllocUser).error(), Error::stale);
  EXPECT_EQ(make(b, "planted", kModeRegular | 0644).error(), Error::stale);
  EXPECT_FALSE(files::exists(base / "beside" / "b" / "planted"));
}

// The same with a descriptor still open: what was meant is what is used.
TEST_F(FsHostTest, an_open_directory_stays_the_same_when_its_name_is_replaced) {
  files::create_directories(base / "tree" / "a");
  put(base / "tree" / "a" / "f", "inside");
  Inode* a = get(root, "a");
  files::rename(base / "tree" / "a", base / "tree" / "was_a");
  files::create_directory_symlink(base / "beside", base / "tree" / "a");
  Inode* f = get(a, "f");
  EXPECT_EQ(read_page(f, 0).substr(0, 6), "inside");
  EXPECT_EQ(lookup_error(a, "secret"), Error::no_entry);
}

TEST_F(FsHostTest, unlink_takes_only_what_was_meant) {
  put(base / "tree" / "f", "old");
  Inode* f = get(root, "f");
  put(base / "tree" / "g", "other");
  files::rename(base / "tree" / "g", base / "tree" / "f");
  EXPECT_EQ(fs->unlink(*root, Name::of("f"), *f).error(), Error::stale);
  EXPECT_EQ(text_at(base / "tree" / "f"), "other");
}

TEST_F(FsHostTest, read_only_changes_nothing) {
  put(base / "tree" / "f", "kept");
  open(64, true);
  Inode* f = get(root, "f");
  EXPECT_EQ(make(root, "n", kModeRegular | 0644).error(), Error::read_only);
  EXPECT_EQ(fs->unlink(*root, Name::of("f"), *f).error(), Error::read_only);
  EXPECT_EQ(fs->truncate(*f, 0).error(), Error::read_only);
  EXPECT_EQ(fs->reserve_blocks(*f, 0, 1).error(), Error::read_only);
  EXPECT_EQ(text_at(base / "tree" / "f"), "kept");
}

TEST_F(FsHostTest, a_failed_write_is_told) {
  Inode* f = take(make(root, "f", kModeRegular | 0644).value());
  write_file(f, "fine");
  // The file may not grow: pwrite(2) fails with EFBIG.
  struct rlimit_guard {
    rlimit old;
    rlimit_guard() {
      ::getrlimit(RLIMIT_FSIZE, &old);
      const rlimit none{0, old.rlim_max};
      ::setrlimit(RLIMIT_FSIZE, &none);
      ::signal(SIGXFSZ, SIG_IGN);
    }
    ~rlimit_guard() { ::setrlimit(RLIMIT_FSIZE, &old); }
  } guard;
  cache.set_dirty(page(f, 0));
  SyncTicket ticket;
  Status status = cache.sync(f->mapping, 0, ~u32{0}, ticket);
  while (!status.ok() && status.error() == Error::wait) {
    ASSERT_NE(fs->deliver(), 0U);
    status = cache.sync(f->mapping, 0, ~u32{0}, ticket);
  }
  EXPECT_EQ(status.error(), Error::io);
}

// git makes its objects so: open(2) with O_CREAT and mode 0444, and a write.
TEST_F(FsHostTest, the_owner_writes_to_a_file_that_he_made_without_permission) {
  if (::geteuid() == 0) {
    // Root may do everything.
    ASSERT_EQ(::chown((base / "tree").c_str(), 65534, 65534), 0);
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const Result<u64> number = fs->create(*root, Name::of("f"), {.mode = kModeRegular | 0444});
  EXPECT_TRUE(number.ok());
  if (number.ok()) {
    Inode* inode = take(number.value());
    const Status reserved = fs->reserve_blocks(*inode, 0, 1);
    EXPECT_TRUE(reserved.ok()) << name_of(reserved.error());
  }
  (void)::seteuid(::getuid());
  struct stat status {};
  EXPECT_EQ(::stat((base / "tree/f").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0444U);
}

}  // namespace
}  // namespace spillway
