#include "machine_sim/sim_mmu.h"

#include <gtest/gtest.h>

#include <cstring>

#include "machine_sim/panic_text_test.h"
#include "machine_sim/sim_machine.h"
#include "machine_sim/table_builder.h"

namespace spillway {
namespace {

constexpr SpaceId kSpace{1};
constexpr u32 kFrames = 48;
constexpr VirtAddr kBase{0x200000};

Features poor() {
  return Features{.accessed_bit = false,
                  .dirty_bit = false,
                  .frame_bytes_while_mapped = false,
                  .zero_page = false,
                  .shared_frames = false};
}

// A machine with all frames online and tables written by hand.
class SimMmuTest {
 public:
  explicit SimMmuTest(SimConfig c = {}) : sim(adjust(c)), tables(prepare()) {}

  VirtAddr at(u64 page) { return kBase + page * kPageSize; }
  void map(u64 page, u32 frame, Prot prot) {
    mmu().map(kSpace, at(page), Pfn(frame), 1, prot);
    tables.set(at(page).vpn(), Pte::present(Pfn(frame), prot));
  }
  u32 unmap(u64 page, u32 frame, Prot prot) {
    const Pfn pfn(frame);
    const u32 done = mmu().unmap(kSpace, at(page), &pfn, 1, prot);
    if (done != 0) tables.set(at(page).vpn(), Pte::unmapped(pfn));
    return done;
  }
  bool read(u64 page, u32 cpu = 0) {
    u64 word;
    return !mmu().load(cpu, kSpace, at(page), &word, sizeof word).has_value();
  }
  bool write(u64 page, u64 word, u32 cpu = 0) {
    return !mmu().store(cpu, kSpace, at(page), &word, sizeof word).has_value();
  }
  SimMmu& mmu() { return sim.mmu(); }
  u8* home(u32 frame) { return sim.frames().bytes(Pfn(frame)); }

  SimMachine sim;
  TableBuilder tables;

