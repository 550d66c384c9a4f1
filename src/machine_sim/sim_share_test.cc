// Frames with several mappings in two spaces, and entries that the core rewrites.
#include <gtest/gtest.h>

#include <cstring>

#include "machine_sim/panic_text_test.h"
#include "machine_sim/sim_machine.h"
#include "machine_sim/table_builder.h"

namespace spillway {
namespace {

constexpr u32 kFrames = 48;
constexpr SpaceId kParent{1};
constexpr SpaceId kChild{2};
constexpr VirtAddr kVa{0x200000};

class SimShareTest {
 public:
  explicit SimShareTest(bool shared = true)
      : sim(config(shared)),
        parent(prepare(), kParent, Pfn(kFrames)),
        child(sim.machine(), kChild, Pfn(kFrames - 8)) {}

  TableBuilder& tables(SpaceId space) { return space == kParent ? parent : child; }
  void map(SpaceId space, u32 frame, Prot prot = Prot::read_write) {
    sim.mmu().map(space, kVa, Pfn(frame), 1, prot);
    tables(space).set(kVa.vpn(), Pte::present(Pfn(frame), prot));
  }
  void drop(SpaceId space, u32 frame, Prot prot = Prot::read_write) {
    const Pfn pfn(frame);
    sim.mmu().drop(space, kVa, &pfn, 1, prot);
    tables(space).set(kVa.vpn(), Pte{});
  }
  Pte entry(SpaceId space) { return tables(space).get(kVa.vpn()); }
  // As the core does; without the call of the Mmu, as a faulty core would.
  void rewrite(SpaceId space, Pte pte) {
    forgetful_rewrite(space, pte);
    sim.mmu().refresh(space, kVa, 1);
  }
  void forgetful_rewrite(SpaceId space, Pte pte) { tables(space).set(kVa.vpn(), pte); }
  bool write(SpaceId space, u64 word, u32 cpu = 0) {
    return !sim.mmu().store(cpu, space, kVa, &word, sizeof word).has_value();
  }
  u64 read(SpaceId space, u32 cpu = 0) {
    u64 word = 0;
    EXPECT_FALSE(sim.mmu().load(cpu, space, kVa, &word, sizeof word).has_value());
    return word;
  }

  SimMachine sim;
  TableBuilder parent;
  TableBuilder child;

