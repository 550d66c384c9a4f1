// BufferCache by its contract: what is read, when it is written, what stays after failures.
#include "vfs/buffer_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kSecond = 1'000'000'000;

TEST(BufferCacheTest, row_69_second_read_of_a_block_needs_no_io) {
  BufferBed bed(BufferBed::config_of(256, 64));
  bed.store_byte(2, 0x5A);
  EXPECT_EQ(bed.peek(9), 0x5A);
  const BufferCacheStats first = bed.buffers.stats();
  EXPECT_EQ(first.reads, 1U);
  EXPECT_EQ(first.misses, 1U);
  const Result<Buffer*> again = bed.buffers.bread(9);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again.value()->data[0], 0x5A);
  bed.buffers.brelse(*again.value());
  // The block beside it came with the same page.
  EXPECT_TRUE(bed.buffers.bread(10).ok());
  EXPECT_EQ(bed.buffers.stats().reads, 1U);
  EXPECT_EQ(bed.buffers.stats().hits, first.hits + 1);
  EXPECT_TRUE(bed.buffers.validate());
}

TEST(BufferCacheTest, holders_share_one_buffer) {
  BufferBed bed(BufferBed::config_of(256, 64));
  Buffer* a = bed.bread(5).value();
  Buffer* b = bed.bread(5).value();
  EXPECT_EQ(a, b);
  EXPECT_EQ(a->count, 2U);
  bed.buffers.brelse(*a);
  EXPECT_EQ(b->count, 1U);
  bed.buffers.brelse(*b);
  EXPECT_EQ(bed.buffers.find(5)->count, 0U) << "stays findable";
}

TEST(BufferCacheTest, blocks_of_every_size_reach_the_device) {
  for (const u32 size : {512U, 1024U, 2048U, 4096U}) {
    SCOPED_TRACE(size);
    BufferBed bed(BufferBed::config_of(256, 16), size);
    ASSERT_EQ(bed.buffers.blocks(), 16 * kPageSize / size);
    for (u64 block = 0; block < bed.buffers.blocks(); block += 3) {
      bed.fill(block, static_cast<u8>(block + 1));
      ASSERT_TRUE(bed.buffers.validate());
    }
    EXPECT_TRUE(bed.sync().ok());
    EXPECT_EQ(bed.buffers.dirty(), 0U);
    for (u64 block = 0; block < bed.buffers.blocks(); ++block) {
      const char byte = block % 3 == 0 ? static_cast<char>(block + 1) : '\0';
      ASSERT_EQ(bed.stored(block), std::string(size, byte)) << block;
    }
    EXPECT_TRUE(bed.buffers.close().ok());
    EXPECT_TRUE(bed.nothing_leaks_here());
  }
}

TEST(BufferCacheTest, other_block_sizes_are_refused) {
  BufferBed bed(BufferBed::config_of(256, 16));
  BufferCache other;
  for (const u32 size : {0U, 256U, 1000U, 3072U, 8192U}) {
    const Status status = other.init(bed.sim.machine(), bed.cache, bed.allocator, bed.frames,
                                     bed.observer, *bed.sim.machine().block_devices[0], size);
    ASSERT_FALSE(status.ok()) << size;
    EXPECT_EQ(status.error(), Error::invalid);
  }
}

TEST(BufferCacheTest, a_block_beyond_the_device_is_invalid) {
  BufferBed bed(BufferBed::config_of(256, 16));
  for (const u64 block : {u64{64}, u64{65}, ~u64{0}, u64{1} << 60}) {
    EXPECT_EQ(bed.buffers.bread(block).error(), Error::invalid);
    EXPECT_EQ(bed.buffers.getblk(block).error(), Error::invalid);
    EXPECT_EQ(bed.buffers.forget(block).error(), Error::invalid);
    bed.buffers.read_ahead(block, 10);
  }
  bed.buffers.read_ahead(63, ~0U);
  bed.buffers.read_ahead(0, 0);
  bed.complete_all();
  EXPECT_EQ(bed.buffers.mapping().nr_pages, 1U);
}

TEST(BufferCacheTest, read_ahead_makes_later_reads_free_of_io) {
  BufferBed bed(BufferBed::config_of(256, 64));
  bed.store_byte(20, 7);
  EXPECT_EQ(bed.peek(4 * 20), 7);
  bed.buffers.read_ahead(4 * 10, 4 * 20);
  bed.complete_all();
  EXPECT_EQ(bed.buffers.stats().reads, 20U) << "the page that was cached is not read again";
  for (u64 block = 4 * 10; block < 4 * 30; ++block) EXPECT_TRUE(bed.buffers.bread(block).ok());
  EXPECT_EQ(bed.buffers.stats().reads, 20U);
  EXPECT_TRUE(bed.buffers.validate());
}

