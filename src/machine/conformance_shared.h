// The conformance suite's part about shared frames and rewritten entries; see conformance.h. A
// machine without the feature in question skips the test.
#pragma once

#include "machine/conformance_fixture.h"

namespace spillway {

template <class Environment>
class SharedConformance : public MachineConformance<Environment> {
 protected:
  void SetUp() override {
    if (!this->m().features.shared_frames) GTEST_SKIP() << "the machine does not share frames";
  }
  // Rewrites the entry of a present page and tells the machine.
  void rewrite(u64 page, Pte pte) {
    this->env_.set_pte(this->at(page), pte);
    this->m().mmu.refresh(this->space(), this->at(page), 1);
  }
  Pte entry(u64 page) { return this->env_.pte(this->at(page)); }
};
TYPED_TEST_SUITE_P(SharedConformance);

TYPED_TEST_P(SharedConformance, sharing_implies_that_the_bytes_stay_at_home) {
  EXPECT_TRUE(this->m().features.frame_bytes_while_mapped);
}

TYPED_TEST_P(SharedConformance, a_frame_is_seen_at_every_place_where_it_is_mapped) {
  this->online(0, 1);
  this->fill(0, 1);
  this->map(3, 0, 1, Prot::read_write);
  this->map(90, 0, 1, Prot::read);
  EXPECT_EQ(this->read(90), this->stamp(0));
  ASSERT_TRUE(this->write(3, this->stamp(100)));
  EXPECT_EQ(this->read(90), this->stamp(100));
  EXPECT_FALSE(this->write(90, this->stamp(101)));
  EXPECT_EQ(this->home(Pfn(0)), this->stamp(100));
}

TYPED_TEST_P(SharedConformance, one_mapping_goes_and_the_others_stay) {
  this->online(0, 2);
  this->fill(0, 2);
  for (const u64 page : {0, 10, 20}) this->map(page, 0, 2, Prot::read_write);
  this->drop(10, 0, 2, Prot::read_write);
  ASSERT_TRUE(this->write(0, this->stamp(110)));
  EXPECT_EQ(this->read(20), this->stamp(110));
  EXPECT_EQ(this->read(21), this->stamp(1));
  EXPECT_EQ(this->unmap(0, 0, 2, Prot::read_write), 2U);
  EXPECT_EQ(this->read(20), this->stamp(110));
  // The last one goes, and a cache may still want the page.
  this->drop(20, 0, 2, Prot::read_write);
  EXPECT_EQ(this->home(Pfn(0)), this->stamp(110));
  EXPECT_EQ(this->home(Pfn(1)), this->stamp(1));
  this->m().frames.take_offline(Pfn(0), PageCount(2));
}

TYPED_TEST_P(SharedConformance, an_entry_may_grant_less_than_its_area) {
  this->online(0, 2);
  this->fill(0, 2);
  this->map(0, 0, 1, Prot::read_write);
  // The right is used before it goes, so that a CPU remembers it.
  ASSERT_TRUE(this->write(0, this->stamp(120)));
  this->rewrite(0, this->entry(0).with_writable(false));
  EXPECT_EQ(this->read(0), this->stamp(120));
  EXPECT_FALSE(this->write(0, this->stamp(121)));
  EXPECT_EQ(this->read(0), this->stamp(120));
  // A copy takes the place of the shared frame.
  this->home(Pfn(1)) = this->home(Pfn(0));
  this->drop(0, 0, 1, Prot::read_write);
  this->map(0, 1, 1, Prot::read_write);
  ASSERT_TRUE(this->write(0, this->stamp(122)));
  EXPECT_EQ(this->home(Pfn(0)), this->stamp(120));
  // Who is alone with a frame gets the right back without a copy.
  this->rewrite(0, this->entry(0).with_writable(false));
  this->rewrite(0, this->entry(0).with_writable(true));
  EXPECT_TRUE(this->write(0, this->stamp(123)));
}

TYPED_TEST_P(SharedConformance, a_shared_page_moves_with_the_rights_of_its_entry) {
  this->online(0, 1);
  this->fill(0, 1);
  this->map(0, 0, 1, Prot::read_write);
  this->map(50, 0, 1, Prot::read_write);
  this->rewrite(0, this->entry(0).with_writable(false));
  const Pfn frame(0);
  this->m().mmu.move(this->space(), this->at(0), this->at(100), &frame, 1, Prot::read_write);
  this->env_.set_pte(this->at(100), this->entry(0));
  this->env_.set_pte(this->at(0), Pte{});
  EXPECT_EQ(this->read(100), this->stamp(0));
  EXPECT_FALSE(this->write(100, this->stamp(130)));
  ASSERT_TRUE(this->write(50, this->stamp(131)));
  EXPECT_EQ(this->read(100), this->stamp(131));
}

// Not about sharing: every machine that keeps the bits in entries can be asked.
template <class Environment>
class EntryBitsConformance : public MachineConformance<Environment> {};
TYPED_TEST_SUITE_P(EntryBitsConformance);

TYPED_TEST_P(EntryBitsConformance, cleared_bits_come_back_with_the_next_access) {
  const Features f = this->m().features;
  if (!f.accessed_bit && !f.dirty_bit) GTEST_SKIP() << "the machine keeps no bits in entries";
  this->online(0, 1);
  this->map(0, 0, 1, Prot::read_write);
  for (u64 round = 0; round < 3; ++round) {
    ASSERT_TRUE(this->write(0, this->stamp(140 + round)));
    EXPECT_EQ(this->env_.pte(this->at(0)).accessed(), f.accessed_bit);
    EXPECT_EQ(this->env_.pte(this->at(0)).dirty(), f.dirty_bit);
    const Pte clean = this->env_.pte(this->at(0)).with_accessed(false).with_dirty(false);
    this->env_.set_pte(this->at(0), clean);
    this->m().mmu.refresh(this->space(), this->at(0), 1);
    EXPECT_EQ(this->read(0), this->stamp(140 + round));
    EXPECT_EQ(this->env_.pte(this->at(0)).accessed(), f.accessed_bit);
    EXPECT_FALSE(this->env_.pte(this->at(0)).dirty());
  }
}

REGISTER_TYPED_TEST_SUITE_P(SharedConformance, sharing_implies_that_the_bytes_stay_at_home,
                            a_frame_is_seen_at_every_place_where_it_is_mapped,
                            one_mapping_goes_and_the_others_stay,
                            an_entry_may_grant_less_than_its_area,
                            a_shared_page_moves_with_the_rights_of_its_entry);
REGISTER_TYPED_TEST_SUITE_P(EntryBitsConformance, cleared_bits_come_back_with_the_next_access);

}  // namespace spillway