 private:
  static SimConfig adjust(SimConfig c) {
    c.frames = PageCount(kFrames);
    return c;
  }
  TableBuilder prepare() {
    sim.frames().acquire_quota(PageCount(kFrames));
    SPW_ASSERT(sim.frames().bring_online(Pfn(0), PageCount(kFrames)).ok());
    return TableBuilder(sim.machine(), kSpace, Pfn(kFrames));
  }
};

TEST(SimMmu, walks_the_tables_and_tells_where_it_faults) {
  SimMmuTest t;
  t.map(0, 3, Prot::read_write);
  std::memset(t.home(3), 7, kPageSize);
  u8 buffer[2 * kPageSize];
  const auto fault = t.mmu().load(0, kSpace, t.at(0) + 100, buffer, kPageSize);
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->va, t.at(1));
  EXPECT_TRUE(fault->access == Access::read);
  EXPECT_EQ(buffer[0], 7);
  EXPECT_FALSE(t.mmu().load(0, SpaceId(2), t.at(0), buffer, 1) == std::nullopt);
  EXPECT_TRUE(t.mmu().load(0, kSpace, VirtAddr(~u64{0} - 8), buffer, 1).has_value());
  EXPECT_TRUE(t.mmu().mirror_agrees());
}

TEST(SimMmu, rights_come_from_the_entry) {
  SimMmuTest t;
  t.map(0, 0, Prot::read);
  t.map(1, 1, Prot::read_exec);
  u8 byte;
  EXPECT_TRUE(t.read(0));
  EXPECT_FALSE(t.write(0, 1));
  EXPECT_TRUE(t.mmu().fetch(0, kSpace, t.at(0), &byte, 1).has_value());
  EXPECT_FALSE(t.mmu().fetch(0, kSpace, t.at(1), &byte, 1).has_value());
}

TEST(SimMmu, sets_accessed_and_dirty_bits_where_the_machine_has_them) {
  SimMmuTest rich;
  rich.map(0, 0, Prot::read_write);
  EXPECT_TRUE(rich.read(0));
  EXPECT_TRUE(rich.mmu().entry(kSpace, rich.at(0).vpn()).accessed());
  EXPECT_FALSE(rich.mmu().entry(kSpace, rich.at(0).vpn()).dirty());
  // A cleared bit comes back with the next access, TLB or not.
  rich.tables.set(rich.at(0).vpn(), Pte::present(Pfn(0), Prot::read_write));
  EXPECT_TRUE(rich.write(0, 1));
  EXPECT_TRUE(rich.mmu().entry(kSpace, rich.at(0).vpn()).accessed());
  EXPECT_TRUE(rich.mmu().entry(kSpace, rich.at(0).vpn()).dirty());

  SimConfig c;
  c.features = poor();
  SimMmuTest host(c);
  host.map(0, 0, Prot::read_write);
  EXPECT_TRUE(host.write(0, 1));
  EXPECT_FALSE(host.mmu().entry(kSpace, host.at(0).vpn()).accessed());
  EXPECT_FALSE(host.mmu().entry(kSpace, host.at(0).vpn()).dirty());
}

TEST(SimMmu, the_zero_page_reads_as_zeros_and_refuses_writes) {
  SimMmuTest t;
  const Pfn none = kNoPfn;
  t.mmu().map(kSpace, t.at(0), none, 1, Prot::read_write);
  t.tables.set(t.at(0).vpn(), Pte::zero_page());
  EXPECT_EQ(t.mmu().mapped_pages(), 0U);
  u64 word = 5;
  EXPECT_FALSE(t.mmu().load(0, kSpace, t.at(0), &word, sizeof word).has_value());
  EXPECT_EQ(word, 0U);
  EXPECT_FALSE(t.write(0, 1));
  EXPECT_TRUE(t.mmu().mirror_agrees());
  t.mmu().drop(kSpace, t.at(0), &none, 1, Prot::read_write);
  EXPECT_FALSE(t.mmu().mirror_agrees());
  t.tables.set(t.at(0).vpn(), Pte{});
  EXPECT_TRUE(t.mmu().mirror_agrees());
}

TEST(SimMmu, imitating_the_host_moves_the_bytes) {
  SimConfig c;
  c.features = poor();
  SimMmuTest t(c);
  std::memset(t.home(0), 9, kPageSize);
  t.map(0, 0, Prot::read_write);
  EXPECT_TRUE(all_bytes_are(t.home(0), SimFrames::kMappedPattern));
  EXPECT_TRUE(t.write(0, 42));
  EXPECT_TRUE(all_bytes_are(t.home(0), SimFrames::kMappedPattern));
  EXPECT_EQ(t.unmap(0, 0, Prot::read_write), 1U);
  u64 word;
  std::memcpy(&word, t.home(0), sizeof word);
  EXPECT_EQ(word, 42U);
  EXPECT_EQ(t.home(0)[4095], 9);
}

TEST(SimMmu, pinned_pages_stay_until_unpinned) {
  SimMmuTest t;
  for (u32 i = 0; i < 3; ++i) t.map(i, i, Prot::read_write);
  EXPECT_TRUE(t.mmu().pin(kSpace, t.at(1).vpn()));
  EXPECT_FALSE(t.mmu().pin(kSpace, t.at(9).vpn()));
  const Pfn frames[] = {Pfn(0), Pfn(1), Pfn(2)};
  EXPECT_EQ(t.mmu().unmap(kSpace, t.at(0), frames, 3, Prot::read_write), 1U);
  t.tables.set(t.at(0).vpn(), Pte::unmapped(Pfn(0)));
  EXPECT_TRUE(t.mmu().pinned(kSpace, t.at(1).vpn()));
  EXPECT_TRUE(t.mmu().mirror_agrees());
  t.mmu().unpin(kSpace, t.at(1).vpn());
  EXPECT_EQ(t.mmu().unmap(kSpace, t.at(1), frames + 1, 2, Prot::read_write), 2U);
}

TEST(SimMmu, busy_pages_repeat_with_the_seed) {
  std::string history[2];
  for (std::string& h : history) {
    SimConfig c;
    c.busy_one_in = 3;
    SimMmuTest t(c);
    for (int i = 0; i < 60; ++i) {
      t.map(0, 0, Prot::read_write);
      while (t.unmap(0, 0, Prot::read_write) == 0) h += 'b';
      h += 'u';
    }
  }
  EXPECT_EQ(history[0], history[1]);
  EXPECT_NE(history[0].find('b'), std::string::npos);
}

TEST(SimMmu, drop_loses_the_bytes_and_protect_can_fail) {
  SimConfig c;
  c.features.shared_frames = false;
  SimMmuTest t(c);
  t.map(0, 0, Prot::read_write);
  const Pfn frame(0);
  t.mmu().drop(kSpace, t.at(0), &frame, 1, Prot::read_write);
  t.tables.set(t.at(0).vpn(), Pte{});
  EXPECT_TRUE(all_bytes_are(t.home(0), SimFrames::kDroppedPattern));
  t.sim.failures().arm(Failure::protect, 1);
  EXPECT_EQ(t.mmu().protect(kSpace, t.at(0), PageCount(1), Prot::read).error(), Error::no_memory);
  EXPECT_TRUE(t.mmu().protect(kSpace, t.at(0), PageCount(u64{1} << 30), Prot::none).ok());
}

TEST(SimMmuDeathTest, a_missing_flush_is_found) {
  print_panics();
  SimMmuTest t;
  t.map(0, 0, Prot::read_write);
  EXPECT_TRUE(t.write(0, 1, 1));
  // The core takes the right to write away and forgets protect().
  t.tables.set(t.at(0).vpn(), Pte::present(Pfn(0), Prot::read));
  EXPECT_TRUE(t.read(0, 0)) << "the other CPU has no stale entry";
  EXPECT_DEATH(t.read(0, 1), "stale translation");
  EXPECT_TRUE(t.mmu().protect(kSpace, t.at(0), PageCount(1), Prot::read).ok());
  EXPECT_TRUE(t.read(0, 1));
  EXPECT_FALSE(t.write(0, 1, 1));
}

TEST(SimMmuDeathTest, tables_and_mirror_must_agree) {
  print_panics();
  SimMmuTest t;
  t.map(0, 0, Prot::read_write);
  t.map(1, 1, Prot::read_write);
  ASSERT_TRUE(t.mmu().mirror_agrees());
  t.tables.set(t.at(0).vpn(), Pte::present(Pfn(1), Prot::read_write));
  EXPECT_NE(t.mmu().mirror_difference().find("different frames"), std::string::npos);
  EXPECT_DEATH(t.read(0), "different frames");
  t.tables.set(t.at(0).vpn(), Pte{});
  EXPECT_NE(t.mmu().mirror_difference().find("do not show as present"), std::string::npos);
  t.tables.set(t.at(0).vpn(), Pte::present(Pfn(0), Prot::read_write));
  t.tables.set(t.at(7).vpn(), Pte::present(Pfn(7), Prot::read_write));
  EXPECT_NE(t.mmu().mirror_difference().find("never mapped"), std::string::npos);
}

TEST(SimMmuDeathTest, a_page_that_nobody_may_touch_must_go) {
  print_panics();
  SimMmuTest t;
  t.map(0, 0, Prot::read_write);
  ASSERT_TRUE(t.mmu().protect(kSpace, t.at(0), PageCount(1), Prot::none).ok());
  EXPECT_DEATH(t.read(0), "nothing is permitted");
  const Pfn zero(0);
  t.mmu().drop(kSpace, t.at(0), &zero, 1, Prot::none);
  t.tables.set(t.at(0).vpn(), Pte{});
  EXPECT_TRUE(t.mmu().mirror_agrees());
}

TEST(SimMmuDeathTest, rights_of_the_mapping_count_when_the_host_is_imitated) {
  print_panics();
  SimConfig c;
  c.features = poor();
  SimMmuTest t(c);
  t.map(0, 0, Prot::read_write);
  t.tables.set(t.at(0).vpn(), Pte::present(Pfn(0), Prot::read));
  EXPECT_DEATH(t.read(0), "different rights");
}

TEST(SimMmuDeathTest, misuse_of_the_port_is_a_panic) {
  print_panics();
  SimConfig c;
  c.features = poor();
  SimMmuTest t(c);
  t.map(0, 0, Prot::read_write);
  const Pfn zero(0);
  const Pfn wrong(5);
  EXPECT_DEATH(t.mmu().map(kSpace, t.at(0), Pfn(1), 1, Prot::read), "occupied address");
  EXPECT_DEATH(t.mmu().map(kSpace, t.at(1), Pfn(0), 1, Prot::read), "mapped already");
  EXPECT_DEATH(t.mmu().drop(kSpace, t.at(0), &wrong, 1, Prot::read_write), "pfn");
  EXPECT_DEATH(t.unmap(0, 0, Prot::read), "prot");
  EXPECT_DEATH(t.unmap(4, 0, Prot::read), "nothing is mapped");
  EXPECT_DEATH(t.mmu().drop(kSpace, t.at(0), &zero, 1, Prot::read), "is_soft");
  EXPECT_DEATH(t.mmu().restore(kSpace, t.at(0), PageCount(1)), "restored range");
  EXPECT_DEATH(t.mmu().set_root(kSpace, kNoPfn), "ends with a mapped page");
  t.home(0)[9] = 1;
  EXPECT_DEATH(t.unmap(0, 0, Prot::read_write), "home bytes of a mapped frame");
}

}  // namespace
}  // namespace spillway
