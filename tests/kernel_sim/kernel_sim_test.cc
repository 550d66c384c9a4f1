// Tests of the test: the operation language, the model and the runner.

#include <gtest/gtest.h>

#include <cstring>

#include "predict.h"
#include "programs.h"
#include "suite.h"

namespace spillway::ksim {
namespace {

Op op_of(const std::string& line) {
  std::string problem;
  const std::optional<Op> op = kOps.parse(line, &problem);
  EXPECT_TRUE(op.has_value()) << line << ": " << problem;
  return op.value_or(Op{});
}

ModelArea area_of(u64 first, u64 end, Prot prot = Prot::read_write) {
  ModelArea a;
  a.range = {first, end};
  a.prot = prot;
  return a;
}

// Every case that a generator draws survives being printed and parsed.
TEST(KsimLanguage, what_is_printed_parses_to_the_same) {
  for (u64 seed = 1; seed <= 10; ++seed) {
    const KsimCase c = Runner::run_seed(seed, 100, 60).ran;
    std::string problem;
    const auto again = parse_case(print(c), &problem);
    ASSERT_TRUE(again.has_value()) << problem;
    EXPECT_TRUE(again->setup == c.setup);
    EXPECT_EQ(again->ops, c.ops);
  }
}

TEST(KsimLanguage, errors_name_line_and_word) {
  std::string problem;
  EXPECT_FALSE(parse_case("setup frames=100\n\n# a remark\np0 jump at=3\n", &problem));
  EXPECT_EQ(problem, "line 4: unknown operation 'jump'");
  EXPECT_FALSE(parse_case("p9 load at=0x0 len=0x1\n", &problem));
  EXPECT_EQ(problem, "line 1: there is no such slot");
}

TEST(KsimRunner, the_same_seed_does_the_same) {
  for (u64 seed = 1; seed <= 4; ++seed) {
    const RunResult a = Runner::run_seed(seed, 120, 60);
    ASSERT_TRUE(a.ok) << a.failure;
    EXPECT_EQ(Runner::run_seed(seed, 120, 60).digest, a.digest);
    // What was recorded is what ran: the text alone repeats it.
    EXPECT_EQ(Runner::run_case(a.ran, 60).digest, a.digest);
  }
}

TEST(KsimMemory, bytes_behind_the_end_of_a_file_are_what_was_stored_or_zero) {
  Object file;
  file.kind = ObjectKind::file;
  file.size_bytes = 100;
  const u8 data[4] = {1, 2, 3, 4};
  file.store(0, 98, data, 4);
  const u8 zeroed[4] = {1, 2, 0, 0};
  const u8 lost[4] = {1, 0, 3, 4};
  EXPECT_TRUE(file.page(0).matches(98, data, 4));
  EXPECT_TRUE(file.page(0).matches(98, zeroed, 4));
  EXPECT_FALSE(file.page(0).matches(98, lost, 4));
  file.set_size(200);
  EXPECT_TRUE(file.page(0).matches(98, zeroed, 4));
  EXPECT_FALSE(file.page(0).matches(98, data, 4));
}

TEST(KsimMemory, a_private_page_that_may_be_a_copy_is_settled_by_a_load) {
  Space space;
  ModelArea a = area_of(10, 12);
  a.object = std::make_shared<Object>();
  a.object->kind = ObjectKind::file;
  a.object->size_bytes = 2 * kPageSize;
  space.map(a);
  space.maybe_copied({10, 11});
  const u8 one = 1;
  const u8 zero = 0;
  a.object->store(0, 0, &one, 1);
  Space other = space;
  EXPECT_TRUE(space.load(10, 0, &one, 1));    // it follows the file
  EXPECT_FALSE(space.load(10, 0, &zero, 1));  // and is no copy then
  EXPECT_TRUE(other.load(10, 0, &zero, 1));   // it was copied before
  EXPECT_FALSE(other.load(10, 0, &one, 1));
}

TEST(KsimMemory, fork_shares_bytes_until_somebody_writes) {
  Space parent;
  parent.map(area_of(10, 20));
  const u8 one = 1;
  const u8 two = 2;
  parent.store(12, 5, &one, 1);
  Space child = parent;
  child.store(12, 5, &two, 1);
  EXPECT_TRUE(parent.load(12, 5, &one, 1));
  EXPECT_TRUE(child.load(12, 5, &two, 1));
}

TEST(KsimWorld, truncation_takes_private_copies_too) {
  World world;
  Proc proc;
  proc.space = std::make_shared<Space>();
  ModelArea a = area_of(10, 14);
  a.object = std::make_shared<Object>();
  a.object->kind = ObjectKind::file;
  a.object->size_bytes = 4 * kPageSize;
  proc.space->map(a);
  const u8 one = 1;
  const u8 zero = 0;
  proc.space->store(13, 0, &one, 1);
  world.procs[0] = proc;
  world.truncate(*a.object, kPageSize);
  world.truncate(*a.object, 4 * kPageSize);
  EXPECT_TRUE(proc.space->load(13, 0, &zero, 1));
}

TEST(KsimPredict, a_stack_grows_within_its_limits) {
  World world;
  ksim::Setup setup;
  Proc proc;
  proc.space = std::make_shared<Space>();
  proc.space->limits = {4, kUnlimited, kUnlimited, 100};
  ModelArea stack = area_of(100, 101);
  stack.growsdown = stack.stack = true;
  proc.space->map(stack);
  proc.sp = 100 * kPageSize;
  const Context c{world, proc, setup, 1000, kClassicTop, {}};
  EXPECT_NE(stack_that_grows(c, 100 * kPageSize - 32), nullptr);
  EXPECT_EQ(stack_that_grows(c, 100 * kPageSize - 33), nullptr);
  proc.sp = 0;
  EXPECT_NE(stack_that_grows(c, 97 * kPageSize), nullptr);
  EXPECT_EQ(stack_that_grows(c, 96 * kPageSize), nullptr);
}

TEST(KsimPredict, refusals_follow_linux) {
  World world;
  ksim::Setup setup;
  Proc proc;
  proc.space = std::make_shared<Space>();
  proc.space->limits = {2048, 1000, kUnlimited, 4};
  proc.space->map(area_of(0x40000, 0x40010));
  ModelArea locked = area_of(0x40010, 0x40014);
  locked.locked = true;
  proc.space->map(locked);
  const auto p = [&](const std::string& line) {
    return predict(Context{world, proc, setup, 500, kClassicTop, {}}, op_of(line));
  };
  EXPECT_TRUE(p("p0 munmap at=0x40000000 len=0x1000").success);
  EXPECT_TRUE(p("p0 munmap at=0x40000001 len=0x1000").allows(Error::invalid));
  EXPECT_TRUE(p("p0 mmap at=0x0 len=0x1f5000 prot=rw-").allows(Error::no_memory));
  EXPECT_TRUE(p("p0 mmap at=0x0 len=0x1f5000 prot=r--").success);
  EXPECT_TRUE(p("p0 mmap at=0x0 len=0x1000 prot=rw- file=3").allows(Error::bad_fd));
  EXPECT_TRUE(p("p0 madvise at=0x40010000 len=0x1000 advice=dontneed").allows(Error::invalid));
  EXPECT_TRUE(p("p0 mlock at=0x40000000 len=0x1000").allows(Error::no_memory));
  EXPECT_TRUE(p("p0 mremap at=0x4000f000 len=0x2000 newlen=0x8000").allows(Error::fault));
}

// The words of a stack: argc, argv, 0, envp, 0.
TEST(KsimPrograms, a_stack_begins_with_argc_and_names_its_words) {
  const u64 top = 0xc0000000;
  const std::vector<u8> stack = make_stack("prog", {{"one", "two"}, {"A=1"}}, top);
  const u64 sp = top - stack.size();
  EXPECT_EQ(sp % 16, 0U);
  u64 words[5];
  std::memcpy(words, stack.data(), sizeof words);
  EXPECT_EQ(words[0], 2U);
  EXPECT_STREQ(reinterpret_cast<const char*>(&stack[words[2] - sp]), "two");
  EXPECT_EQ(words[3], 0U);
  EXPECT_STREQ(reinterpret_cast<const char*>(&stack[words[4] - sp]), "A=1");
  EXPECT_TRUE(make_stack("prog", {{std::string(200'000, 'x')}, {}}, top).empty());
}

}  // namespace
}  // namespace spillway::ksim
