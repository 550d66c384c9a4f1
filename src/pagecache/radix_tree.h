// RadixTree: from a 32-bit index to a non-zero 64-bit value, 64 children a node, with two tag bits
// per value so that tagged ones are found without looking at the others (Linux's XArray, of which
// this is the part that a page cache needs). The tree is as high as its largest index asks for and
// gives empty nodes back.
//
// Nodes are objects of a slab cache shared by all trees. find never allocates; store reserves all
// nodes that it needs before it changes anything. Cost: O(log64 n). Thread safety: the engine lock.
#pragma once

#include "slab/object_cache.h"

namespace spillway {

struct RadixNode;

class RadixTree {
 public:
  static constexpr u32 kBits = 6;
  static constexpr u32 kFanout = 1U << kBits;
  static constexpr u32 kTags = 2;

  // 0 if nothing is stored there.
  u64 find(u32 index) const;
  // Stores `value` (0 removes, and then never fails). no_memory or wait: nothing changed. A new
  // value replaces the old one and keeps its tags.
  Status store(ObjectCache& nodes, u32 index, u64 value, AllocFlags flags);
  // As store(…, 0).
  void erase(ObjectCache& nodes, u32 index);

  void set_tag(u32 index, u32 tag);
  void clear_tag(u32 index, u32 tag);
  bool tagged(u32 index, u32 tag) const;

  // The first value at or after *index (and at or before `last`); sets *index to its place. False
  // when there is none.
  bool next(u32* index, u32 last, u64* value) const;
  bool next_tagged(u32* index, u32 last, u32 tag, u64* value) const;

  bool empty() const { return root_ == nullptr; }
  // O(nodes): counts, tags and heights agree; no empty node.
  bool validate() const;
  static u32 node_bytes();

 private:
  RadixNode* root_ = nullptr;
  u32 height_ = 0;  // levels of nodes
};

}  // namespace spillway
