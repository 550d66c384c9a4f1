// Random operations on a buffer cache against the bytes that every block must have: blocks are
// read, changed, filled, forgotten, held and read ahead while transfers end in random order, memory
// is short or gone, reclaim drops and writes pages, and the device fails reads and tears writes.
// The invariants are checked after every step; whenever a sync succeeds, and at the end, the device
// holds exactly the model.
#include <optional>

#include "base/prng.h"
#include "vfs/buffer_bed_test.h"

namespace spillway {
namespace {

class BufferModel {
 public:
  BufferModel(u64 seed, u32 block_size)
      : prng_(seed),
        size_(block_size),
        bed_(BufferBed::config_of(30 + prng_.below(80), 40 + prng_.below(60), seed), block_size),
        content_(bed_.buffers.blocks()) {
    for (u64 block = 0; block < content_.size(); ++block) content_[block] = bed_.stored(block);
  }

  bool was_short_of_memory() const { return bed_.evicting.evictions != 0; }
  u32 failed_allocations() const { return failed_allocations_; }
  u32 failed_syncs() const { return failed_syncs_; }
  u64 io_errors() const { return bed_.count(Counter::io_error); }

  void run(u32 steps) {
    for (u32 i = 0; i < steps; ++i) {
      SCOPED_TRACE(testing::Message() << "step " << i);
      step();
      ASSERT_TRUE(bed_.buffers.validate());
      if (testing::Test::HasFailure()) return;
    }
    finish();
  }

 private:
  u64 any_block() {
    // Half of the accesses meet in few places.
    return prng_.below(prng_.one_in(2) ? content_.size() : content_.size() / 8);
  }

