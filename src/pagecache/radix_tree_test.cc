// The radix tree against std::map: random operations on small, scattered and huge indices, with
// every node allocation failed once and a reclaimer that changes the tree while a store reserves.
#include "pagecache/radix_tree.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/prng.h"
#include "page/page_bed_test.h"

namespace spillway {
namespace {

constexpr u32 kLast = ~u32{0};

struct ModelValue {
  u64 value = 0;
  bool tag[RadixTree::kTags] = {};
};
using Model = std::map<u32, ModelValue>;

class RadixTreeTest : public ::testing::Test {
 protected:
  RadixTreeTest() {
    bed_.grow_all();
    slabs_.init(bed_.allocator, bed_.frames, bed_.sim.machine().frames);
    EXPECT_TRUE(
        nodes_.init(slabs_, KmemCacheConfig::core("radix nodes", RadixTree::node_bytes())).ok());
  }
  void store(u32 index, u64 value) {
    ASSERT_TRUE(tree_.store(nodes_, index, value, kAllocKernel).ok());
    model_[index].value = value;
  }
  void erase(u32 index) {
    tree_.erase(nodes_, index);
    model_.erase(index);
  }
  void set_tag(u32 index, u32 tag, bool on) {
    if (on) {
      tree_.set_tag(index, tag);
    } else {
      tree_.clear_tag(index, tag);
    }
    if (on || model_.count(index) != 0) model_[index].tag[tag] = on;
  }
  // The first of the model at or after `from` that has the tag (kTags: any).
  const Model::value_type* first(u32 from, u32 last, u32 tag) const {
    for (auto it = model_.lower_bound(from); it != model_.end() && it->first <= last; ++it) {
      if (tag == RadixTree::kTags || it->second.tag[tag]) return &*it;
    }
    return nullptr;
  }
  void check_next(u32 from, u32 last) {
    for (u32 tag = 0; tag <= RadixTree::kTags; ++tag) {
      u32 at = from;
      u64 value = 0;
      const bool found = tag == RadixTree::kTags ? tree_.next(&at, last, &value)
                                                 : tree_.next_tagged(&at, last, tag, &value);
      const auto* expected = first(from, last, tag);
      ASSERT_EQ(found, expected != nullptr) << from << " " << last << " tag " << tag;
      if (!found) continue;
      ASSERT_EQ(at, expected->first);
      ASSERT_EQ(value, expected->second.value);
    }
  }
  // Everything, from the first to the last.
  void check_all() {
    ASSERT_TRUE(tree_.validate());
    u32 at = 0;
    u64 value = 0;
    auto it = model_.begin();
    while (tree_.next(&at, kLast, &value)) {
      ASSERT_NE(it, model_.end());
      ASSERT_EQ(at, it->first);
      ASSERT_EQ(value, it->second.value);
      for (u32 tag = 0; tag < RadixTree::kTags; ++tag) {
        ASSERT_EQ(tree_.tagged(at, tag), it->second.tag[tag]) << at;
      }
      ++it;
      if (at++ == kLast) break;
    }
    ASSERT_EQ(it, model_.end());
    ASSERT_EQ(tree_.empty(), model_.empty());
  }
  void clear() {
    while (!model_.empty()) erase(model_.begin()->first);
    EXPECT_TRUE(tree_.empty());
    EXPECT_EQ(nodes_.objects_active(), 0U);
  }