TEST(BufferCacheTest, a_failed_read_is_told_once_and_the_next_one_tries_again) {
  BufferBed bed(BufferBed::config_of(256, 64));
  bed.store_byte(3, 9);
  bed.disk().failures().fail_block(IoOp::read, 3);
  EXPECT_EQ(bed.bread(12).error(), Error::io);
  bed.disk().failures().clear_blocks();
  EXPECT_EQ(bed.peek(12), 9);
  EXPECT_EQ(bed.buffers.stats().buffers, 1U);
}

TEST(BufferCacheTest, a_bad_page_does_not_fail_those_read_with_it) {
  BufferBed bed(BufferBed::config_of(256, 64));
  bed.disk().failures().fail_block(IoOp::read, 5);
  bed.buffers.read_ahead(0, 4 * 10);
  bed.complete_all();
  for (u32 page = 0; page < 10; ++page) EXPECT_EQ(bed.page_at(page).valid(), page != 5) << page;
  EXPECT_TRUE(bed.buffers.validate());
}

TEST(BufferCacheTest, getblk_of_a_whole_page_does_not_read_it) {
  BufferBed bed(BufferBed::config_of(256, 64), 4096);
  bed.store_byte(3, 9);
  const Result<Buffer*> buffer = bed.buffers.getblk(3);
  ASSERT_TRUE(buffer.ok()) << "no I/O";
  std::memset(buffer.value()->data, 4, kPageSize);
  bed.buffers.mark_dirty(*buffer.value());
  bed.buffers.brelse(*buffer.value());
  EXPECT_EQ(bed.peek(3), 4);
  EXPECT_EQ(bed.buffers.stats().reads, 0U);
}

TEST(BufferCacheTest, what_nobody_filled_is_not_found) {
  BufferBed bed(BufferBed::config_of(256, 64), 4096);
  bed.store_byte(3, 9);
  Buffer* buffer = bed.getblk(3).value();
  EXPECT_EQ(bed.buffers.bread(3).error(), Error::busy);
  EXPECT_FALSE(bed.buffers.release_page(const_cast<Mapping&>(bed.buffers.mapping()), buffer->page));
  EXPECT_TRUE(bed.buffers.validate());
  bed.buffers.brelse(*buffer);
  EXPECT_EQ(bed.buffers.mapping().nr_pages, 0U);
  EXPECT_EQ(bed.peek(3), 9);
}

TEST(BufferCacheTest, getblk_of_a_part_of_a_page_keeps_the_rest) {
  BufferBed bed(BufferBed::config_of(256, 64), 1024);
  bed.store_byte(3, 9);
  bed.fill(13, 1);
  EXPECT_TRUE(bed.sync().ok());
  EXPECT_EQ(bed.stored(12), std::string(1024, 9));
  EXPECT_EQ(bed.stored(13), std::string(1024, 1));
  EXPECT_EQ(bed.stored(14), std::string(1024, 9));
}

TEST(BufferCacheTest, dirty_buffers_are_written_when_their_time_has_come_the_oldest_first) {
  BufferBed bed(BufferBed::config_of(256, 64), 1024);
  const u64 start = bed.sim.clock().now_ns();
  for (u64 i = 0; i < 10; ++i) {
    bed.fill(4 * (9 - i), 1);  // in ten pages, from the last one to the first
    bed.complete_all();
    bed.sim.advance(kSecond);
  }
  bed.fill(4 * 9 + 1, 1);  // in the page of the oldest
  bed.fill(4 * 9, 2);      // again: it keeps its time
  const u64 oldest = bed.buffers.next_flush_ns();
  EXPECT_LE(start + BufferCache::kFlushAfterNs, oldest);
  EXPECT_LT(oldest, start + BufferCache::kFlushAfterNs + kSecond);
  EXPECT_EQ(bed.buffers.flush(64, oldest - 1, false), 0U);
  EXPECT_EQ(bed.buffers.flush(64, oldest, false), 2U) << "with its neighbour in the page";
  EXPECT_EQ(bed.buffers.flush(64, oldest + kSecond + kSecond / 2, false), 1U);
  EXPECT_EQ(bed.buffers.flush(3, oldest, true), 3U) << "by number, the next oldest";
  bed.complete_all();
  EXPECT_EQ(bed.buffers.dirty(), 5U);
  EXPECT_EQ(bed.stored(4 * 9), std::string(1024, 2));
  EXPECT_EQ(bed.stored(4 * 5), std::string(1024, 1));
  EXPECT_EQ(bed.stored(4 * 4), std::string(1024, 0));
  EXPECT_TRUE(bed.buffers.validate());
}

