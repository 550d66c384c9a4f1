#include "pagecache/radix_tree.h"

#include <bit>

namespace spillway {
namespace {

constexpr u64 bit_of(u32 place) { return u64{1} << place; }

}  // namespace

static_assert(RadixTree::kTags == RadixNode::kPresent);
static_assert(RadixTree::kFanout == 64, "a node's bits are words of 64");

u32 RadixTree::height_for(u32 index) {
  u32 height = 1;
  for (u32 rest = index >> kBits; rest != 0; rest >>= kBits) ++height;
  return height;
}

u64 RadixTree::find(u32 index) const {
  if (height_for(index) > height_) return 0;
  const RadixNode* node = root_;
  for (u32 level = height_ - 1; level != 0; --level) {
    node = child(*node, digit(index, level));
    if (node == nullptr) return 0;
  }
  return node->slot[digit(index, 0)];
}

bool RadixTree::walk(u32 index, RadixNode** path) const {
  if (height_for(index) > height_) return false;
  RadixNode* node = root_;
  for (u32 level = height_ - 1;; --level) {
    path[level] = node;
    if (level == 0) return node->slot[digit(index, 0)] != 0;
    node = child(*node, digit(index, level));
    if (node == nullptr) return false;
  }
}

u32 RadixTree::missing(u32 index) const {
  const u32 height = height_for(index);
  if (root_ == nullptr) return height;
  if (height > height_) return height - height_ + height - 1;
  const RadixNode* node = root_;
  for (u32 level = height_ - 1; level != 0; --level) {
    node = child(*node, digit(index, level));
    if (node == nullptr) return level;
  }
  return 0;
}

void RadixTree::insert(RadixNode** reserve, u32 index, u64 value) {
  const u32 height = height_for(index);
  if (root_ == nullptr) {
    root_ = *reserve++;
    height_ = height;
  }
  for (; height_ < height; ++height_) {
    RadixNode* top = *reserve++;
    for (u32 i = 0; i <= RadixNode::kPresent; ++i) top->bits[i] = root_->bits[i] != 0 ? 1 : 0;
    top->slot[0] = reinterpret_cast<u64>(root_);
    root_ = top;
  }
  RadixNode* node = root_;
  for (u32 level = height_ - 1; level != 0; --level) {
    const u32 place = digit(index, level);
    if (node->slot[place] == 0) {
      node->slot[place] = reinterpret_cast<u64>(*reserve++);
      node->bits[RadixNode::kPresent] |= bit_of(place);
    }
    node = child(*node, place);
  }
  node->slot[digit(index, 0)] = value;
  node->bits[RadixNode::kPresent] |= bit_of(digit(index, 0));
}

Status RadixTree::store(KmemCache& nodes, u32 index, u64 value, AllocFlags flags) {
  if (value == 0) {
    erase(nodes, index);
    return kOk;
  }
  RadixNode* reserve[kReserveMax];
  u32 reserved = 0;
  Status status = kOk;
  // What is missing is asked anew each time: the allocation may have reclaimed pages of this tree.
  // It never asks for more than the longest path, so the loop ends.
  while (status.ok() && reserved < missing(index)) {
    SPW_ASSERT_LT(reserved, kReserveMax);
    const Result<void*> node = nodes.alloc(flags);
    if (node.ok()) {
      reserve[reserved++] = static_cast<RadixNode*>(node.value());
    } else {
      status = node.error();
    }
  }
  u32 used = 0;
  if (status.ok()) {
    used = missing(index);
    insert(reserve, index, value);
  }
  while (reserved > used) nodes.free(reserve[--reserved]);
  return status;
}

void RadixTree::erase(KmemCache& nodes, u32 index) {
  RadixNode* path[kLevelsMax];
  if (!walk(index, path)) return;
  for (u32 tag = 0; tag < kTags; ++tag) clear_tag(index, tag);
  path[0]->slot[digit(index, 0)] = 0;
  path[0]->bits[RadixNode::kPresent] &= ~bit_of(digit(index, 0));
  for (u32 level = 0; path[level]->bits[RadixNode::kPresent] == 0; ++level) {
    nodes.free(path[level]);
    if (level + 1 == height_) {
      root_ = nullptr;
      height_ = 0;
      return;
    }
    const u32 place = digit(index, level + 1);
    path[level + 1]->slot[place] = 0;
    path[level + 1]->bits[RadixNode::kPresent] &= ~bit_of(place);
  }
  while (height_ > 1 && root_->bits[RadixNode::kPresent] == 1) {
    RadixNode* old = root_;
    root_ = child(*old, 0);
    --height_;
    nodes.free(old);
  }
}

void RadixTree::set_tag(u32 index, u32 tag) {
  SPW_ASSERT_LT(tag, kTags);
  RadixNode* path[kLevelsMax];
  const bool found = walk(index, path);
  SPW_ASSERT(found);
  for (u32 level = 0; level < height_; ++level) {
    path[level]->bits[tag] |= bit_of(digit(index, level));
  }
}

void RadixTree::clear_tag(u32 index, u32 tag) {
  SPW_ASSERT_LT(tag, kTags);
  RadixNode* path[kLevelsMax];
  if (!walk(index, path)) return;
  for (u32 level = 0; level < height_; ++level) {
    path[level]->bits[tag] &= ~bit_of(digit(index, level));
    if (path[level]->bits[tag] != 0) return;
  }
}

bool RadixTree::tagged(u32 index, u32 tag) const {
  SPW_ASSERT_LT(tag, kTags);
  RadixNode* path[kLevelsMax];
  return walk(index, path) && (path[0]->bits[tag] & bit_of(digit(index, 0))) != 0;
}

bool RadixTree::next_bit(u32* index, u32 last, u32 which, u64* value) const {
  if (root_ == nullptr) return false;
  u64 at = *index;
  while (at <= last && (at >> (kBits * height_)) == 0) {
    const RadixNode* node = root_;
    for (u32 level = height_ - 1;; --level) {
      const u32 above = kBits * (level + 1);
      const u64 rest = node->bits[which] & (~u64{0} << digit(at, level));
      if (rest == 0) {
        // Nothing more in this node: go on behind it, from the top.
        at = ((at >> above) + 1) << above;
        break;
      }
      const u32 place = static_cast<u32>(std::countr_zero(rest));
      if (place != digit(at, level)) {
        at = ((at >> above) << above) | (u64{place} << (kBits * level));
      }
      if (level == 0) {
        if (at > last) return false;
        *index = static_cast<u32>(at);
        *value = node->slot[place];
        return true;
      }
      node = child(*node, place);
    }
  }
  return false;
}

bool RadixTree::next(u32* index, u32 last, u64* value) const {
  return next_bit(index, last, RadixNode::kPresent, value);
}

bool RadixTree::next_tagged(u32* index, u32 last, u32 tag, u64* value) const {
  SPW_ASSERT_LT(tag, kTags);
  return next_bit(index, last, tag, value);
}

bool RadixTree::validate_node(const RadixNode& node, u32 level) {
  const u64 present = node.bits[RadixNode::kPresent];
  if (present == 0) return false;
  // Index 2^32-1 ends at the fourth place of the sixth level.
  if (level + 1 == kLevelsMax && (present >> 4) != 0) return false;
  for (u32 place = 0; place < kFanout; ++place) {
    const bool used = (present & bit_of(place)) != 0;
    if (used != (node.slot[place] != 0)) return false;
    for (u32 tag = 0; tag < kTags; ++tag) {
      const bool set = (node.bits[tag] & bit_of(place)) != 0;
      if (set && !used) return false;
      if (used && level != 0 && set != (child(node, place)->bits[tag] != 0)) return false;
    }
    if (used && level != 0 && !validate_node(*child(node, place), level - 1)) return false;
  }
  return true;
}

bool RadixTree::validate() const {
  if (root_ == nullptr) return height_ == 0;
  if (height_ == 0 || height_ > kLevelsMax) return false;
  if (height_ > 1 && root_->bits[RadixNode::kPresent] == 1) return false;
  return validate_node(*root_, height_ - 1);
}

}  // namespace spillway
