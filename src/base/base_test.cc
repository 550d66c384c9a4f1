#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/avl.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/prng.h"
#include "base/result.h"
#include "base/units.h"

namespace spillway {
namespace {

TEST(Units, bytes_round_to_pages) {
  EXPECT_EQ(pages_for(0).v, 0u);
  EXPECT_EQ(pages_for(1).v, 1u);
  EXPECT_EQ(pages_for(4096).v, 1u);
  EXPECT_EQ(pages_for(4097).v, 2u);
  EXPECT_EQ(pages_in(8191).v, 1u);
  EXPECT_EQ(PageCount(3).bytes(), 12288u);
}

Result<int> half(int x) {
  if (x % 2 != 0) return Error::invalid;
  return x / 2;
}
Result<int> quarter(int x) {
  SPW_TRY_ASSIGN(h, half(x));
  return half(h);
}

TEST(Result, propagates_errors) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error(), Error::invalid);
  EXPECT_EQ(errno_of(Error::no_memory), 12);
  EXPECT_STREQ(name_of(Error::no_memory), "ENOMEM");
}

TEST(AssertDeathTest, failed_assertion_ends_the_program) { EXPECT_DEATH(SPW_ASSERT_EQ(1, 2), ""); }

struct Node {
  u64 key = 0;
  u64 sum = 0;  // of the keys in the subtree
  AvlLink<Node> link;
};
struct NodeTraits {
  using Key = u64;
  static Key key(const Node& n) { return n.key; }
  static AvlLink<Node>& link(Node& n) { return n.link; }
  static void update(Node& n, Node* l, Node* r) {
    n.sum = n.key + (l != nullptr ? l->sum : 0) + (r != nullptr ? r->sum : 0);
  }
};
using Tree = AvlTree<Node, NodeTraits>;

// Random inserts, erases and floor searches against std::map.
TEST(Avl, agrees_with_map) {
  for (u64 seed = 1; seed <= 20; ++seed) {
    Prng prng(seed);
    std::vector<Node> nodes(300);
    std::map<u64, Node*> model;
    Tree tree;
    for (u64 i = 0; i < nodes.size(); ++i) nodes[i].key = i * 7;
    u64 sum = 0;
    for (int step = 0; step < 2000; ++step) {
      Node& n = nodes[prng.below(nodes.size())];
      if (model.contains(n.key)) {
        tree.erase(n);
        model.erase(n.key);
        sum -= n.key;
      } else {
        tree.insert(n);
        model[n.key] = &n;
        sum += n.key;
      }
      const u64 probe = prng.below(2200);
      auto it = model.upper_bound(probe);
      Node* want = it == model.begin() ? nullptr : std::prev(it)->second;
      ASSERT_EQ(tree.floor(probe), want);
      ASSERT_EQ(tree.size(), model.size());
      if (step % 50 == 0) {
        ASSERT_TRUE(tree.validate());
      }
      if (tree.root() != nullptr) {
        ASSERT_EQ(tree.root()->sum, sum);
      }
    }
  }
}

TEST(Avl, validate_sees_a_broken_order) {
  std::vector<Node> nodes(10);
  Tree tree;
  for (u64 i = 0; i < nodes.size(); ++i) {
    nodes[i].key = i;
    tree.insert(nodes[i]);
  }
  ASSERT_TRUE(tree.validate());
  nodes[3].key = 100;
  EXPECT_FALSE(tree.validate());
}

TEST(Hash, seed_binds_the_value) {
  u8 page[kPageSize] = {1, 2, 3};
  const u64 h = checksum64(page, kPageSize, 7);
  EXPECT_EQ(h, checksum64(page, kPageSize, 7));
  EXPECT_NE(h, checksum64(page, kPageSize, 8));
  page[4095] ^= 1;
  EXPECT_NE(h, checksum64(page, kPageSize, 7));
}

TEST(Prng, same_seed_same_sequence) {
  Prng a(42);
  Prng b(42);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.next(), b.next());
}

#ifdef SPW_LOCK_CHECK
TEST(LockDeathTest, wrong_order_is_a_bug) {
  SpinLock<Rank::zone> zone;
  SpinLock<Rank::pcp> pcp;
  EXPECT_DEATH(
      {
        Guard outer(zone);
        Guard inner(pcp);
      },
      "");
}
#endif

}  // namespace
}  // namespace spillway