TEST(BufferCacheTest, bytes_are_not_changed_while_they_are_written) {
  BufferBed bed(BufferBed::config_of(256, 64), 1024);
  bed.fill(8, 1);
  Buffer* held = bed.bread(8).value();
  EXPECT_TRUE(bed.buffers.wait_on_buffer(*held).ok());
  EXPECT_EQ(bed.buffers.flush(1, 0, true), 1U);
  EXPECT_EQ(bed.buffers.wait_on_buffer(*held).error(), Error::wait);
  EXPECT_EQ(bed.buffers.getblk(8).error(), Error::wait);
  EXPECT_EQ(bed.buffers.getblk(9).error(), Error::wait) << "another block of the page";
  EXPECT_EQ(bed.buffers.forget(9).error(), Error::wait);
  EXPECT_EQ(held->count, 1U);
  EXPECT_TRUE(bed.buffers.bread(9).ok()) << "who reads need not wait";
  bed.complete_all();
  EXPECT_TRUE(bed.buffers.wait_on_buffer(*held).ok());
  EXPECT_TRUE(bed.buffers.getblk(8).ok());
}

TEST(BufferCacheTest, dirtied_again_during_its_write_it_is_written_again) {
  BufferBed bed(BufferBed::config_of(256, 64), 1024);
  bed.fill(8, 1);
  Buffer* held = bed.bread(8).value();
  EXPECT_EQ(bed.buffers.flush(1, 0, true), 1U);
  bed.buffers.mark_dirty(*held);
  EXPECT_EQ(bed.buffers.flush(1, 0, true), 0U) << "one write of a page at a time";
  EXPECT_TRUE(bed.buffers.validate());
  bed.complete_all();
  EXPECT_TRUE(held->dirty);
  EXPECT_TRUE(bed.buffers.validate());
  EXPECT_EQ(bed.buffers.flush(1, 0, true), 1U);
  bed.complete_all();
  EXPECT_EQ(bed.buffers.stats().writes, 2U);
  EXPECT_EQ(bed.buffers.dirty(), 0U);
}

TEST(BufferCacheTest, a_failed_write_is_told_once_and_nothing_is_lost) {
  for (const Failure failure : {Failure::write_io, Failure::write_torn, Failure::write_no_space}) {
    SCOPED_TRACE(name_of(failure));
    BufferBed bed(BufferBed::config_of(256, 64), 1024);
    bed.store_byte(2, 5);
    bed.fill(8, 1);
    bed.fill(10, 2);
    bed.disk().failures().arm(failure, 1);
    const Status first = bed.sync();
    ASSERT_FALSE(first.ok());
    EXPECT_EQ(first.error(), failure == Failure::write_no_space ? Error::no_space : Error::io);
    EXPECT_EQ(bed.buffers.dirty(), 2U);
    EXPECT_TRUE(bed.buffers.validate());
    EXPECT_TRUE(bed.sync().ok()) << "told once, written by the next";
    EXPECT_EQ(bed.stored(8), std::string(1024, 1));
    EXPECT_EQ(bed.stored(9), std::string(1024, 5));
    EXPECT_EQ(bed.stored(10), std::string(1024, 2));
    EXPECT_EQ(bed.buffers.dirty(), 0U);
  }
}

TEST(BufferCacheTest, after_a_torn_write_a_block_that_was_forgotten_still_saves_its_neighbours) {
  BufferBed bed(BufferBed::config_of(256, 64), 512);
  bed.store_byte(2, 5);
  bed.fill(16, 1);
  bed.disk().failures().arm(Failure::write_torn, 1);
  EXPECT_FALSE(bed.sync().ok());
  EXPECT_TRUE(bed.buffers.forget(16).ok());
  EXPECT_EQ(bed.buffers.dirty(), 1U);
  EXPECT_TRUE(bed.sync().ok());
  for (u64 block = 17; block < 24; ++block) EXPECT_EQ(bed.stored(block), std::string(512, 5));
}

TEST(BufferCacheTest, a_forgotten_block_is_not_written) {
  BufferBed small(BufferBed::config_of(256, 64), 1024);
  small.fill(8, 1);
  small.fill(10, 2);
  EXPECT_TRUE(small.buffers.forget(8).ok());
  EXPECT_EQ(small.buffers.dirty(), 1U);
  EXPECT_TRUE(small.buffers.validate());
  EXPECT_TRUE(small.buffers.forget(10).ok());
  EXPECT_EQ(small.buffers.mapping().nr_dirty, 0U);
  EXPECT_TRUE(small.sync().ok());
  EXPECT_EQ(small.buffers.stats().writes, 0U);

  BufferBed whole(BufferBed::config_of(256, 64), 4096);
  whole.store_byte(2, 5);
  whole.fill(2, 1);
  Buffer* held = whole.bread(2).value();
  EXPECT_EQ(whole.buffers.forget(2).error(), Error::busy);
  whole.buffers.brelse(*held);
  EXPECT_TRUE(whole.buffers.forget(2).ok());
  EXPECT_EQ(whole.buffers.mapping().nr_pages, 0U);
  whole.store_byte(2, 6);  // its new owner writes it by other means
  EXPECT_TRUE(whole.sync().ok());
  EXPECT_EQ(whole.peek(2), 6);
}

