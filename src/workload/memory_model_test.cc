// Goal: the model knows what bytes must be after fork, copy-on-write, mremap, truncate and the
// like. Method: small spaces by hand; what real memory does is stated in each case.
#include "workload/memory_model.h"

#include <gtest/gtest.h>

namespace spillway {
namespace {

using Sharing = MemoryModel::Sharing;
constexpr Vpn kAt{0x100};
constexpr VirtAddr kAddress{0x100000};

std::vector<u8> bytes(u64 count, u8 value) { return std::vector<u8>(count, value); }

class Memory : public ::testing::Test {
 protected:
  void write(MemoryModel::SpaceKey space, VirtAddr at, u8 value, u64 count = 1) {
    const std::vector<u8> data = bytes(count, value);
    model.write(space, at, data.data(), count);
  }
  bool is(MemoryModel::SpaceKey space, VirtAddr at, u8 value, u64 count = 1) {
    const std::vector<u8> data = bytes(count, value);
    return !model.check(space, at, data.data(), count).has_value();
  }
  MemoryModel model;
  MemoryModel::SpaceKey a = model.add_space();
};

TEST_F(Memory, zeros_then_what_was_written) {
  model.map_zeros(a, kAt, 2);
  EXPECT_TRUE(is(a, kAddress, 0, 2 * kPageSize));
  write(a, kAddress + 4090, 7, 12);
  EXPECT_TRUE(is(a, kAddress + 4090, 7, 12));
  EXPECT_TRUE(is(a, kAddress, 0, 4090));
  const std::vector<u8> data = bytes(20, 7);
  const auto wrong = model.check(a, kAddress + 4090, data.data(), 20);
  ASSERT_TRUE(wrong.has_value());
  EXPECT_EQ(wrong->offset, 12U);
  EXPECT_EQ(wrong->expected, 0);
  EXPECT_EQ(wrong->actual, 7);
}

TEST_F(Memory, unknown_bytes_are_learnt) {
  model.map_unknown(a, kAt, 1);
  EXPECT_TRUE(is(a, kAddress, 9));
  EXPECT_FALSE(is(a, kAddress, 8));
  model.forget(a, kAddress, 1);
  EXPECT_TRUE(is(a, kAddress, 8));
}

TEST_F(Memory, fork_parts_private_pages_only) {
  model.map_zeros(a, kAt, 1);
  const auto object = model.add_object(kPageSize);
  model.map_object(a, kAt + 1, 1, object, 0, Sharing::shared);
  write(a, kAddress, 1);
  const auto b = model.fork(a);
  write(b, kAddress, 2);
  write(b, kAddress + kPageSize, 3);
  EXPECT_TRUE(is(a, kAddress, 1));
  EXPECT_TRUE(is(b, kAddress, 2));
  EXPECT_TRUE(is(a, kAddress + kPageSize, 3));
}

TEST_F(Memory, private_file_pages_follow_the_file_until_written) {
  const auto file = model.add_object(bytes(kPageSize, 5));
  model.map_object(a, kAt, 1, file, 0, Sharing::private_copy);
  const std::vector<u8> six = bytes(1, 6);
  model.write_object(file, 10, six.data(), 1);
  EXPECT_TRUE(is(a, kAddress + 10, 6));
  write(a, kAddress + 11, 7);
  model.write_object(file, 12, six.data(), 1);
  EXPECT_TRUE(is(a, kAddress + 12, 5));
  const std::vector<u8> five = bytes(1, 5);
  EXPECT_FALSE(model.check_object(file, 11, five.data(), 1).has_value());
  // MADV_DONTNEED brings the file's page back.
  model.discard(a, kAt, 1);
  EXPECT_TRUE(is(a, kAddress + 11, 5));
  EXPECT_TRUE(is(a, kAddress + 12, 6));
}

TEST_F(Memory, moves_and_grows) {
  model.map_zeros(a, kAt, 2);
  write(a, kAddress, 1);
  write(a, kAddress + kPageSize, 2);
  model.move(a, kAt, 2, Vpn(0x200), 3);
  EXPECT_TRUE(is(a, VirtAddr(0x200000), 1));
  EXPECT_TRUE(is(a, VirtAddr(0x201000), 2));
  EXPECT_TRUE(is(a, VirtAddr(0x202000), 0, kPageSize));
  // In place: from and to overlap.
  model.move(a, Vpn(0x200), 3, Vpn(0x200), 1);
  model.move(a, Vpn(0x200), 1, Vpn(0x200), 2);
  EXPECT_TRUE(is(a, VirtAddr(0x200000), 1));
  EXPECT_TRUE(is(a, VirtAddr(0x201000), 0, kPageSize));
}

TEST_F(Memory, truncated_files_read_as_zeros_when_they_grow_back) {
  const auto file = model.add_object(bytes(2 * kPageSize, 5));
  model.resize_object(file, 100);
  model.resize_object(file, 2 * kPageSize);
  const std::vector<u8> five = bytes(100, 5);
  EXPECT_FALSE(model.check_object(file, 0, five.data(), 100).has_value());
  const std::vector<u8> zeros = bytes(kPageSize, 0);
  EXPECT_FALSE(model.check_object(file, kPageSize, zeros.data(), kPageSize).has_value());
}

TEST_F(Memory, a_stack_grows_by_itself) {
  EXPECT_TRUE(is(a, kAddress, 0));
  write(a, kAddress + 1, 3);
  EXPECT_TRUE(is(a, kAddress + 1, 3));
}

}  // namespace
}  // namespace spillway