  PageBed bed_{2048};
  SlabChain slabs_;
  KmemCache nodes_;
  RadixTree tree_;
  Model model_;
};

TEST_F(RadixTreeTest, is_as_high_as_its_largest_index_asks_for) {
  EXPECT_EQ(tree_.find(0), 0U);
  store(0, 7);
  EXPECT_EQ(nodes_.objects_active(), 1U);
  store(63, 8);
  EXPECT_EQ(nodes_.objects_active(), 1U);
  store(64, 9);
  EXPECT_EQ(nodes_.objects_active(), 3U);
  store(kLast, 10);
  EXPECT_EQ(nodes_.objects_active(), 3U + 4U + 5U);
  check_all();
  erase(kLast);
  EXPECT_EQ(nodes_.objects_active(), 3U) << "levels that only one child needs are given back";
  erase(64);
  EXPECT_EQ(nodes_.objects_active(), 1U);
  check_all();
  clear();
}

TEST_F(RadixTreeTest, a_new_value_keeps_the_tags_and_erase_drops_them) {
  store(1000, 1);
  set_tag(1000, 0, true);
  store(1000, 2);
  EXPECT_TRUE(tree_.tagged(1000, 0));
  EXPECT_FALSE(tree_.tagged(1000, 1));
  erase(1000);
  store(1000, 3);
  EXPECT_FALSE(tree_.tagged(1000, 0));
  check_all();
  ASSERT_TRUE(tree_.store(nodes_, 1000, 0, kAllocKernel).ok());
  EXPECT_TRUE(tree_.empty());
}

TEST_F(RadixTreeTest, random_operations_agree_with_a_map) {
  for (u64 seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Prng prng(seed);
    // Dense, scattered over several levels, and at the very end of the range.
    const u32 span = seed % 3 == 0 ? 200 : seed % 3 == 1 ? 1U << 20 : kLast;
    std::vector<u32> favourites;
    for (u32 i = 0; i < 60; ++i) favourites.push_back(static_cast<u32>(prng.below(u64{span} + 1)));
    favourites.push_back(span);
    for (u32 step = 0; step < 800; ++step) {
      const u32 at = prng.one_in(4) ? static_cast<u32>(prng.below(u64{span} + 1))
                                    : favourites[prng.below(favourites.size())];
      const u32 tag = static_cast<u32>(prng.below(RadixTree::kTags));
      const u64 action = prng.below(10);
      if (action < 4) {
        store(at, prng.next() | 1);
      } else if (action < 7) {
        erase(at);
      } else if (model_.count(at) != 0) {
        set_tag(at, tag, prng.one_in(2));
      } else {
        set_tag(at, tag, false);
      }
      ASSERT_EQ(tree_.find(at), model_.count(at) != 0 ? model_[at].value : 0);
      const u32 last = prng.one_in(2) ? kLast : static_cast<u32>(prng.below(u64{span} + 1));
      ASSERT_NO_FATAL_FAILURE(check_next(static_cast<u32>(prng.below(u64{span} + 1)), last));
      ASSERT_NO_FATAL_FAILURE(check_next(at, kLast));
      if (step % 20 == 0) {
        ASSERT_NO_FATAL_FAILURE(check_all());
      }
    }
    clear();
  }
}

// Takes all frames but `left` away, so that the allocation after that many fails.
std::vector<Pfn> starve(PageBed& bed, u64 left) {
  std::vector<Pfn> taken;
  for (;;) {
    const Result<Pfn> pfn = bed.allocator.alloc(0, AllocFlags{.memalloc = true});
    if (!pfn.ok()) break;
    taken.push_back(pfn.value());
  }
  for (u64 i = 0; i < left; ++i) {
    bed.allocator.free(taken.back(), 0);
    taken.pop_back();
  }
  return taken;
}

TEST_F(RadixTreeTest, a_store_that_fails_changes_nothing) {
  constexpr AllocFlags kFlags{.memalloc = true};
  store(5, 55);
  u32 failures = 0;
  for (bool done = false; !done;) {
    // No frame is free and no slab has room, but for as many objects as have failed so far.
    std::vector<void*> objects;
    while (objects.size() < 40) objects.push_back(nodes_.alloc(kAllocKernel).value());
    const std::vector<Pfn> frames = starve(bed_, 0);
    for (Result<void*> o = nodes_.alloc(kFlags); o.ok(); o = nodes_.alloc(kFlags)) {
      objects.push_back(o.value());
    }
    for (u32 i = 0; i < failures; ++i) {
      nodes_.free(objects.back());
      objects.pop_back();
    }
    const u64 before = nodes_.objects_active();
    const Status status = tree_.store(nodes_, kLast, 1, kFlags);
    done = status.ok();
    if (done) {
      model_[kLast].value = 1;
    } else {
      EXPECT_EQ(status.error(), Error::no_memory);
      EXPECT_EQ(nodes_.objects_active(), before);
      ++failures;
    }
    ASSERT_NO_FATAL_FAILURE(check_all());
    for (void* object : objects) nodes_.free(object);
    for (const Pfn pfn : frames) bed_.allocator.free(pfn, 0);
  }
  EXPECT_EQ(failures, 10U) << "five levels above the old root and five nodes beside it";
  clear();
}

// A reclaimer that takes values out of the tree, as reclaim of page-cache pages does.
class TreeReclaimer final : public FakeReclaimer {
 public:
  TreeReclaimer(PageAllocator& allocator, std::vector<Pfn>& frames)
      : FakeReclaimer(allocator), frames_(frames), allocator_(allocator) {}
  ReclaimOutcome reclaim(PageCount) override {
    if (erase_now) erase_now();
    for (u32 i = 0; i < 8 && !frames_.empty(); ++i) {
      allocator_.free(frames_.back(), 0);
      frames_.pop_back();
    }
    return ReclaimOutcome::progress;
  }
  void (*erase_now)() = nullptr;

