// The operation language of the allocators: the fuzzer's corpus, random programs, and that the run
// can fail.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/prng.h"
#include "vmalloc/alloc_world_ops.h"

namespace spillway {
namespace {

std::vector<AllocOp> random_program(u64 seed, u32 ops) {
  Prng prng(seed);
  std::vector<u8> bytes(u64{ops} * 4);
  for (u8& byte : bytes) byte = static_cast<u8>(prng.next());
  bytes[0] = 0;
  return read_program(bytes.data(), bytes.size());
}

TEST(AllocOps, the_corpus_of_the_fuzzer_passes) {
  u32 files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(SPW_SOURCE_DIR "/tests/fuzz/alloc")) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    u32 bad_line = 0;
    const std::vector<AllocOp> program =
        read_program(reinterpret_cast<const u8*>(text.data()), text.size(), &bad_line);
    EXPECT_EQ(bad_line, 0U) << entry.path();
    EXPECT_FALSE(program.empty()) << entry.path();
    AllocWorld world;
    EXPECT_EQ(world.run(program), "") << entry.path();
    ++files;
  }
  EXPECT_GE(files, 4U);
}

TEST(AllocOps, random_programs_pass) {
  for (u64 seed = 1; seed <= 60; ++seed) {
    AllocWorld world;
    ASSERT_EQ(world.run(random_program(seed, 300)), "") << "seed " << seed;
    ASSERT_EQ(world.done(), 300U);
  }
}

TEST(AllocOps, text_and_bytes_say_the_same) {
  const std::vector<AllocOp> program = random_program(7, 200);
  const std::string text = print(program);
  u32 bad_line = 0;
  const std::vector<AllocOp> again =
      read_program(reinterpret_cast<const u8*>(text.data()), text.size(), &bad_line);
  EXPECT_EQ(bad_line, 0U);
  EXPECT_EQ(print(again), text);
  ASSERT_EQ(again.size(), 200U);
  for (const char* wrong : {"#\nalloc 1 0\nalloc 1\n", "#\nfree 1 1\nnothing 1 1\n",
                            "#\nfree 1 1\nfree 256 0\n", "#\nfree 1 1\nfree 1 1 1\n"}) {
    const std::vector<AllocOp> rest =
        read_program(reinterpret_cast<const u8*>(wrong), std::strlen(wrong), &bad_line);
    EXPECT_EQ(bad_line, 3U) << wrong;
    EXPECT_EQ(rest.size(), 1U) << wrong;
  }
}

// One byte of something that is held changes: the run says so.
TEST(AllocOps, damage_is_noticed) {
  const AllocOp kEach[] = {
      {AllocOpKind::alloc, 3, 0}, {AllocOpKind::vmalloc, 0, 5}, {AllocOpKind::kmalloc, 0, 99}};
  for (const AllocOp& op : kEach) {
    AllocWorld world;
    world.damage_after(1);
    EXPECT_NE(world.run({op}), "");
  }
  AllocWorld world;
  world.damage_after(2);
  EXPECT_NE(world.run({{AllocOpKind::create, 0, 100}, {AllocOpKind::take, 0, 10}}), "");
}

}  // namespace
}  // namespace spillway
