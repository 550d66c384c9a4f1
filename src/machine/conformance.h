// What every machine must do, as GoogleTest suites over its environment type (described in
// conformance_fixture.h). A wing instantiates all of them at namespace scope:
//
//   SPW_MACHINE_CONFORMANCE(Sim, SimEnvironment);
//
// where the environment may also be a testing::Types<...> list of several.
#pragma once

#include "machine/conformance_disk.h"
#include "machine/conformance_fixture.h"
#include "machine/conformance_shared.h"

namespace spillway {

TYPED_TEST_SUITE_P(MachineConformance);

TYPED_TEST_P(MachineConformance, boot_memory_is_zeroed_and_aligned) {
  for (u64 align = 1; align <= kPageSize; align *= 2) {
    auto* p = static_cast<u8*>(this->m().boot.alloc(5000, align));
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(reinterpret_cast<u64>(p) % align, 0U);
    for (u32 i = 0; i < 5000; ++i) ASSERT_EQ(p[i], 0);
    std::memset(p, 0xA5, 5000);
  }
  EXPECT_EQ(this->m().boot.alloc(u64{1} << 62, 8), nullptr);
}

TYPED_TEST_P(MachineConformance, clock_never_goes_back_and_the_cpu_exists) {
  u64 before = this->m().clock.now_ns();
  for (int i = 0; i < 1000; ++i) {
    const u64 now = this->m().clock.now_ns();
    ASSERT_LE(before, now);
    before = now;
  }
  EXPECT_LT(this->m().cpus.current(), this->m().cpus.count());
}

TYPED_TEST_P(MachineConformance, frames_come_online_as_zeros_every_time) {
  EXPECT_LE(TestFixture::kFrames, this->m().frames.count().v);
  EXPECT_EQ(reinterpret_cast<u64>(this->m().frames.bytes(Pfn(0))) % kPageSize, 0U);
  this->online(0, 4);
  for (u32 i = 0; i < 4; ++i) EXPECT_TRUE(this->home(Pfn(i)).is_zero());
  this->fill(0, 4);
  this->m().frames.take_offline(Pfn(1), PageCount(2));
  ASSERT_TRUE(this->m().frames.bring_online(Pfn(1), PageCount(2)).ok());
  EXPECT_TRUE(this->home(Pfn(1)).is_zero());
  EXPECT_TRUE(this->home(Pfn(2)).is_zero());
  EXPECT_EQ(this->home(Pfn(0)), this->stamp(0));
  EXPECT_EQ(this->home(Pfn(3)), this->stamp(3));
}

TYPED_TEST_P(MachineConformance, quota_that_was_given_back_is_granted_again) {
  Frames& frames = this->m().frames;
  const PageCount first = frames.acquire_quota(PageCount(TestFixture::kFrames));
  ASSERT_EQ(first.v, TestFixture::kFrames);
  frames.release_quota(first);
  EXPECT_EQ(frames.acquire_quota(first), first);
  EXPECT_EQ(frames.quota_wanted_back().v, 0U);
}

TYPED_TEST_P(MachineConformance, map_shows_the_bytes_and_unmap_brings_them_home) {
  this->online(0, 4);
  this->fill(0, 4);
  this->map(10, 0, 4, Prot::read_write);
  for (u32 i = 0; i < 4; ++i) EXPECT_EQ(this->read(10 + i), this->stamp(i));
  ASSERT_TRUE(this->write(12, this->stamp(77)));
  // From the middle first: a run may be taken apart.
  EXPECT_EQ(this->unmap(11, 1, 2, Prot::read_write), 2U);
  EXPECT_EQ(this->home(Pfn(1)), this->stamp(1));
  EXPECT_EQ(this->home(Pfn(2)), this->stamp(77));
  EXPECT_EQ(this->unmap(10, 0, 1, Prot::read_write), 1U);
  EXPECT_EQ(this->unmap(13, 3, 1, Prot::read_write), 1U);
  EXPECT_EQ(this->home(Pfn(0)), this->stamp(0));
  EXPECT_EQ(this->home(Pfn(3)), this->stamp(3));
  // Another frame at the same address, the same frame at another one.
  this->map(10, 3, 1, Prot::read_write);
  this->map(20, 0, 1, Prot::read_write);
  EXPECT_EQ(this->read(10), this->stamp(3));
  EXPECT_EQ(this->read(20), this->stamp(0));
}

TYPED_TEST_P(MachineConformance, a_read_only_mapping_keeps_bytes_and_refuses_writes) {
  this->online(0, 2);
  this->fill(0, 2);
  this->map(5, 0, 2, Prot::read);
  EXPECT_EQ(this->read(5), this->stamp(0));
  EXPECT_FALSE(this->write(5, this->stamp(9)));
  EXPECT_EQ(this->read(5), this->stamp(0));
  EXPECT_EQ(this->unmap(5, 0, 2, Prot::read), 2U);
  EXPECT_EQ(this->home(Pfn(0)), this->stamp(0));
  EXPECT_EQ(this->home(Pfn(1)), this->stamp(1));
}

TYPED_TEST_P(MachineConformance, protect_changes_rights_and_no_bytes) {
  this->online(0, 3);
  this->fill(0, 3);
  this->map(0, 0, 3, Prot::read_write);
  ASSERT_TRUE(this->write(1, this->stamp(50)));
  this->protect(0, 0, 3, Prot::read);
  EXPECT_FALSE(this->write(1, this->stamp(51)));
  EXPECT_EQ(this->read(1), this->stamp(50));
  this->protect(0, 0, 3, Prot::read_write);
  EXPECT_TRUE(this->write(2, this->stamp(52)));
  EXPECT_EQ(this->read(0), this->stamp(0));
  EXPECT_EQ(this->read(1), this->stamp(50));
  EXPECT_EQ(this->read(2), this->stamp(52));
  // For Prot::none the pages go home first; afterwards they come back with their bytes.
  EXPECT_EQ(this->unmap(0, 0, 3, Prot::read_write), 3U);
  ASSERT_TRUE(this->m().mmu.protect(this->space(), this->at(0), PageCount(3), Prot::none).ok());
  EXPECT_EQ(this->home(Pfn(2)), this->stamp(52));
  ASSERT_TRUE(
      this->m().mmu.protect(this->space(), this->at(0), PageCount(3), Prot::read_write).ok());
  this->map(0, 0, 3, Prot::read_write);
  EXPECT_EQ(this->read(2), this->stamp(52));
}

TYPED_TEST_P(MachineConformance, dropped_frames_are_home_and_usable) {
  this->online(0, 2);
  this->fill(0, 2);
  this->map(3, 0, 2, Prot::read_write);
  this->drop(3, 0, 2, Prot::read_write);
  this->home(Pfn(0)) = this->stamp(60);
  this->home(Pfn(1)) = this->stamp(61);
  this->map(3, 1, 1, Prot::read_write);
  EXPECT_EQ(this->read(3), this->stamp(61));
  EXPECT_EQ(this->home(Pfn(0)), this->stamp(60));
}

TYPED_TEST_P(MachineConformance, move_carries_the_bytes_to_the_new_address) {
  this->online(0, 4);
  this->fill(0, 4);
  this->map(0, 0, 4, Prot::read_write);
  ASSERT_TRUE(this->write(3, this->stamp(70)));
  const Pfn frames[] = {Pfn(0), Pfn(1), Pfn(2), Pfn(3)};
  this->m().mmu.move(this->space(), this->at(0), this->at(100), frames, 4, Prot::read_write);
  for (u32 i = 0; i < 4; ++i) {
    this->env_.set_pte(this->at(i), Pte{});
    this->env_.set_pte(this->at(100 + i), Pte::present(Pfn(i), Prot::read_write));
  }
  EXPECT_EQ(this->read(100), this->stamp(0));
  EXPECT_EQ(this->read(103), this->stamp(70));
  ASSERT_TRUE(this->write(101, this->stamp(71)));
  EXPECT_EQ(this->unmap(100, 0, 4, Prot::read_write), 4U);
  EXPECT_EQ(this->home(Pfn(1)), this->stamp(71));
  EXPECT_EQ(this->home(Pfn(3)), this->stamp(70));
}

// The smallest memory manager: maps one frame where the first fault asks for it, and refuses
// everything else.
template <class Suite>
struct OneFrameSink final : FaultSink {
  Suite& suite;
  VirtAddr seen;
  Access access = Access::exec;
  u32 calls = 0;
  explicit OneFrameSink(Suite& s) : suite(s) {}
  FaultOutcome on_fault(SpaceId, VirtAddr va, Access a, u32) override {
    if (calls++ != 0) return FaultOutcome::maperr;
    seen = va;
    access = a;
    suite.serve(va);
    return FaultOutcome::done;
  }
};

template <class Environment>
class FaultConformance : public MachineConformance<Environment> {
 public:
  void serve(VirtAddr va) {
    const u64 page = (va.v - this->env_.user_base().v) / kPageSize;
    this->map(page, 0, 1, Prot::read_write);
    this->wake(page, 1);
  }
};
TYPED_TEST_SUITE_P(FaultConformance);

TYPED_TEST_P(FaultConformance, a_missing_page_is_asked_for_and_the_access_goes_on) {
  this->online(0, 1);
  this->fill(0, 1);
  OneFrameSink<FaultConformance<TypeParam>> sink(*this);
  this->env_.set_sink(&sink);
  EXPECT_EQ(this->read(7), this->stamp(0));
  EXPECT_EQ(sink.calls, 1U);
  EXPECT_EQ(sink.seen.vpn(), this->at(7).vpn());
  EXPECT_TRUE(sink.access == Access::read);
  // Nothing asks again for a page that is there.
  ASSERT_TRUE(this->write(7, this->stamp(80)));
  EXPECT_EQ(sink.calls, 1U);
  EXPECT_EQ(this->unmap(7, 0, 1, Prot::read_write), 1U);
  EXPECT_EQ(this->home(Pfn(0)), this->stamp(80));
  this->env_.set_sink(nullptr);
}

TYPED_TEST_P(MachineConformance, feature_bits_say_what_the_mmu_does) {
  const Features f = this->m().features;
  this->online(0, 2);
  this->fill(0, 2);
  this->map(0, 0, 2, Prot::read_write);
  EXPECT_FALSE(this->env_.pte(this->at(0)).accessed());
  EXPECT_EQ(this->read(0), this->stamp(0));
  ASSERT_TRUE(this->write(1, this->stamp(90)));
  EXPECT_EQ(this->env_.pte(this->at(0)).accessed(), f.accessed_bit);
  EXPECT_EQ(this->env_.pte(this->at(1)).accessed(), f.accessed_bit);
  EXPECT_FALSE(this->env_.pte(this->at(0)).dirty());
  EXPECT_EQ(this->env_.pte(this->at(1)).dirty(), f.dirty_bit);
  if (f.frame_bytes_while_mapped) {
    EXPECT_EQ(this->home(Pfn(1)), this->stamp(90));
  }
}

REGISTER_TYPED_TEST_SUITE_P(MachineConformance, boot_memory_is_zeroed_and_aligned,
                            clock_never_goes_back_and_the_cpu_exists,
                            frames_come_online_as_zeros_every_time,
                            quota_that_was_given_back_is_granted_again,
                            map_shows_the_bytes_and_unmap_brings_them_home,
                            a_read_only_mapping_keeps_bytes_and_refuses_writes,
                            protect_changes_rights_and_no_bytes, dropped_frames_are_home_and_usable,
                            move_carries_the_bytes_to_the_new_address,
                            feature_bits_say_what_the_mmu_does);
REGISTER_TYPED_TEST_SUITE_P(FaultConformance, a_missing_page_is_asked_for_and_the_access_goes_on);

}  // namespace spillway

#define SPW_MACHINE_CONFORMANCE(name, ...)                                 \
  INSTANTIATE_TYPED_TEST_SUITE_P(name, MachineConformance, __VA_ARGS__);   \
  INSTANTIATE_TYPED_TEST_SUITE_P(name, FaultConformance, __VA_ARGS__);     \
  INSTANTIATE_TYPED_TEST_SUITE_P(name, SharedConformance, __VA_ARGS__);    \
  INSTANTIATE_TYPED_TEST_SUITE_P(name, EntryBitsConformance, __VA_ARGS__); \
  INSTANTIATE_TYPED_TEST_SUITE_P(name, DiskConformance, __VA_ARGS__);      \
  INSTANTIATE_TYPED_TEST_SUITE_P(name, PlainDiskConformance, __VA_ARGS__)
