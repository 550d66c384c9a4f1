// Goal: no policy ever loses or confuses a byte. Method: random operations of several processes on
// small machines with injected I/O errors, compared with a model byte by byte, an audit after each
// step; for each policy, over many seeds. SPW_STRESS_SEEDS=first..last runs others,
// SPW_STRESS_STEPS more steps, SPW_STRESS_LOG=1 prints each operation.
#include "system/stress_bed_test.h"

namespace spillway {
namespace {

struct Span {
  u64 first = 1;
  u64 last = 12;
};
Span seeds() {
  Span span;
  const char* text = std::getenv("SPW_STRESS_SEEDS");
  unsigned long long first = 0;
  unsigned long long last = 0;
  if (text != nullptr && std::sscanf(text, "%llu..%llu", &first, &last) == 2) span = {first, last};
  return span;
}
u32 steps() {
  const char* text = std::getenv("SPW_STRESS_STEPS");
  return text == nullptr ? 300 : static_cast<u32>(std::strtoul(text, nullptr, 10));
}

class PolicyStressTest : public ::testing::TestWithParam<Policy> {};

INSTANTIATE_TEST_SUITE_P(Policies, PolicyStressTest, ::testing::ValuesIn(kStressPolicies),
                         [](const auto& p) { return std::string(policy_name(p.param)); });

TEST_P(PolicyStressTest, every_byte_survives) {
  u64 evicted = 0;
  u64 swapped_in = 0;
  u64 ooms = 0;
  for (u64 seed = seeds().first; seed <= seeds().last; ++seed) {
    if (std::getenv("SPW_STRESS_LOG") != nullptr) {
      std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(seed));
    }
    StressBed bed(GetParam(), seed);
    ASSERT_NO_FATAL_FAILURE(bed.boot()) << "seed " << seed;
    ASSERT_NO_FATAL_FAILURE(bed.run(steps())) << "seed " << seed;
    ASSERT_NO_FATAL_FAILURE(bed.finish()) << "seed " << seed;
    ASSERT_FALSE(HasFailure()) << "seed " << seed;
    evicted += bed.count(Counter::pgsteal);
    swapped_in += bed.count(Counter::pswpin);
    ooms += bed.ooms;
  }
  // A test that never evicts says nothing.
  EXPECT_GT(evicted, 100U);
  EXPECT_GT(swapped_in, 100U);
  std::printf("%llu evicted, %llu swapped in, %llu times out of memory\n",
              static_cast<unsigned long long>(evicted), static_cast<unsigned long long>(swapped_in),
              static_cast<unsigned long long>(ooms));
}

}  // namespace
}  // namespace spillway
