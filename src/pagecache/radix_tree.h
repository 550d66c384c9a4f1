// RadixTree: from a 32-bit index to a non-zero 64-bit value, 64 children a node, with four tag bits
// per value so that tagged ones are found without looking at the others (Linux's XArray, of which
// this is the part that a page cache needs). The tree is as high as its largest index asks for and
// gives empty nodes back.
//
// Nodes are objects of a slab cache shared by all trees. find never allocates; store reserves all
// nodes that it needs before it changes anything, and copes with a tree that changes meanwhile:
// the reservation may reclaim, and reclaim takes pages out of trees.
//
// Invariants: R1 no node is empty; R2 a bit of an inner node says whether the child has any such
// bit; R3 the root of a tree with several levels has a child besides the first.
// Cost: O(log64 n). Thread safety: the engine lock.
#pragma once

#include "slab/slab_chain.h"

namespace spillway {

// One level's 64 places. Which of them are used, and which lead to a tagged value, are words with a
// bit per place, so that the next one is found without a loop.
struct RadixNode {
  static constexpr u32 kPresent = 4;  // in bits[], behind the tags
  u64 bits[kPresent + 1] = {};
  u64 slot[64] = {};  // a value, or in inner nodes a RadixNode*
};

class RadixTree {
 public:
  static constexpr u32 kBits = 6;
  static constexpr u32 kFanout = 1U << kBits;
  static constexpr u32 kTags = 4;

  // 0 if nothing is stored there.
  u64 find(u32 index) const;
  // Stores `value` (0 removes, and then never fails). no_memory or wait: nothing changed. A new
  // value replaces the old one and keeps its tags.
  Status store(KmemCache& nodes, u32 index, u64 value, AllocFlags flags);
  // As store(…, 0).
  void erase(KmemCache& nodes, u32 index);

  void set_tag(u32 index, u32 tag);
  void clear_tag(u32 index, u32 tag);
  bool tagged(u32 index, u32 tag) const;
  // Whether anything has the tag; O(1).
  bool any_tagged(u32 tag) const { return root_ != nullptr && root_->bits[tag] != 0; }

  // The first value at or after *index (and at or before `last`); sets *index to its place. False
  // when there is none.
  bool next(u32* index, u32 last, u64* value) const;
  bool next_tagged(u32* index, u32 last, u32 tag, u64* value) const;

  bool empty() const { return root_ == nullptr; }
  // O(nodes): counts, tags and heights agree; no empty node.
  bool validate() const;
  static constexpr u32 node_bytes() { return sizeof(RadixNode); }
  // For tests that break a tree.
  RadixNode* debug_root() { return root_; }

 private:
  // 32 bits are six levels.
  static constexpr u32 kLevelsMax = 6;
  // Most nodes of one store: all levels above the old root, and a new path beside it.
  static constexpr u32 kReserveMax = 2 * kLevelsMax;

  static u32 digit(u64 index, u32 level) {
    return static_cast<u32>(index >> (kBits * level)) & (kFanout - 1);
  }
  static RadixNode* child(const RadixNode& node, u32 place) {
    return reinterpret_cast<RadixNode*>(node.slot[place]);
  }
  static u32 height_for(u32 index);
  static bool validate_node(const RadixNode& node, u32 level);
  // Nodes that a store at `index` lacks.
  u32 missing(u32 index) const;
  void insert(RadixNode** reserve, u32 index, u64 value);
  // The nodes from the root to the value at `index`, the leaf in path[0]; false if none is there.
  bool walk(u32 index, RadixNode** path) const;
  bool next_bit(u32* index, u32 last, u32 which, u64* value) const;

  RadixNode* root_ = nullptr;
  u32 height_ = 0;  // levels of nodes
};

}  // namespace spillway