  void step() {
    switch (prng_.below(24)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4: bed_.sim.complete_one(); return;
      case 5:
      case 6:
      case 7: read(); return;
      case 8:
      case 9:
      case 10:
      case 11: change(); return;
      case 12:
      case 13: fill(); return;
      case 14: hold(); return;
      case 15: release(); return;
      case 16: forget(); return;
      case 17: bed_.buffers.read_ahead(any_block(), static_cast<u32>(prng_.below(60))); return;
      case 18:
        (void)bed_.buffers.flush(static_cast<u32>(prng_.below(9)), bed_.sim.clock().now_ns(),
                                 prng_.one_in(2));
        return;
      case 19: bed_.sim.advance(prng_.below(9'000'000'000)); return;
      case 20: evict(); return;
      case 21: take_memory(); return;
      case 22:
        if (prng_.one_in(3)) fail_something();
        return;
      default: sync();
    }
  }

  // Whether the call has to be made again; counts want of memory.
  template <class R>
  bool not_now(const R& result) {
    if (result.ok()) return false;
    if (result.error() == Error::no_memory) ++failed_allocations_;
    EXPECT_TRUE(result.error() != Error::wait || bed_.sim.pending() != 0) << "waits for nothing";
    EXPECT_TRUE(result.error() == Error::wait || result.error() == Error::no_memory ||
                result.error() == Error::io)
        << name_of(result.error());
    return true;
  }
  std::string bytes_of(const Buffer& buffer) const {
    return std::string(reinterpret_cast<const char*>(buffer.data), size_);
  }
  void check(const Buffer& buffer) {
    const std::optional<std::string>& expected = content_[buffer.block];
    if (expected.has_value()) {
      ASSERT_TRUE(bytes_of(buffer) == *expected) << "block " << buffer.block;
    }
  }
  std::string random_bytes(u64 count) {
    std::string bytes(count, '\0');
    for (char& c : bytes) c = static_cast<char>(prng_.next());
    return bytes;
  }

  void read() {
    const Result<Buffer*> got = bed_.buffers.bread(any_block());
    if (not_now(got)) return;
    check(*got.value());
    bed_.buffers.brelse(*got.value());
  }
  void change() {
    const u64 block = any_block();
    const Result<Buffer*> got = bed_.buffers.bread(block);
    if (not_now(got)) return;
    Buffer& buffer = *got.value();
    check(buffer);
    if (!not_now(bed_.buffers.wait_on_buffer(buffer))) {
      const u64 at = prng_.below(size_);
      const std::string bytes = random_bytes(prng_.between(1, size_ - at));
      std::memcpy(buffer.data + at, bytes.data(), bytes.size());
      bed_.buffers.mark_dirty(buffer);
      if (content_[block].has_value()) content_[block]->replace(at, bytes.size(), bytes);
    } else if (prng_.one_in(2)) {
      bed_.buffers.mark_dirty(buffer);  // without a change, while it is being written
    }
    bed_.buffers.brelse(buffer);
  }
  void fill() {
    const u64 block = any_block();
    const Result<Buffer*> got = bed_.buffers.getblk(block);
    if (not_now(got)) return;
    Buffer& buffer = *got.value();
    if (!prng_.one_in(5)) {
      content_[block] = random_bytes(size_);
      std::memcpy(buffer.data, content_[block]->data(), size_);
      bed_.buffers.mark_dirty(buffer);
    }  // else its caller thinks better of it
    bed_.buffers.brelse(buffer);
  }
  void hold() {
    if (held_.size() > 8) return;
    const Result<Buffer*> got = bed_.buffers.bread(any_block());
    if (!not_now(got)) held_.push_back(got.value());
  }
  void release() {
    if (held_.empty()) return;
    const u64 i = prng_.below(held_.size());
    check(*held_[i]);
    bed_.buffers.brelse(*held_[i]);
    held_[i] = held_.back();
    held_.pop_back();
  }
  void forget() {
    const u64 block = any_block();
    const Status status = bed_.buffers.forget(block);
    if (!status.ok() && status.error() == Error::busy) {
      ASSERT_TRUE(std::any_of(held_.begin(), held_.end(),
                              [block](const Buffer* b) { return b->block == block; }));
    } else if (!not_now(status)) {
      content_[block].reset();
    }
  }
  void evict() {
    if (prng_.one_in(8)) {
      (void)bed_.buffers.drop_clean();
      return;
    }
    (void)bed_.evicting.reclaim(PageCount(prng_.below(4)));
  }
  // Somebody else takes frames, or gives them back.
  void take_memory() {
    if (!taken_.empty() && prng_.one_in(2)) {
      for (const Pfn pfn : taken_) bed_.allocator.free(pfn, 0);
      taken_.clear();
      return;
    }
    for (u64 i = prng_.below(60); i > 0; --i) {
      const Result<Pfn> pfn = bed_.allocator.alloc(0, AllocFlags{.memalloc = true});
      if (!pfn.ok()) return;
      taken_.push_back(pfn.value());
    }
  }
  void fail_something() {
    constexpr Failure kKinds[] = {Failure::read_io, Failure::write_io, Failure::write_torn,
                                  Failure::write_no_space};
    bed_.disk().failures().arm(kKinds[prng_.below(4)], prng_.between(1, 5), prng_.between(1, 3));
  }
  void sync() {
    const Status status = bed_.sync();
    if (!status.ok()) {
      ASSERT_TRUE(status.error() == Error::io || status.error() == Error::no_space);
      ++failed_syncs_;
      return;
    }
    ASSERT_EQ(bed_.buffers.dirty(), 0U);
    device_is_the_model();
  }
  void device_is_the_model() {
    for (u64 block = 0; block < content_.size(); ++block) {
      if (!content_[block].has_value()) continue;
      ASSERT_TRUE(bed_.stored(block) == *content_[block]) << "block " << block;
    }
  }

  void finish() {
    bed_.disk().failures().disarm_all();
    for (Buffer* buffer : held_) bed_.buffers.brelse(*buffer);
    for (const Pfn pfn : taken_) bed_.allocator.free(pfn, 0);
    bed_.complete_all();
    // Failures from before are told first, one kind at a time.
    for (u32 i = 0; i < 3 && bed_.buffers.dirty() != 0; ++i) (void)bed_.sync();
    ASSERT_EQ(bed_.buffers.dirty(), 0U);
    device_is_the_model();
    bed_.complete_all();
    (void)bed_.buffers.drop_clean();
    ASSERT_EQ(bed_.buffers.mapping().nr_pages, 0U);
    for (u64 block = 0; block < content_.size(); ++block) {
      Result<Buffer*> got = bed_.bread(block);
      if (!got.ok()) got = bed_.bread(block);  // a failure from before was told
      ASSERT_TRUE(got.ok());
      check(*got.value());
      bed_.buffers.brelse(*got.value());
    }
    ASSERT_TRUE(bed_.wait_for([&] { return bed_.buffers.close(); }).ok());
    EXPECT_TRUE(bed_.nothing_leaks_here());
  }

  Prng prng_;
  const u32 size_;
  BufferBed bed_;
  std::vector<std::optional<std::string>> content_;  // none: nobody's, may be anything
  std::vector<Buffer*> held_;
  std::vector<Pfn> taken_;
  u32 failed_allocations_ = 0;
  u32 failed_syncs_ = 0;
};

TEST(BufferModelTest, random_operations_agree_with_bytes) {
  u32 shortages = 0;
  u32 failed_allocations = 0;
  u32 failed_syncs = 0;
  constexpr u32 kSizes[] = {512, 1024, 2048, 4096};
  for (u64 seed = 1; seed <= 24; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    BufferModel model(seed, kSizes[seed % 4]);
    model.run(1500);
    shortages += model.was_short_of_memory() ? 1 : 0;
    failed_allocations += model.failed_allocations();
    failed_syncs += model.failed_syncs();
    EXPECT_NE(model.io_errors(), 0U);
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_LE(12U, shortages);
  EXPECT_LE(10U, failed_allocations);
  EXPECT_LE(10U, failed_syncs);
}

}  // namespace
}  // namespace spillway