 private:
  std::vector<Pfn>& frames_;
  PageAllocator& allocator_;
};

RadixTree* shrinking_tree = nullptr;
KmemCache* shrinking_nodes = nullptr;

TEST_F(RadixTreeTest, the_tree_may_shrink_while_a_store_reserves) {
  std::vector<Pfn> frames;
  TreeReclaimer reclaimer(bed_.allocator, frames);
  bed_.allocator.set_reclaimer(reclaimer);
  store(70, 1);
  store(u32{1} << 20, 2);
  frames = starve(bed_, 0);
  // Uses up the free objects of the slabs.
  std::vector<void*> blockers;
  for (Result<void*> o = nodes_.alloc(AllocFlags{}); o.ok(); o = nodes_.alloc(AllocFlags{})) {
    blockers.push_back(o.value());
  }
  shrinking_tree = &tree_;
  shrinking_nodes = &nodes_;
  reclaimer.erase_now = [] { shrinking_tree->erase(*shrinking_nodes, u32{1} << 20); };
  ASSERT_TRUE(tree_.store(nodes_, (u32{1} << 20) + 320, 3, kAllocKernel).ok());
  model_.erase(u32{1} << 20);
  model_[(u32{1} << 20) + 320].value = 3;
  check_all();
  for (void* object : blockers) nodes_.free(object);
  for (const Pfn pfn : frames) bed_.allocator.free(pfn, 0);
  bed_.allocator.set_reclaimer(bed_.reclaimer);
  clear();
}

TEST_F(RadixTreeTest, validate_sees_what_is_broken) {
  for (const u32 i : {3U, 70U, 5000U, 5001U}) store(i, i);
  set_tag(5000, 1, true);
  ASSERT_TRUE(tree_.validate());
  RadixNode& root = *tree_.debug_root();
  RadixNode& inner = *reinterpret_cast<RadixNode*>(root.slot[1]);
  RadixNode& leaf = *reinterpret_cast<RadixNode*>(inner.slot[(5000 >> 6) & 63]);
  const auto broken = [&](u64& word, u64 value, const char* what) {
    const u64 old = word;
    word = value;
    EXPECT_FALSE(tree_.validate()) << what;
    word = old;
    ASSERT_TRUE(tree_.validate());
  };
  broken(leaf.bits[1], 0, "a tag that only inner nodes know");
  broken(root.bits[1], 0, "a tag that the root does not know");
  broken(leaf.slot[5000 & 63], 0, "a place marked as used without a value");
  broken(leaf.slot[0], 1, "a value that no bit shows");
  broken(leaf.bits[0], 1, "a tag without a value");
  broken(root.bits[RadixNode::kPresent], 1, "a root with one child too many levels up");
  broken(leaf.bits[RadixNode::kPresent], 0, "an empty node");
  clear();
}

}  // namespace
}  // namespace spillway
