// Draws: what the generators of all suites draw alike: a mix of operations, contents, rights and
// lengths. Everything comes from one sequence of random numbers, so the order of calls is part of
// what a seed means.
#pragma once

#include <array>
#include <initializer_list>
#include <numeric>
#include <span>

#include "area_map.h"
#include "base/prng.h"
#include "base/units.h"
#include "content.h"
#include "machine/pte.h"

namespace spillway::harness {

// How often a kind of operation appears before a seed changes the mix.
template <class Kind>
struct Weight {
  Kind kind;
  u32 weight;
};

// How long mappings are.
struct LengthShape {
  u64 frames;         // of the machine
  u64 middle_part;    // half of the lengths reach up to the frames divided by this
  u64 short_percent;  // so many percent are not longer; the rest reaches up to twice the frames
  bool wild_fit;      // wild lengths mostly fit into an address space
};

// `Kind` is an enumeration of operations that ends with kCount.
template <class Kind>
class Draws {
 protected:
  explicit Draws(u64 stream) : prng_(mix64(stream)) {}

  u64 percent() { return prng_.below(100); }
  template <class Array>
  u32 weighted(const Array& weights) {
    u64 at = prng_.below(std::accumulate(weights.begin(), weights.end(), 0U));
    u32 i = 0;
    while (at >= weights[i]) at -= weights[i++];
    return i;
  }

  // Some kinds not at all, some three times as often.
  void draw_weights(std::span<const Weight<Kind>> weights) {
    constexpr u32 kFactors[] = {0, 1, 1, 1, 3};
    for (const Weight<Kind>& w : weights) {
      weight_of(w.kind) = w.weight * kFactors[prng_.below(std::size(kFactors))];
    }
  }
  u32& weight_of(Kind kind) { return weights_[static_cast<u32>(kind)]; }
  void at_least(std::initializer_list<Kind> kinds, u32 weight) {
    for (const Kind kind : kinds) weight_of(kind) = std::max(weight_of(kind), weight);
  }
  void less_often(std::initializer_list<Kind> kinds, u32 divisor) {
    for (const Kind kind : kinds) weight_of(kind) /= divisor;
  }
  Kind draw_kind() { return static_cast<Kind>(weighted(weights_)); }

  // Pages that cost nothing to keep test little; each seed has some that do.
  void draw_fills(u32 text_at_least) {
    for (u32& fill : fills_) fill = 2 * static_cast<u32>(prng_.below(4));
    fills_[static_cast<u32>(Fill::zero)] /= 6;
    fills_[static_cast<u32>(Fill::same)] /= 4;
    fills_[static_cast<u32>(Fill::pattern)] /= 4;
    fills_[static_cast<u32>(Fill::text)] += text_at_least;
  }
  template <class Op>
  void draw_content(Op* op) {
    op->fill = static_cast<Fill>(weighted(fills_));
    op->seed = prng_.below(100'000);
  }

  Prot draw_prot(u64 read_write_percent) {
    constexpr Prot kRare[] = {Prot::none, Prot::none,      Prot::read, Prot::read,
                              Prot::all,  Prot::read_exec, Prot::write};
    return percent() < read_write_percent ? Prot::read_write : kRare[prng_.below(std::size(kRare))];
  }
  // Bytes of a mapping.
  u64 draw_length(const LengthShape& shape) {
    const u64 how = percent();
    u64 pages = prng_.between(1, 16);
    if (how >= 50) {
      pages = prng_.between(1, std::max<u64>(16, shape.frames / shape.middle_part));
    }
    if (how >= shape.short_percent) pages = prng_.between(1, shape.frames * 2);
    if (how == 99) return draw_wild_length(shape);
    u64 bytes = pages * kPageSize;
    if (how % 16 == 0) bytes -= prng_.below(kPageSize);
    return bytes;
  }
  // One that no program means.
  u64 draw_wild_length(const LengthShape& shape) {
    if (prng_.one_in(2)) return 0;
    const u64 any = prng_.next();
    return shape.wild_fit ? any >> prng_.between(30, 50) : any;
  }
  // From `first` on, or the area around it.
  template <class Space>
  PageRange range_at(const Space& space, u64 first, u64 pages_max) {
    const auto* area = space.find(first);
    if (area != nullptr && prng_.one_in(4)) return area->range;
    return {first, first + prng_.between(1, pages_max)};
  }

  Prng prng_;
  std::array<u32, static_cast<u32>(Kind::kCount)> weights_{};
  std::array<u32, kFillCount> fills_{};
  u64 fullness_ = 80;  // percent of what the machine surely holds that may be written
  u64 failures_left_ = 0;
  u64 hot_page_ = 0;  // accesses cluster around it
  u32 ops_drawn_ = 0;
};

}  // namespace spillway::harness
