// Dentry: a name in a directory and the inode that it stands for, or that there is none (a negative
// dentry). Made and kept by DentryCache.
//
// A dentry is in use (count > 0: calls, open files, its children), or unused: on the list of unused
// ones, still found by name, until memory is short. Every dentry but the root and disconnected ones
// holds a reference of its parent, so parents outlive their children. A dentry holds one reference
// of its inode.
// Thread safety: the engine lock.
#pragma once

#include "vfs/inode.h"
#include "vfs/name.h"

namespace spillway {

enum class DentryFlag : u16 {
  hashed = 1 << 0,        // lookups find it
  referenced = 1 << 1,    // found by a lookup since the last scan, which spares it once
  unused = 1 << 2,        // on the list of unused dentries
  disconnected = 1 << 3,  // a directory of which the number is known, but neither name nor parent
};

struct Dentry {
  // Bytes with a zero; most names fit, longer ones lie in an object of their own.
  static constexpr u32 kInlineMax = 40;

  u32 count = 0;
  u16 flags = 0;  // DentryFlag
  u16 name_length = 0;
  u32 hash = 0;    // of the parent's number and the name
  u32 number = 0;  // stands for its address in hashes, so that a run does not depend on addresses
  Dentry* parent = nullptr;  // null: the root or disconnected
  Inode* inode = nullptr;    // null: negative
  Dentry* hash_next = nullptr;
  Dentry* prev = nullptr;  // the list of unused dentries, the most recent first
  Dentry* next = nullptr;
  Dentry* children = nullptr;
  Dentry* sibling_prev = nullptr;
  Dentry* sibling_next = nullptr;
  Dentry* alias_prev = nullptr;  // Inode::aliases
  Dentry* alias_next = nullptr;
  char* long_name = nullptr;  // null: inline_name
  char inline_name[kInlineMax] = {};

  bool is(DentryFlag f) const { return (flags & static_cast<u16>(f)) != 0; }
  void set(DentryFlag f) { flags = static_cast<u16>(flags | static_cast<u16>(f)); }
  void clear(DentryFlag f) { flags = static_cast<u16>(flags & ~static_cast<u16>(f)); }
  bool negative() const { return inode == nullptr; }
  // A zero byte follows.
  Name name() const { return {long_name != nullptr ? long_name : inline_name, name_length}; }
};

}  // namespace spillway