TEST(BufferCacheTest, a_held_or_dirty_block_keeps_its_page_a_released_one_lets_it_go) {
  BufferBed bed(BufferBed::config_of(256, 64), 1024);
  Mapping& mapping = const_cast<Mapping&>(bed.buffers.mapping());
  bed.fill(8, 1);
  const Pfn pfn = bed.page_at(2);
  EXPECT_FALSE(bed.buffers.release_page(mapping, pfn)) << "dirty";
  EXPECT_TRUE(bed.sync().ok());
  Buffer* held = bed.bread(9).value();
  EXPECT_FALSE(bed.buffers.release_page(mapping, pfn)) << "held";
  EXPECT_EQ(bed.buffers.stats().buffers, 2U);
  bed.buffers.brelse(*held);
  EXPECT_EQ(bed.buffers.drop_clean(), 1U);
  EXPECT_EQ(bed.buffers.stats().buffers, 0U);
  EXPECT_EQ(bed.peek(8), 1);
}

TEST(BufferCacheTest, memory_is_shared_with_reclaim) {
  // 64 frames for 256 pages of blocks: most must leave again, dirty ones by a write.
  BufferBed bed(BufferBed::config_of(64, 256), 2048);
  for (u64 block = 0; block < 512; ++block) bed.fill(block, static_cast<u8>(block % 251 + 1));
  EXPECT_LT(100U, bed.evicting.evictions);
  EXPECT_TRUE(bed.buffers.validate());
  for (u64 block = 0; block < 512; ++block) {
    ASSERT_EQ(bed.peek(block), static_cast<int>(block % 251 + 1)) << block;
  }
  EXPECT_TRUE(bed.sync().ok());
  EXPECT_TRUE(bed.buffers.close().ok());
  EXPECT_TRUE(bed.nothing_leaks_here());
}

TEST(BufferCacheTest, all_memory_held_is_no_memory_and_nothing_breaks) {
  BufferBed bed(BufferBed::config_of(64, 256), 4096);
  std::vector<Buffer*> held;
  Result<Buffer*> last = Error::wait;
  for (u64 block = 0; block < 256; ++block) {
    last = bed.bread(block);
    if (!last.ok()) break;
    held.push_back(last.value());
  }
  ASSERT_FALSE(last.ok());
  EXPECT_EQ(last.error(), Error::no_memory);
  EXPECT_TRUE(bed.buffers.validate());
  for (Buffer* buffer : held) bed.buffers.brelse(*buffer);
  EXPECT_EQ(bed.peek(255), 0);
  EXPECT_TRUE(bed.buffers.close().ok());
  EXPECT_TRUE(bed.nothing_leaks_here());
}

TEST(BufferCacheTest, validate_sees_damage) {
  BufferBed bed(BufferBed::config_of(256, 64), 1024);
  bed.fill(8, 1);
  bed.fill(12, 1);
  bed.fill(16, 1);
  ASSERT_TRUE(bed.buffers.validate());
  Buffer* b = const_cast<Buffer*>(bed.buffers.find(12));
  b->dirty = false;
  EXPECT_FALSE(bed.buffers.validate());
  b->dirty = true;
  b->flush_ns += kSecond;
  EXPECT_FALSE(bed.buffers.validate()) << "not in the order of time";
  b->flush_ns -= kSecond;
  b->data += 1;
  EXPECT_FALSE(bed.buffers.validate());
  b->data -= 1;
  b->page = Pfn(b->page.v + 1);
  EXPECT_FALSE(bed.buffers.validate());
  b->page = Pfn(b->page.v - 1);
  b->uptodate = false;
  EXPECT_FALSE(bed.buffers.validate());
  b->uptodate = true;
  ASSERT_TRUE(bed.buffers.validate());
  bed.cache.clear_dirty(b->page);
  EXPECT_FALSE(bed.buffers.validate()) << "B3";
  bed.cache.set_dirty(b->page);
  bed.cache.set_dirty(bed.bread(4 * 30).value()->page);
  EXPECT_FALSE(bed.buffers.validate()) << "B3 the other way round";
}

}  // namespace
}  // namespace spillway