 private:
  static SimConfig config(bool shared) {
    SimConfig c;
    c.frames = PageCount(kFrames);
    c.features.shared_frames = shared;
    return c;
  }
  Machine& prepare() {
    sim.frames().acquire_quota(PageCount(kFrames));
    SPW_ASSERT(sim.frames().bring_online(Pfn(0), PageCount(kFrames)).ok());
    return sim.machine();
  }
};

TEST(SimShare, a_fork_shares_until_one_side_writes) {
  SimShareTest t;
  t.map(kParent, 0);
  EXPECT_TRUE(t.write(kParent, 7));
  t.rewrite(kParent, t.entry(kParent).with_writable(false));
  t.map(kChild, 0);
  t.rewrite(kChild, t.entry(kChild).with_writable(false));
  EXPECT_EQ(t.sim.mmu().mappings(Pfn(0)), 2U);
  EXPECT_EQ(t.sim.mmu().mapped_pages(), 2U);
  EXPECT_EQ(t.read(kChild), 7U);
  EXPECT_FALSE(t.write(kParent, 8));
  EXPECT_FALSE(t.write(kChild, 8));
  EXPECT_TRUE(t.sim.mmu().mirror_agrees()) << t.sim.mmu().mirror_difference();
  // The child gets a copy; the parent is alone and may write again.
  std::memcpy(t.sim.frames().bytes(Pfn(1)), t.sim.frames().bytes(Pfn(0)), kPageSize);
  t.drop(kChild, 0);
  t.map(kChild, 1);
  EXPECT_EQ(t.sim.mmu().mappings(Pfn(0)), 1U);
  t.rewrite(kParent, t.entry(kParent).with_writable(true));
  EXPECT_TRUE(t.write(kChild, 9));
  EXPECT_TRUE(t.write(kParent, 10));
  EXPECT_EQ(t.read(kChild), 9U);
  t.drop(kParent, 0);
  EXPECT_EQ(t.sim.mmu().mappings(Pfn(0)), 0U);
  EXPECT_EQ(t.sim.frames().state(Pfn(0)), SimFrames::State::home);
}

TEST(SimShare, a_space_may_end_while_another_keeps_its_frames) {
  SimShareTest t;
  t.map(kParent, 0);
  t.map(kChild, 0);
  EXPECT_TRUE(t.write(kParent, 5));
  t.drop(kParent, 0);
  t.sim.mmu().set_root(kParent, kNoPfn);
  EXPECT_EQ(t.read(kChild), 5U);
  EXPECT_TRUE(t.sim.mmu().mirror_agrees());
}

TEST(SimShare, a_pin_holds_one_mapping_of_a_frame) {
  SimShareTest t;
  t.map(kParent, 0);
  t.map(kChild, 0);
  EXPECT_TRUE(t.sim.mmu().pin(kParent, kVa.vpn()));
  const Pfn frame(0);
  EXPECT_EQ(t.sim.mmu().unmap(kParent, kVa, &frame, 1, Prot::read_write), 0U);
  EXPECT_EQ(t.sim.mmu().unmap(kChild, kVa, &frame, 1, Prot::read_write), 1U);
  EXPECT_EQ(t.sim.mmu().mappings(Pfn(0)), 1U);
}

TEST(SimShareDeathTest, a_right_that_goes_needs_a_refresh) {
  print_panics();
  SimShareTest t;
  t.map(kParent, 0);
  EXPECT_TRUE(t.write(kParent, 1, 1));
  t.forgetful_rewrite(kParent, t.entry(kParent).with_writable(false));
  EXPECT_EQ(t.read(kParent, 0), 1U) << "the other CPU remembers nothing";
  EXPECT_DEATH(t.write(kParent, 2, 1), "stale translation");
  // Every CPU forgets, whichever of them the core runs on.
  t.sim.mmu().refresh(kParent, kVa, 1);
  EXPECT_FALSE(t.write(kParent, 2, 1));
  EXPECT_EQ(t.read(kParent, 1), 1U);
}

TEST(SimShareDeathTest, a_dirty_bit_that_goes_needs_a_refresh) {
  print_panics();
  SimShareTest t;
  t.map(kParent, 0);
  EXPECT_TRUE(t.write(kParent, 1));
  t.forgetful_rewrite(kParent, t.entry(kParent).with_dirty(false));
  EXPECT_DEATH(t.write(kParent, 2), "stale translation");
  t.sim.mmu().refresh(kParent, kVa, 1);
  EXPECT_TRUE(t.write(kParent, 2));
  EXPECT_TRUE(t.entry(kParent).dirty());
  // Accessed bits are hints.
  t.forgetful_rewrite(kParent, t.entry(kParent).with_accessed(false));
  EXPECT_TRUE(t.write(kParent, 3));
  EXPECT_TRUE(t.entry(kParent).accessed());
}

TEST(SimShareDeathTest, a_refresh_reaches_the_pages_that_it_names) {
  print_panics();
  SimShareTest t;
  t.map(kParent, 0);
  t.map(kChild, 1);
  EXPECT_TRUE(t.write(kParent, 1));
  t.forgetful_rewrite(kParent, t.entry(kParent).with_writable(false));
  t.sim.mmu().refresh(kChild, kVa, 1);
  t.sim.mmu().refresh(kParent, kVa + kPageSize, 1);
  EXPECT_DEATH(t.read(kParent), "stale translation");
  t.sim.mmu().refresh(kParent, VirtAddr(kVa.v - kPageSize), 3);
  EXPECT_EQ(t.read(kParent), 1U);
}

TEST(SimShareDeathTest, an_entry_never_grants_more_than_its_area) {
  print_panics();
  SimShareTest t;
  t.map(kParent, 0, Prot::read);
  t.rewrite(kParent, t.entry(kParent).with_writable(true));
  EXPECT_NE(t.sim.mmu().mirror_difference().find("grants more"), std::string::npos);
  EXPECT_DEATH(t.read(kParent), "grants more");
}

TEST(SimShareDeathTest, without_the_feature_a_frame_is_mapped_once) {
  print_panics();
  SimShareTest t(false);
  t.map(kParent, 0);
  EXPECT_DEATH(t.map(kChild, 0), "mapped already");
  SimConfig c;
  c.features = Features{.shared_frames = true};
  EXPECT_DEATH(SimMachine machine(c), "frame_bytes_while_mapped");
  c.features = Features{};
  SimMachine host(c);
  EXPECT_DEATH(host.mmu().refresh(kParent, kVa, 1), "shared_frames");
}

}  // namespace
}  // namespace spillway
