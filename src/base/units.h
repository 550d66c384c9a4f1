// Strong unit types: a page frame number is not a page count is not an address.
// They never convert silently; arithmetic exists only where it has a meaning.
#pragma once

#include <compare>

#include "base/types.h"

namespace spillway {

// A count of pages. Adds and subtracts; converts to bytes by name only.
struct PageCount {
  u64 v = 0;
  constexpr PageCount() = default;
  constexpr explicit PageCount(u64 n) : v(n) {}
  constexpr auto operator<=>(const PageCount&) const = default;
  constexpr PageCount operator+(PageCount o) const { return PageCount(v + o.v); }
  constexpr PageCount operator-(PageCount o) const { return PageCount(v - o.v); }
  constexpr PageCount& operator+=(PageCount o) {
    v += o.v;
    return *this;
  }
  constexpr PageCount& operator-=(PageCount o) {
    v -= o.v;
    return *this;
  }
  constexpr u64 bytes() const { return v << kPageShift; }
};

// Rounds down / up to whole pages.
constexpr PageCount pages_in(u64 bytes) { return PageCount(bytes >> kPageShift); }
constexpr PageCount pages_for(u64 bytes) {
  return PageCount((bytes >> kPageShift) + ((bytes & kPageMask) != 0 ? 1 : 0));
}

// Index of a page frame in the managed arena. 32 bits: up to 16 TiB of frames.
struct Pfn {
  u32 v = kNone;
  static constexpr u32 kNone = ~u32{0};
  constexpr Pfn() = default;
  constexpr explicit Pfn(u32 n) : v(n) {}
  constexpr auto operator<=>(const Pfn&) const = default;
  constexpr bool valid() const { return v != kNone; }
  constexpr Pfn operator+(u32 n) const { return Pfn(v + n); }
};
inline constexpr Pfn kNoPfn{};

// A virtual page number: user address >> 12.
struct Vpn {
  u64 v = 0;
  constexpr Vpn() = default;
  constexpr explicit Vpn(u64 n) : v(n) {}
  constexpr auto operator<=>(const Vpn&) const = default;
  constexpr Vpn operator+(u64 n) const { return Vpn(v + n); }
  constexpr Vpn operator-(u64 n) const { return Vpn(v - n); }
};

// A user virtual address in bytes.
struct VirtAddr {
  u64 v = 0;
  constexpr VirtAddr() = default;
  constexpr explicit VirtAddr(u64 a) : v(a) {}
  constexpr auto operator<=>(const VirtAddr&) const = default;
  constexpr VirtAddr operator+(u64 bytes) const { return VirtAddr(v + bytes); }
  constexpr bool page_aligned() const { return (v & kPageMask) == 0; }
  constexpr Vpn vpn() const { return Vpn(v >> kPageShift); }
};
constexpr VirtAddr addr_of(Vpn n) { return VirtAddr(n.v << kPageShift); }

// A half-open range of virtual pages [start, end).
struct VpnRange {
  Vpn start;
  Vpn end;
  constexpr bool empty() const { return end <= start; }
  constexpr PageCount pages() const { return PageCount(empty() ? 0 : end.v - start.v); }
  constexpr bool contains(Vpn n) const { return start <= n && n < end; }
  constexpr bool overlaps(VpnRange o) const { return start < o.end && o.start < end; }
  constexpr auto operator<=>(const VpnRange&) const = default;
};

constexpr VpnRange intersection(VpnRange a, VpnRange b) {
  return {a.start > b.start ? a.start : b.start, a.end < b.end ? a.end : b.end};
}

// Number of a swap slot, the "entry" of a swapped-out page-table entry. Slot 0 is never
// handed out (I19), so that a zero entry stays recognisable as a bug. The upper bits say in which
// area the slot is: 0 = the tiers, 1..31 = plain areas, where the offset is the device's page.
struct SlotId {
  u32 v = 0;
  static constexpr u32 kOffsetBits = 26;
  constexpr SlotId() = default;
  constexpr explicit SlotId(u32 n) : v(n) {}
  constexpr SlotId(u32 area, u32 offset) : v((area << kOffsetBits) | offset) {}
  constexpr u32 area() const { return v >> kOffsetBits; }
  constexpr u32 offset() const { return v & ((u32{1} << kOffsetBits) - 1); }
  constexpr auto operator<=>(const SlotId&) const = default;
  constexpr bool valid() const { return v != 0; }
};
inline constexpr SlotId kNoSlot{};

// Identifies an address space within one System; 0 is "none".
struct SpaceId {
  u16 v = 0;
  constexpr SpaceId() = default;
  constexpr explicit SpaceId(u16 n) : v(n) {}
  constexpr auto operator<=>(const SpaceId&) const = default;
  constexpr bool valid() const { return v != 0; }
};

}  // namespace spillway
