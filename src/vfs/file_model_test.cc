// Several files at once against strings. Tasks read, write, truncate, sync and replace their files
// while transfers end in random order, memory is short, pages are dropped and written behind their
// backs, programs scribble behind ends of files, and the device fails now and then. Every invariant
// is checked after each step, and at the end the device holds exactly the strings.
#include "base/prng.h"
#include "vfs/file_bed_test.h"

namespace spillway {
namespace {

constexpr u32 kTasks = 3;
constexpr u64 kCapacity = 24;

struct Task {
  enum class Op : u8 { none, read, write, set_size, sync };
  Inode* inode = nullptr;
  std::string name;
  std::string content;
  FileReadahead ra;
  Op op = Op::none;
  u64 offset = 0;
  u64 size = 0;
  u64 done = 0;
  std::string buffer;
};

class FileModel {
 public:
  explicit FileModel(u64 seed)
      : prng_(seed), bed_(FileBed::config_of(40 + prng_.below(60), kTasks * kCapacity + 10, seed)) {
    for (u32 i = 0; i < kTasks; ++i) open(tasks_[i]);
  }

  bool was_short_of_memory() const { return bed_.evicting.evictions != 0; }
  bool had_errors() const { return bed_.count(Counter::io_error) != 0; }

  void run(u32 steps) {
    for (u32 i = 0; i < steps; ++i) {
      SCOPED_TRACE(testing::Message() << "step " << i);
      step();
      ASSERT_TRUE(bed_.validate());
      ASSERT_TRUE(policy_knows_the_pages());
      if (testing::Test::HasFailure()) return;
    }
    finish();
  }

 private:
  void open(Task& task) {
    const std::string name = "file" + std::to_string(names_++);
    const u64 size = prng_.below(kCapacity * kPageSize);
    const u64 capacity = prng_.between(pages_for(size).v == 0 ? 1 : pages_for(size).v, kCapacity);
    const Result<Inode*> inode =
        bed_.vfs.create(bed_.root(), Name::of(name.c_str()), {.capacity_pages = capacity});
    // Dying files may still hold blocks.
    if (!inode.ok()) {
      EXPECT_TRUE(inode.error() == Error::no_space || inode.error() == Error::wait);
      return;
    }
    task.inode = inode.value();
    task.name = name;
    ASSERT_TRUE(bed_.vfs.set_size(*task.inode, size).ok());
    task.content = std::string(size, '\0');
    task.ra = FileReadahead{};
  }
  void close(Task& task) {
    ASSERT_TRUE(bed_.unlink(task.name.c_str()).ok());
    bed_.vfs.put(*task.inode);
    task.inode = nullptr;
  }

  void step() {
    const u64 what = prng_.below(100);
    if (what < 25) {
      bed_.sim.complete_one();
    } else if (what < 32) {
      disturb();
    } else if (what < 34) {
      fail_something();
    } else {
      Task& task = tasks_[prng_.below(kTasks)];
      if (task.inode == nullptr) {
        open(task);
      } else {
        if (task.op == Task::Op::none) choose(task);
        if (task.op != Task::Op::none) go_on(task);
      }
    }
  }

  // Drops a clean page, writes a dirty one, or stores behind an end of file.
  void disturb() {
    Task& task = tasks_[prng_.below(kTasks)];
    if (task.inode == nullptr) return;
    if (prng_.one_in(3)) {
      scribble(*task.inode);
      return;
    }
    for (u32 i = 0; i < 10; ++i) {
      const u32 index = static_cast<u32>(prng_.below(kCapacity));
      const Pfn pfn = bed_.cache.find(task.inode->mapping, index).pfn();
      if (!pfn.valid()) continue;
      const Page& page = bed_.frames[pfn];
      if (page.state != PageState::unmapped || page.has(PageFlag::writeback)) continue;
      if (page.has(PageFlag::dirty)) {
        (void)bed_.cache.write_page(pfn);
      } else {
        bed_.cache.free_page(pfn, index);
      }
    }
  }
  void scribble(Inode& inode) {
    const u64 size = inode.mapping.size_bytes;
    if ((size & kPageMask) == 0) return;
    const Result<Pfn> pfn = bed_.cache.lookup(inode.mapping, static_cast<u32>(size >> kPageShift));
    if (!pfn.ok() || bed_.frames[pfn.value()].has(PageFlag::writeback)) return;
    bed_.sim.frames().bytes(pfn.value())[prng_.between(size & kPageMask, kPageSize - 1)] = 0xEE;
    bed_.cache.set_dirty(pfn.value());
  }
  void fail_something() {
    constexpr Failure kKinds[] = {Failure::read_io, Failure::write_io, Failure::write_torn,
                                  Failure::write_no_space};
    bed_.disk().failures().arm(kKinds[prng_.below(4)], prng_.between(1, 5));
  }

  void choose(Task& task) {
    const u64 limit = FileStore::capacity_pages(*task.inode) * kPageSize;
    task.done = 0;
    task.offset = prng_.one_in(3) ? prng_.below(limit) & ~kPageMask : prng_.below(limit);
    task.size = prng_.one_in(3) ? prng_.between(1, 4) * kPageSize : prng_.between(1, 9000);
    switch (prng_.below(12)) {
      case 0:
        if (prng_.one_in(4)) close(task);
        return;
      case 1:
        task.op = Task::Op::set_size;
        task.size = prng_.one_in(4) ? task.offset & ~kPageMask : task.offset;
        return;
      case 2: task.op = Task::Op::sync; return;
      case 3:
      case 4:
      case 5:
      case 6:
        task.op = Task::Op::write;
        task.buffer.assign(task.size, '\0');
        for (char& c : task.buffer) c = static_cast<char>('a' + prng_.below(26));
        return;
      case 7: task.offset = task.ra.next * kPageSize; [[fallthrough]];
      default: task.op = Task::Op::read; task.buffer.assign(task.size, '?');
    }
  }

