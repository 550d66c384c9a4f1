// Tests of the test: the operation language, the model, the shrinker and the runner.

#include <gtest/gtest.h>

#include <cstring>

#include "predict.h"
#include "suite.h"

namespace spillway::sim {
namespace {

constexpr AreaKind kReadWrite{.prot = Prot::read_write};

Op op_of(const std::string& line) {
  std::string problem;
  const std::optional<Op> op = kOps.parse(line, &problem);
  EXPECT_TRUE(op.has_value()) << line << ": " << problem;
  return op.value_or(Op{});
}

// Every case that a generator draws survives being printed and parsed.
TEST(OpLanguage, what_is_printed_parses_to_the_same) {
  for (u64 seed = 1; seed <= 20; ++seed) {
    const SimCase c = Runner::run_seed(seed, 100, 60).ran;
    std::string problem;
    const auto again = parse_case(print(c), &problem);
    ASSERT_TRUE(again.has_value()) << problem;
    EXPECT_TRUE(again->setup == c.setup);
    EXPECT_EQ(again->ops, c.ops);
    EXPECT_EQ(print(*again), print(c));
  }
}

TEST(OpLanguage, errors_name_line_and_word) {
  std::string problem;
  EXPECT_FALSE(parse_case("setup frames=100\n\n# a remark\nt0 jump at=3\n", &problem));
  EXPECT_EQ(problem, "line 4: unknown operation 'jump'");
  EXPECT_FALSE(parse_case("t0 load at=xyz len=1\n", &problem));
  EXPECT_EQ(problem, "line 1: cannot read 'at=xyz'");
  EXPECT_FALSE(parse_case("t7 load at=0 len=1\n", &problem));
  EXPECT_EQ(problem, "line 1: there is no such task");
  EXPECT_FALSE(parse_case("setup colour=3\n", &problem));
  EXPECT_EQ(problem, "line 1: cannot read 'colour=3'");
}

TEST(Content, pages_are_told_apart_by_place_and_seed) {
  u8 a[kPageSize];
  u8 b[kPageSize];
  for (const Fill fill : {Fill::same, Fill::pattern, Fill::text, Fill::half, Fill::random}) {
    make_page(fill, 5, 9, a);
    make_page(fill, 5, 9, b);
    EXPECT_EQ(std::memcmp(a, b, kPageSize), 0) << name_of(fill);
    make_page(fill, 5, 10, b);
    EXPECT_NE(std::memcmp(a, b, kPageSize), 0) << name_of(fill);
    make_page(fill, 6, 9, b);
    EXPECT_NE(std::memcmp(a, b, kPageSize), 0) << name_of(fill);
  }
}

TEST(SpaceModel, areas_split_and_merge) {
  SpaceModel m(1000, 10);
  m.map({100, 200}, kReadWrite);
  m.map({200, 300}, kReadWrite);
  EXPECT_EQ(m.area_count(), 1U);
  m.protect({150, 160}, Prot::read);
  EXPECT_EQ(m.area_count(), 3U);
  m.protect({150, 160}, Prot::read_write);
  EXPECT_EQ(m.area_count(), 1U);
  m.set_locked({250, 350}, true);
  EXPECT_EQ(m.locked_vm(), 50U);
  m.unmap({120, 130});
  EXPECT_EQ(m.total_vm(), 190U);
  EXPECT_FALSE(m.covered({100, 200}));
  EXPECT_TRUE(m.covered({130, 300}));
  EXPECT_TRUE(m.has_gap(700));
  EXPECT_FALSE(m.has_gap(701));
  // Foreign mappings stay apart, and naming no page changes nothing.
  m.map({300, 310}, AreaKind{.prot = Prot::read, .foreign = true});
  m.map({310, 320}, AreaKind{.prot = Prot::read, .foreign = true});
  const u64 areas = m.area_count();
  m.protect({315, 315}, Prot::none);
  EXPECT_EQ(m.area_count(), areas);
}

TEST(SpaceModel, bytes_move_and_go_with_their_area) {
  SpaceModel m(1000, 0);
  u8 page[kPageSize];
  make_page(Fill::random, 1, 1, page);
  m.map({0, 10}, kReadWrite);
  m.store(3, 0, page, kPageSize);
  EXPECT_TRUE(m.load(3, 100, page + 100, 50));
  m.move({0, 10}, {50, 60});
  EXPECT_TRUE(m.load(53, 0, page, kPageSize));
  EXPECT_EQ(m.find(3), nullptr);
  m.discard({50, 60});
  EXPECT_FALSE(m.load(53, 0, page, kPageSize));
  EXPECT_EQ(m.written_pages(), 0U);
}

// After MADV_FREE a page is what it was, or zeros; a store keeps both open until a load shows.
TEST(SpaceModel, freed_pages_are_old_or_zero_until_seen) {
  const u8 zeros[kPageSize] = {};
  u8 page[kPageSize];
  make_page(Fill::random, 1, 1, page);
  for (const bool kept : {true, false}) {
    SpaceModel m(10, 0);
    m.map({0, 10}, kReadWrite);
    m.store(0, 0, page, kPageSize);
    m.free_lazily({0, 10});
    m.store(0, 0, zeros, 8);
    m.free_lazily({0, 10});
    m.store(0, 16, page, 8);
    EXPECT_TRUE(m.load(0, 16, page, 8)) << "both possibilities agree here";
    EXPECT_TRUE(m.load(0, 100, kept ? page + 100 : zeros, 100));
    EXPECT_FALSE(m.load(0, 100, kept ? zeros : page + 100, 100)) << "it is settled now";
  }
}

TEST(Predict, refusals_follow_linux) {
  sim::Setup setup;
  setup.mlock_max = 4;
  setup.commit_max = 500;
  SpaceModel m(1000, 10);
  m.map({100, 110}, kReadWrite);
  m.map({110, 120}, AreaKind{.prot = Prot::read, .locked = true});
  const auto p = [&](const std::string& line) { return predict(m, setup, op_of(line)); };
  EXPECT_TRUE(p("t0 mprotect at=0x64000 len=0x14000 prot=r--").success);
  EXPECT_TRUE(p("t0 mprotect at=0x64000 len=0x15000 prot=r--").allows(Error::no_memory));
  EXPECT_TRUE(p("t0 mprotect at=0x64001 len=0x1000 prot=r--").allows(Error::invalid));
  EXPECT_TRUE(p("t0 madvise at=0x6d000 len=0x2000 advice=dontneed").allows(Error::invalid));
  EXPECT_TRUE(p("t0 mmap at=0x0 len=0x1f5000 prot=rw-").allows(Error::no_memory));
  EXPECT_TRUE(p("t0 mmap at=0x0 len=0x1f5000 prot=rw- flags=noreserve").success);
  EXPECT_TRUE(p("t0 mmap at=0x64000 len=0x1 prot=r-- flags=fixed+noreplace").allows(Error::exists));
  EXPECT_TRUE(p("t0 mmap at=0x0 len=0x5000 prot=rw- flags=locked").allows(Error::again));
  EXPECT_TRUE(
      p("t0 mremap at=0x6d000 len=0x2000 newlen=0x4000 flags=may_move").allows(Error::fault));
  EXPECT_TRUE(p("t0 mremap at=0x64000 len=0x1000 newlen=0x2000").allows(Error::no_memory));
  EXPECT_TRUE(p("t0 mlock at=0x64000 len=0x5000").allows(Error::no_memory));
  EXPECT_TRUE(p("t0 munmap at=0x0 len=0x3e8000").success);
  EXPECT_TRUE(p("t0 munmap at=0x0 len=0x3e9000").allows(Error::invalid));
  EXPECT_EQ(predict_brk(m, setup, 0x5001), 0x5001U);
  EXPECT_EQ(predict_brk(m, setup, 0xb000), 0U);
}

// The failure needs the ops with seeds 7 and 70, in this order; the rest is noise.
TEST(Shrink, finds_the_operations_that_matter) {
  SimCase c;
  for (u64 i = 0; i < 100; ++i) {
    Op op;
    op.kind = OpKind::store;
    op.seed = i;
    op.len = 64 * kPageSize;
    c.ops.push_back(op);
  }
  u32 tries = 0;
  const std::function<bool(const SimCase&)> fails = [&](const SimCase& candidate) {
    ++tries;
    bool first = false;
    for (const Op& op : candidate.ops) {
      if (op.seed == 7) first = true;
      if (op.seed == 70 && first && op.len >= 3 * kPageSize) return true;
    }
    return false;
  };
  const SimCase shortest = harness::shrink_case(c, SimSuite::simpler, fails, [] { return true; });
  ASSERT_EQ(shortest.ops.size(), 2U);
  EXPECT_EQ(shortest.ops[0].seed, 7U);
  EXPECT_EQ(shortest.ops[0].len, 0U);
  EXPECT_LE(shortest.ops[1].len, 4 * kPageSize);
  EXPECT_LT(tries, 300U);
  EXPECT_EQ(harness::shrink_case(c, SimSuite::simpler, fails, [] { return false; }).ops.size(),
            100U)
      << "no time, no change";
}

TEST(Runner, the_same_seed_does_the_same) {
  for (u64 seed = 1; seed <= 5; ++seed) {
    const RunResult a = Runner::run_seed(seed, 200, 60);
    const RunResult b = Runner::run_seed(seed, 200, 60);
    ASSERT_TRUE(a.ok) << a.failure;
    EXPECT_EQ(a.digest, b.digest);
    // What was recorded is what ran: the text alone repeats it.
    const RunResult again = Runner::run_case(a.ran, 60);
    EXPECT_EQ(again.digest, a.digest);
  }
  EXPECT_NE(Runner::run_seed(1, 200, 60).digest, Runner::run_seed(2, 200, 60).digest);
}

TEST(Runner, failures_of_one_kind_differ_in_numbers_only) {
  EXPECT_TRUE(harness::same_failure("panic: src/a.cc:12: x == y (1, 2)",
                                    "panic: src/a.cc:12: x == y (3, 4)"));
  EXPECT_FALSE(harness::same_failure("panic: src/a.cc:12: x == y", "panic: src/b.cc:12: x == y"));
  EXPECT_TRUE(
      harness::same_failure("wrong bytes: page 3 of t0 load", "wrong bytes: page 71 of t2 load"));
  EXPECT_FALSE(harness::same_failure("wrong bytes: page 3", "audit: I5 buddy"));
}

// A case that needs more time than it has is a failure with its operations, not a hang.
TEST(Runner, a_case_without_end_is_stopped) {
  SimCase c;
  Op op;
  op.kind = OpKind::background;
  for (u32 i = 0; i < 20'000; ++i) {
    op.kind = i % 2 == 0 ? OpKind::fork : OpKind::advance;
    op.number = ~u64{0} >> 20;
    c.ops.push_back(op);
  }
  c.setup.frames = c.setup.budget = 200'000;
  const RunResult r = Runner::run_case(c, 1);
  EXPECT_FALSE(r.ok);
  EXPECT_TRUE(harness::same_failure(r.failure, "hang: the case does not end within its time"))
      << r.failure;
  EXPECT_GT(r.ran.ops.size(), 0U);
}

}  // namespace
}  // namespace spillway::sim
