// The fixture of the conformance suite (conformance.h): a fresh machine per test, pages with
// recognisable contents, and the order in which a memory manager uses the port.
//
// `Environment` supplies a machine with at least kFrames frames granted by the budget, a swap
// device of at least kDiskPages pages, plain devices (if any) of at least as many, and:
//
//   Machine& machine();
//   SpaceId space();              where the pages below are mapped
//   VirtAddr user_base();         kUserPages addresses from here are free for mapping
//   void set_pte(VirtAddr, Pte);  stores the entry, on machines that walk tables
//   Pte pte(VirtAddr);            what the table holds now, with the bits that the MMU set
//   void set_sink(FaultSink*);    who resolves faults; null: nobody, so that accesses are refused
//   bool user_write(VirtAddr, const void*, u64 bytes);  false: the access was refused
//   bool user_read(VirtAddr, void*, u64 bytes);
//   void wait_for_io();           lets at least one request in flight end
#pragma once

#include <gtest/gtest.h>

#include <cstring>

#include "base/prng.h"
#include "machine/fault_sink.h"
#include "machine/machine.h"

namespace spillway {

template <class Environment>
class MachineConformance : public testing::Test {
 public:
  static constexpr u32 kFrames = 64;      // enough for every test and the tables behind it
  static constexpr u64 kUserPages = 256;  // room for sources and targets of moves
  static constexpr u64 kDiskPages = 64;   // four segments

 protected:
  struct Page {
    u8 byte[kPageSize];
    bool operator==(const Page& o) const { return std::memcmp(byte, o.byte, kPageSize) == 0; }
    bool is_zero() const { return *this == Page{}; }
  };
  static Page stamp(u64 seed) {
    Page page;
    Prng prng(seed);
    for (u64 i = 0; i < kPageSize; i += sizeof(u64)) {
      const u64 word = prng.next();
      std::memcpy(page.byte + i, &word, sizeof word);
    }
    return page;
  }

  Machine& m() { return env_.machine(); }
  SpaceId space() { return env_.space(); }
  VirtAddr at(u64 page) { return env_.user_base() + page * kPageSize; }
  Page& home(Pfn pfn) { return *reinterpret_cast<Page*>(m().frames.bytes(pfn)); }

  // Brings frames [first, first+count) online, with the quota that this needs.
  void online(u32 first, u32 count) {
    ASSERT_EQ(m().frames.acquire_quota(PageCount(count)).v, count);
    ASSERT_TRUE(m().frames.bring_online(Pfn(first), PageCount(count)).ok());
  }
  void fill(u32 first, u32 count) {
    for (u32 i = 0; i < count; ++i) home(Pfn(first + i)) = stamp(first + i);
  }

  // The core's order of things: the Mmu call first, then the entry.
  void map(u64 page, u32 first, u32 count, Prot prot) {
    m().mmu.map(space(), at(page), Pfn(first), count, prot);
    for (u32 i = 0; i < count; ++i) env_.set_pte(at(page + i), Pte::present(Pfn(first + i), prot));
  }
  u32 unmap(u64 page, u32 first, u32 count, Prot prot) {
    Pfn frames[kFrames];
    for (u32 i = 0; i < count; ++i) frames[i] = Pfn(first + i);
    const u32 done = m().mmu.unmap(space(), at(page), frames, count, prot);
    for (u32 i = 0; i < done; ++i) env_.set_pte(at(page + i), Pte::unmapped(Pfn(first + i)));
    return done;
  }
  void drop(u64 page, u32 first, u32 count, Prot prot) {
    Pfn frames[kFrames];
    for (u32 i = 0; i < count; ++i) frames[i] = Pfn(first + i);
    m().mmu.drop(space(), at(page), frames, count, prot);
    for (u32 i = 0; i < count; ++i) env_.set_pte(at(page + i), Pte{});
  }
  void protect(u64 page, u32 first, u32 count, Prot prot) {
    for (u32 i = 0; i < count; ++i) env_.set_pte(at(page + i), Pte::present(Pfn(first + i), prot));
    ASSERT_TRUE(m().mmu.protect(space(), at(page), PageCount(count), prot).ok());
  }

  bool write(u64 page, const Page& data) { return env_.user_write(at(page), &data, kPageSize); }
  // What the program sees; fails the test when the access is refused.
  Page read(u64 page) {
    Page data{};
    EXPECT_TRUE(env_.user_read(at(page), &data, kPageSize)) << "page " << page;
    return data;
  }
  // A wake that nobody waits for does no harm, so the tests need not know who waits.
  void wake(u64 page, u64 count) { m().mmu.wake(space(), at(page), PageCount(count)); }

  Environment env_;
};

}  // namespace spillway
