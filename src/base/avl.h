// Intrusive AVL tree, ordered by a key that the owner derives from its nodes. It stands in for
// the kernel's maple tree and rb-tree: O(log n) insert, erase and search, no allocation, nodes
// embedded in the objects. Not thread-safe; the owner's lock protects it.
//
// Traits supply:
//   using Key;  static Key key(const T&);          order (strict, unique keys)
//   static AvlLink<T>& link(T&);                   where the links are
//   static void update(T& node, T* left, T* right) recomputes a node's subtree summary
#pragma once

#include "base/assert.h"

namespace spillway {

template <class T>
struct AvlLink {
  T* left = nullptr;
  T* right = nullptr;
  T* parent = nullptr;
  int height = 0;  // 0 = not in a tree, a leaf has 1
};

template <class T, class Traits>
class AvlTree {
 public:
  using Key = typename Traits::Key;

  bool empty() const { return root_ == nullptr; }
  u64 size() const { return size_; }
  T* root() const { return root_; }

  static T* left(const T* n) { return link(n).left; }
  static T* right(const T* n) { return link(n).right; }

  T* first() const { return root_ == nullptr ? nullptr : leftmost(root_); }
  T* last() const { return root_ == nullptr ? nullptr : rightmost(root_); }

  static T* next(const T* n) {
    if (link(n).right != nullptr) return leftmost(link(n).right);
    T* p = link(n).parent;
    while (p != nullptr && n == link(p).right) {
      n = p;
      p = link(p).parent;
    }
    return p;
  }
  static T* prev(const T* n) {
    if (link(n).left != nullptr) return rightmost(link(n).left);
    T* p = link(n).parent;
    while (p != nullptr && n == link(p).left) {
      n = p;
      p = link(p).parent;
    }
    return p;
  }

  // The node with the greatest key <= k, or null.
  T* floor(Key k) const {
    T* best = nullptr;
    for (T* n = root_; n != nullptr;) {
      if (Traits::key(*n) <= k) {
        best = n;
        n = link(n).right;
      } else {
        n = link(n).left;
      }
    }
    return best;
  }

  void insert(T& node) {
    SPW_ASSERT_EQ(link(&node).height, 0);
    link(&node) = AvlLink<T>{nullptr, nullptr, nullptr, 1};
    T* parent = nullptr;
    T** where = &root_;
    while (*where != nullptr) {
      parent = *where;
      SPW_DEBUG_ASSERT(Traits::key(node) != Traits::key(*parent));
      where = Traits::key(node) < Traits::key(*parent) ? &link(parent).left : &link(parent).right;
    }
    *where = &node;
    link(&node).parent = parent;
    ++size_;
    rebalance_up(&node);
  }

  void erase(T& node) {
    T* n = &node;
    SPW_ASSERT_NE(link(n).height, 0);
    T* start;  // lowest node whose subtree changed
    if (link(n).left != nullptr && link(n).right != nullptr) {
      T* s = leftmost(link(n).right);  // successor takes the node's place
      start = link(s).parent == n ? s : link(s).parent;
      if (link(s).parent != n) {
        replace_child(link(s).parent, s, link(s).right);
        link(s).right = link(n).right;
        link(link(s).right).parent = s;
      }
      link(s).left = link(n).left;
      link(link(s).left).parent = s;
      replace_child(link(n).parent, n, s);
    } else {
      T* child = link(n).left != nullptr ? link(n).left : link(n).right;
      start = link(n).parent;
      replace_child(link(n).parent, n, child);
    }
    link(n) = AvlLink<T>{};
    --size_;
    if (start != nullptr) rebalance_up(start);
  }

  // To be called after a change to the node that alters its subtree summary but not its order.
  void refresh(T& node) {
    for (T* n = &node; n != nullptr; n = link(n).parent) refresh_one(n);
  }

  // O(n): heights, order and parent links. For audits and tests.
  bool validate() const {
    u64 count = 0;
    const T* before = nullptr;
    for (const T* n = first(); n != nullptr; n = next(n)) {
      if (before != nullptr && !(Traits::key(*before) < Traits::key(*n))) return false;
      const int l = height(link(n).left);
      const int r = height(link(n).right);
      if (l - r > 1 || r - l > 1 || link(n).height != 1 + (l > r ? l : r)) return false;
      if (link(n).left != nullptr && link(link(n).left).parent != n) return false;
      if (link(n).right != nullptr && link(link(n).right).parent != n) return false;
      before = n;
      ++count;
    }
    return count == size_;
  }

 private:
  static AvlLink<T>& link(T* n) { return Traits::link(*n); }
  static const AvlLink<T>& link(const T* n) { return Traits::link(const_cast<T&>(*n)); }
  static int height(const T* n) { return n == nullptr ? 0 : link(n).height; }
  static T* leftmost(T* n) {
    while (link(n).left != nullptr) n = link(n).left;
    return n;
  }
  static T* rightmost(T* n) {
    while (link(n).right != nullptr) n = link(n).right;
    return n;
  }

  void replace_child(T* parent, T* old_child, T* new_child) {
    if (parent == nullptr) {
      root_ = new_child;
    } else if (link(parent).left == old_child) {
      link(parent).left = new_child;
    } else {
      link(parent).right = new_child;
    }
    if (new_child != nullptr) link(new_child).parent = parent;
  }

  static void refresh_one(T* n) {
    const int l = height(link(n).left);
    const int r = height(link(n).right);
    link(n).height = 1 + (l > r ? l : r);
    Traits::update(*n, link(n).left, link(n).right);
  }

  // Rotates n's right child over n (or left, mirrored) and returns the new top.
  T* rotate(T* n, bool left_turn) {
    T* c = left_turn ? link(n).right : link(n).left;
    T* inner = left_turn ? link(c).left : link(c).right;
    replace_child(link(n).parent, n, c);
    if (left_turn) {
      link(n).right = inner;
      link(c).left = n;
    } else {
      link(n).left = inner;
      link(c).right = n;
    }
    link(n).parent = c;
    if (inner != nullptr) link(inner).parent = n;
    refresh_one(n);
    refresh_one(c);
    return c;
  }

  void rebalance_up(T* n) {
    while (n != nullptr) {
      refresh_one(n);
      const int balance = height(link(n).left) - height(link(n).right);
      if (balance > 1) {
        T* l = link(n).left;
        if (height(link(l).left) < height(link(l).right)) rotate(l, true);
        n = rotate(n, false);
      } else if (balance < -1) {
        T* r = link(n).right;
        if (height(link(r).right) < height(link(r).left)) rotate(r, false);
        n = rotate(n, true);
      }
      n = link(n).parent;
    }
  }

  T* root_ = nullptr;
  u64 size_ = 0;
};

}  // namespace spillway
