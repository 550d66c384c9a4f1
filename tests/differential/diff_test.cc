// Tests of the test: the operation language, the comparison of areas, the driver on sides that
// answer as they are told, and the shrinker.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <deque>

#include "diff_shrink.h"
#include "driver.h"
#include "generator.h"

namespace spillway::diff {
namespace {

Op op_of(const std::string& line) {
  std::string problem;
  const std::optional<Op> op = parse_op(line, &problem);
  EXPECT_TRUE(op.has_value()) << line << ": " << problem;
  return op.value_or(Op{});
}

TEST(DiffLanguage, what_is_printed_parses_to_the_same) {
  for (u64 seed = 1; seed <= 100; ++seed) {
    const DiffCase c = Generator(seed).draw(60);
    std::string problem;
    const auto again = parse_case(print(c), &problem);
    ASSERT_TRUE(again.has_value()) << problem;
    EXPECT_EQ(print(again->setup), print(c.setup));
    EXPECT_EQ(print(*again), print(c));
  }
}

TEST(DiffLanguage, errors_name_line_and_word) {
  std::string problem;
  EXPECT_FALSE(parse_case("setup memlock=4\n\n# a remark\np0 jump at=w:0x3\n", &problem));
  EXPECT_EQ(problem, "line 4: unknown operation 'jump'");
  EXPECT_FALSE(parse_case("p0 load at=x:1 len=1\n", &problem));
  EXPECT_EQ(problem, "line 1: cannot read 'at=x:1'");
  EXPECT_FALSE(parse_case("p0 load at=w:0 prot=rw-\n", &problem));
  EXPECT_EQ(problem, "line 1: cannot read 'prot=rw-'");
  EXPECT_FALSE(parse_case("p9 check\n", &problem));
  EXPECT_EQ(problem, "line 1: 'p9' is no process");
}

TEST(DiffLanguage, bits_without_a_name_survive) {
  const Op op = op_of("p0 mprotect at=w:0x1000 len=0x1000 prot=r-x+0x10");
  EXPECT_EQ(op.prot, u32{PROT_READ | PROT_EXEC | 0x10});
  EXPECT_EQ(print(op), "p0 mprotect at=w:0x1000 len=0x1000 prot=r-x+0x10");
}

AreaLine line(u64 first, u64 end, u32 prot = 3) {
  AreaLine a;
  a.start = kWindowStart + first * kPageSize;
  a.end = kWindowStart + end * kPageSize;
  a.prot = prot;
  return a;
}

TEST(DiffAreas, neighbours_merge_only_where_one_area_could_hold_both) {
  EXPECT_EQ(merged({line(0, 2), line(2, 4)}).size(), 1U);
  EXPECT_EQ(merged({line(0, 2), line(3, 4)}).size(), 2U);
  EXPECT_EQ(merged({line(0, 2), line(2, 4, 1)}).size(), 2U);
  AreaLine low = line(0, 2);
  AreaLine high = line(2, 4);
  low.object = high.object = 7;
  high.page_offset = 2;
  EXPECT_EQ(merged({low, high}).size(), 1U);
  high.page_offset = 3;
  EXPECT_EQ(merged({low, high}).size(), 2U);
}

TEST(DiffAreas, objects_pair_one_to_one) {
  ObjectPairs pairs;
  EXPECT_TRUE(pairs.match(0, 0));
  EXPECT_TRUE(pairs.match(10, 1));
  EXPECT_TRUE(pairs.match(10, 1));
  EXPECT_FALSE(pairs.match(10, 2));
  EXPECT_FALSE(pairs.match(11, 1));
  EXPECT_FALSE(pairs.match(0, 3));
}

// Answers what it was given, one after the other, then with success.
class FakeSide final : public Side {
 public:
  Answer perform(const Op& op) override {
    performed.push_back(op);
    if (answers.empty()) return {};
    const Answer a = answers.front();
    answers.pop_front();
    return a;
  }
  std::vector<AreaLine> areas(u32) override {
    if (area_lists.size() > 1) area_lists.pop_front();
    return area_lists.front();
  }
  u64 object_of_file(u32 file) override { return file + 1; }
  std::vector<u8> file_bytes(u32) override { return {}; }
  u64 file_size(u32) override { return 0x1800; }
  const char* name() const override { return whole ? "model" : "kernel"; }
  bool refuses_whole() const override { return whole; }

