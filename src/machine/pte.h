// The machine's page-table format: four levels of 512 eight-byte entries over 48-bit user
// addresses, as on x86-64. The core writes these tables (they are the truth); the simulated MMU
// walks them; the host mirrors their present entries into the process.
//
//   bits 0-2   kind        bit 3 writable   bit 4 accessed   bit 5 dirty   bit 6 executable
//   bit 7      readahead: brought in before anybody asked, not touched yet
//   bit 8      protnone: present, but nobody may touch it (only on machines with shared_frames)
//   bits 16-47 payload: frame of the page or of the next table, or swap slot
#pragma once

#include "base/units.h"

namespace spillway {

// What a mapping permits. The values are those of PROT_READ, PROT_WRITE and PROT_EXEC.
enum class Prot : u8 {
  none = 0,
  read = 1,
  write = 2,
  read_write = 3,
  exec = 4,
  read_exec = 5,
  write_exec = 6,
  all = 7,
};
constexpr bool allows(Prot p, Prot bit) { return (static_cast<u8>(p) & static_cast<u8>(bit)) != 0; }

enum class Access : u8 { read, write, exec };

// Whether `p` lets a program do `a`. As on x86-64, a writable or executable page is readable too.
constexpr bool permits(Prot p, Access a) {
  switch (a) {
    case Access::read: return p != Prot::none;
    case Access::write: return allows(p, Prot::write);
    case Access::exec: return allows(p, Prot::exec);
  }
  return false;
}

class Pte {
 public:
  enum class Kind : u8 {
    none = 0,      // never touched, or dropped: reads as zero
    table = 1,     // points to the next level
    present = 2,   // mapped: the MMU translates it
    unmapped = 3,  // resident but unmapped: the frame holds the page, the MMU does not see it
    swapped = 4,   // the payload is a swap slot
    zero = 5,      // the shared zero page, mapped read-only (machines with Features::zero_page)
  };

  constexpr Pte() = default;
  static constexpr Pte table(Pfn f) { return Pte(Kind::table, f.v); }
  static constexpr Pte present(Pfn f, Prot p) {
    return Pte(Kind::present, f.v)
        .with(kWritable, allows(p, Prot::write))
        .with(kExec, allows(p, Prot::exec))
        .with(kProtNone, p == Prot::none);
  }
  static constexpr Pte unmapped(Pfn f) { return Pte(Kind::unmapped, f.v); }
  static constexpr Pte swapped(SlotId s) { return Pte(Kind::swapped, s.v); }
  static constexpr Pte zero_page() { return Pte(Kind::zero, 0); }

  constexpr Kind kind() const { return static_cast<Kind>(bits_ & 7); }
  constexpr bool is(Kind k) const { return kind() == k; }
  constexpr bool none() const { return is(Kind::none); }
  constexpr bool resident() const { return is(Kind::present) || is(Kind::unmapped); }
  constexpr Pfn pfn() const { return Pfn(static_cast<u32>(bits_ >> 16)); }
  constexpr SlotId slot() const { return SlotId(static_cast<u32>(bits_ >> 16)); }

  constexpr bool writable() const { return (bits_ & kWritable) != 0; }
  constexpr bool executable() const { return (bits_ & kExec) != 0; }
  constexpr bool protnone() const { return (bits_ & kProtNone) != 0; }
  constexpr bool accessed() const { return (bits_ & kAccessed) != 0; }
  constexpr bool dirty() const { return (bits_ & kDirty) != 0; }
  constexpr bool readahead() const { return (bits_ & kReadahead) != 0; }
  constexpr Pte with_writable(bool on) const { return with(kWritable, on); }
  constexpr Pte with_accessed(bool on) const { return with(kAccessed, on); }
  constexpr Pte with_dirty(bool on) const { return with(kDirty, on); }
  constexpr Pte with_readahead(bool on) const { return with(kReadahead, on); }
  constexpr bool operator==(const Pte&) const = default;
  constexpr u64 bits() const { return bits_; }

 private:
  static constexpr u64 kWritable = 1 << 3;
  static constexpr u64 kAccessed = 1 << 4;
  static constexpr u64 kDirty = 1 << 5;
  static constexpr u64 kExec = 1 << 6;
  static constexpr u64 kReadahead = 1 << 7;
  static constexpr u64 kProtNone = 1 << 8;

  constexpr Pte(Kind k, u32 payload)
      : bits_(static_cast<u64>(k) | (static_cast<u64>(payload) << 16)) {}
  constexpr Pte with(u64 bit, bool on) const {
    Pte copy = *this;
    copy.bits_ = on ? bits_ | bit : bits_ & ~bit;
    return copy;
  }

  u64 bits_ = 0;
};
static_assert(sizeof(Pte) == 8);

inline constexpr u32 kTableBits = 9;
inline constexpr u32 kTableEntries = 1U << kTableBits;
inline constexpr u32 kTableLevels = 4;
inline constexpr Vpn kVpnEnd{u64{1} << (kTableBits * kTableLevels)};

// Index into the table at `level` (0 = leaf table).
constexpr u32 table_index(Vpn vpn, u32 level) {
  return static_cast<u32>(vpn.v >> (kTableBits * level)) & (kTableEntries - 1);
}

}  // namespace spillway