  void go_on(Task& task) {
    switch (task.op) {
      case Task::Op::none: return;
      case Task::Op::read: {
        const Result<u64> got =
            bed_.vfs.read(*task.inode, task.ra, task.offset,
                          reinterpret_cast<u8*>(task.buffer.data()), task.size, &task.done);
        if (waits(got)) return;
        if (got.ok()) {
          const u64 start = std::min<u64>(task.offset, task.content.size());
          const std::string expected = task.content.substr(start, got.value());
          ASSERT_EQ(got.value(), expected.size());
          ASSERT_TRUE(task.buffer.compare(0, expected.size(), expected) == 0)
              << task.name << " offset " << task.offset;
          if (got.value() < std::min<u64>(task.size, task.content.size() - start)) ++short_reads;
        } else {
          ASSERT_EQ(got.error(), Error::io);
        }
        break;
      }
      case Task::Op::write: {
        const Result<u64> got =
            bed_.vfs.write(*task.inode, task.offset,
                           reinterpret_cast<const u8*>(task.buffer.data()), task.size, &task.done);
        if (waits(got)) return;
        ASSERT_TRUE(got.ok() || got.error() == Error::io) << name_of(got.error());
        if (got.ok() && got.value() != 0) {
          const u64 end = task.offset + got.value();
          if (task.content.size() < end) task.content.resize(end, '\0');
          task.content.replace(task.offset, got.value(), task.buffer, 0, got.value());
        }
        break;
      }
      case Task::Op::set_size: {
        const Status status = bed_.vfs.set_size(*task.inode, task.size);
        if (waits(status)) return;
        ASSERT_TRUE(status.ok() || status.error() == Error::io) << name_of(status.error());
        if (status.ok()) task.content.resize(task.size, '\0');
        break;
      }
      case Task::Op::sync: {
        const Status status = bed_.vfs.fsync(*task.inode);
        if (waits(status)) return;
        ASSERT_TRUE(status.ok() || status.error() == Error::io ||
                    status.error() == Error::no_space);
        break;
      }
    }
    task.op = Task::Op::none;
    ASSERT_EQ(task.inode->mapping.size_bytes, task.content.size());
  }
  template <class R>
  bool waits(const R& result) {
    if (result.ok() || result.error() != Error::wait) return false;
    EXPECT_NE(bed_.sim.pending(), 0U) << "waits for nothing";
    return true;
  }

  // The policy knows each cached page that is not being read, and no other.
  bool policy_knows_the_pages() {
    u64 announced = 0;
    for (u32 i = 0; i < bed_.frames.count().v; ++i) {
      const Page& page = bed_.frames[Pfn(i)];
      if (!page.in_page_cache() || page.state == PageState::reading) continue;
      if (bed_.evicting.known.count(Pfn(i)) == 0) return false;
      ++announced;
    }
    return announced == bed_.evicting.known.size();
  }

  void finish() {
    bed_.disk().failures().disarm_all();
    for (Task& task : tasks_) {
      for (u32 i = 0; task.inode != nullptr && task.op != Task::Op::none; ++i) {
        ASSERT_LT(i, 10000U);
        go_on(task);
        bed_.sim.complete_one();
        if (testing::Test::HasFailure()) return;
      }
    }
    for (Task& task : tasks_) {
      if (task.inode == nullptr) continue;
      Inode& inode = *task.inode;
      // Failures from before are told first.
      for (u32 i = 0; i < 3 && !bed_.sync(inode).ok(); ++i) {
      }
      ASSERT_EQ(inode.mapping.nr_dirty, 0U);
      std::string padded = task.content;
      padded.resize(inode.mapping.size_pages() * kPageSize, '\0');
      for (u64 p = 0; p < inode.mapping.size_pages(); ++p) {
        ASSERT_TRUE(bed_.stored(inode, p) == padded.substr(p * kPageSize, kPageSize))
            << "page " << p;
      }
      bed_.drop(inode);
      ASSERT_TRUE(bed_.read(inode, 0, padded.size()) == task.content);
    }
    for (Task& task : tasks_) {
      if (task.inode != nullptr) close(task);
    }
    bed_.complete_all();
    EXPECT_EQ(bed_.cache.mappings(), 1U);
    EXPECT_TRUE(bed_.wait_for([&] { return bed_.vfs.unmount(); }).ok());
    EXPECT_EQ(bed_.files.in_flight(), 0U);
    EXPECT_TRUE(bed_.validate());
    EXPECT_TRUE(bed_.nothing_leaks_here());
  }

  Prng prng_;
  FileBed bed_;
  Task tasks_[kTasks];
  u32 names_ = 0;
  u64 short_reads = 0;
};

TEST(FileModelTest, random_operations_agree_with_strings) {
  u32 shortages = 0;
  for (u64 seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    FileModel model(seed);
    model.run(2500);
    shortages += model.was_short_of_memory() ? 1 : 0;
    EXPECT_TRUE(model.had_errors());
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_LE(3U, shortages);
}

}  // namespace
}  // namespace spillway