  std::deque<Answer> answers;
  std::vector<Op> performed;
  std::deque<std::vector<AreaLine>> area_lists{{}};  // the last one stays
  bool whole = false;
};

struct DriverTest : testing::Test {
  DriverTest() { right.whole = true; }
  std::string run(const std::string& text) {
    const auto d = driver.run(op_of(text));
    return d.has_value() ? d->kind : "";
  }
  FakeSide left;
  FakeSide right;
  Driver driver{left, right};
};

Answer refused(int error) {
  Answer a;
  a.error = error;
  return a;
}

TEST_F(DriverTest, tells_errnos_apart) {
  left.answers = {refused(EINVAL)};
  right.answers = {refused(ENOMEM)};
  EXPECT_EQ(run("p0 munmap at=w:0x1000 len=0x1000"),
            "errno of munmap: kernel EINVAL, model ENOMEM");
}

TEST_F(DriverTest, tells_signals_and_bytes_apart) {
  Answer a;
  a.signo = 11;
  a.code = 1;
  Answer b = a;
  b.code = 2;
  left.answers = {a};
  right.answers = {b};
  EXPECT_EQ(run("p0 load at=w:0x0 len=0x1"),
            "signal of load: kernel SEGV_MAPERR, model SEGV_ACCERR");
  a = b = Answer{};
  a.bytes = {1, 2};
  b.bytes = {1, 3};
  left.answers = {a};
  right.answers = {b};
  EXPECT_EQ(run("p0 load at=w:0x0 len=0x2"), "bytes of load");
}

TEST_F(DriverTest, tells_areas_apart) {
  right.area_lists = {{line(3, 4)}};
  EXPECT_EQ(run("p0 munmap at=w:0x1000 len=0x1000"), "areas after munmap: number");
}

TEST_F(DriverTest, wipes_what_a_refused_call_changed_in_the_kernel_only) {
  left.answers = {refused(ENOMEM)};
  right.answers = {refused(ENOMEM)};
  left.area_lists = {{}, {line(1, 2, 1)}, {}};
  EXPECT_EQ(run("p0 mprotect at=w:0x1000 len=0x3000 prot=r--"), "");
  ASSERT_EQ(right.performed.size(), 2U);
  EXPECT_EQ(print(right.performed[1]), "p0 munmap at=w:0x1000 len=0x3000");
  EXPECT_EQ(left.performed[1], right.performed[1]);
}

TEST_F(DriverTest, a_model_that_changes_something_when_it_refuses_is_wrong) {
  left.answers = {refused(ENOMEM)};
  right.answers = {refused(ENOMEM)};
  left.area_lists = {{}, {line(1, 2, 1)}};
  right.area_lists = {{line(1, 2, 1)}};
  EXPECT_EQ(run("p0 mprotect at=w:0x1000 len=0x3000 prot=r--"),
            "refused mprotect changed the areas: number");
}

TEST_F(DriverTest, brings_home_what_landed_elsewhere) {
  Answer a;
  a.value = 0x7f0000000000;
  Answer b;
  b.value = 0x7e0000000000;
  left.answers = {a};
  right.answers = {b};
  EXPECT_EQ(run("p0 mmap at=w:0x1000 len=0x1000 prot=rw- flags=private+anonymous to=w:0x2000"), "");
  ASSERT_EQ(right.performed.size(), 2U);
  EXPECT_EQ(right.performed[1].kind, OpKind::mremap);
  EXPECT_EQ(right.performed[1].at.offset, b.value);
  EXPECT_EQ(left.performed[1].at.offset, a.value);
}

TEST_F(DriverTest, operations_of_dead_processes_are_skipped) {
  EXPECT_EQ(run("p1 munmap at=w:0x1000 len=0x1000"), "");
  EXPECT_TRUE(left.performed.empty());
  EXPECT_EQ(run("p0 fork n=1"), "");
  EXPECT_EQ(run("p1 munmap at=w:0x1000 len=0x1000"), "");
  EXPECT_EQ(left.performed.size(), 2U);
  EXPECT_EQ(driver.reached().skipped, 1U);
}

TEST(DiffShrink, keeps_what_the_difference_needs) {
  DiffCase c = Generator(5).draw(60);
  c.ops.insert(c.ops.begin() + 30, op_of("p0 munmap at=w:0x5000 len=0x8000"));
  const auto fails = [](const DiffCase& candidate) {
    for (const Op& op : candidate.ops) {
      if (op.kind == OpKind::munmap && op.at.offset == 0x5000 && op.len >= 2 * kPageSize) {
        return true;
      }
    }
    return false;
  };
  const DiffCase s = shrink(c, fails, [] { return true; });
  ASSERT_EQ(s.ops.size(), 1U);
  EXPECT_EQ(s.ops[0].len, 2 * kPageSize);
  EXPECT_TRUE(s.setup == diff::Setup{});
}

}  // namespace
}  // namespace spillway::diff
