// Fixed-width integer names and the page geometry that every room shares.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spillway {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

// 4 KiB pages: the page size of every machine that Spillway serves today (x86-64).
inline constexpr u32 kPageShift = 12;
inline constexpr u64 kPageSize = u64{1} << kPageShift;
inline constexpr u64 kPageMask = kPageSize - 1;

}  // namespace spillway
