// What the files of this room share: the slab's descriptor, the arithmetic of a slab's layout, a
// cache's configuration and what it tells about itself.
#pragma once

#include "page/page_allocator.h"

namespace spillway {

class KmemCache;

// What a cache watches for. Every finding ends the program with the cache's name (slab_bug).
//
//   none    Objects are looked at only on their way back to their slab (without magazines: at
//           once; else when magazine and depot are full, or are emptied). Found there: foreign
//           pointers, pointers into the middle, objects of other caches, and an object that is in
//           its slab already. Not found: an object that is twice in magazines and was handed out
//           again in between; writes of any kind.
//   sanity  At every free: the same, and every double free until the object is handed out again,
//           also while it lies in a magazine. Not found: writes of any kind.
//   full    The same; writes before and past the object (red zones of a word on both sides, at free
//           and in validate()); writes after the free (at reuse, when the slab goes, in
//           validate()). Freed objects are filled with kPoison, so a stale read is seen for what it
//           is; objects of caches with a ctor keep their constructed state instead, and a checksum
//           finds the writes. Not found: writes that skip the red zones; writes past the end of an
//           object that is never freed, unless validate() runs.
enum class SlabCheck : u8 { none, sanity, full };

// Who serialises the calls on a cache.
//   callers  One lock of the callers' (the engine lock) covers every call; the cache takes none,
//            and whoever calls owns all of its slots.
//   own      The cache has a lock of its own; slots belong to their threads (see KmemCache).
enum class SlabLocking : u8 { callers, own };

// ctor and dtor: one object, and the context of the configuration.
using ObjectHook = void (*)(void* object, void* context);

inline constexpr u8 kPoison = 0x5a;
inline constexpr u8 kPoisonEnd = 0xa5;  // the last byte of a freed object
inline constexpr u32 kRedTaken = 0x5a2cf071;
inline constexpr u32 kRedFree = 0x170fc2a5;

struct KmemCacheConfig {
  static constexpr u32 kLimitBySize = ~u32{0};
  static constexpr u32 kKeepAll = ~u32{0};
  // 16,000 objects: a program that frees some thousand objects at once and soon wants them again
  // shall not pay for their way through the slabs.
  static constexpr u32 kDepotFrames = 32;

  const char* name = nullptr;  // at most 18 characters, outlives the cache
  bool several = false;        // else the name is unique in its chain
  u32 size = 0;                // 8 bytes .. 32 pages
  u32 align = 8;               // a power of two, at most a page
  // Runs once per object when its slab is made. An object is freed in its constructed state.
  ObjectHook ctor = nullptr;
  ObjectHook dtor = nullptr;  // once per object when its slab goes; needs a ctor
  void* context = nullptr;
  // Aligned to `line`, or for small objects to a half, a quarter... of it while two fit.
  bool hwcache_align = false;
  bool no_reap = false;  // SlabChain::reap never takes its slabs
  bool zero = false;     // objects are handed out zeroed; excludes a ctor
  SlabCheck check = SlabCheck::none;
  SlabLocking locking = SlabLocking::callers;
  // The unit of colour offsets, and what the descriptor is rounded to. 64 is the cache line of
  // x86-64; 32 gives the numbers of 2.4.0.
  u32 line = 64;
  u32 empty_max = kKeepAll;  // empty slabs kept; the next goes at once
  u32 limit = kLimitBySize;  // objects in a magazine; 0 = no magazines
  // Frames that the depot may take: kLimitBySize = kDepotFrames where the cache has a lock of its
  // own and magazines, else none.
  u32 depot_frames = kLimitBySize;
  u32 tag = 0;  // in Page::index of its frames, for who finds the cache by the frame

  // For descriptors of the manager itself, under the engine lock: zeroed, checked, and memory
  // comes back at once but for one slab. No magazine: what it saves is a lock, and none is taken.
  static constexpr KmemCacheConfig core(const char* name, u32 size) {
    return {.name = name,
            .size = size,
            .zero = true,
            .check = SlabCheck::sanity,
            .empty_max = 1,
            .limit = 0};
  }
};

// How a slab is cut. Frame 0: [colour][descriptor, if on-slab][object 0][object 1]...
struct SlabLayout {
  u32 order = 0;
  u32 objects = 0;  // per slab
  u32 stride = 0;   // from object to object, red zones included
  u32 before = 0;   // red zone before each object
  u32 after = 0;    // offset from the object's start to the red zone behind it
  u32 header = 0;   // bytes of the descriptor in the slab, rounded; 0 = off-slab
  u32 colours = 0;  // distinct starts; 0 and 1 are the same
  u32 left_over = 0;
  u32 align = 8;
};

// 2.4.0's numbers: no order above 5; search on while more than 1/8 is wasted, but not beyond the
// break order; descriptors off-slab from an eighth of a page on.
inline constexpr u32 kSlabOrderMax = 5;
inline constexpr u32 kSlabWasteShift = 3;
inline constexpr u32 kOffSlabMin = 512;
inline constexpr u32 kObjectSizeMax = 32 * kPageSize;
inline constexpr u32 kSlabBreakOrderLow = 1;  // up to 32 MiB of frames
inline constexpr u32 kSlabBreakOrderHigh = 2;

// The descriptor of a slab: at its start or, off-slab, an object of another cache. Two numbers for
// each object follow: an element of the stack of free objects (from in_use on), and its state.
struct Slab {
  enum : u16 { kFree, kTaken, kCached };  // cached: in a magazine; only levels from sanity on tell
  KmemCache* cache;
  u8* start;  // object 0
  u32 first;  // frame
  u16 in_use;
  u16 colour;

  u16& stack(u32 i) { return reinterpret_cast<u16*>(this + 1)[2 * i]; }
  u16& state(u32 i) { return reinterpret_cast<u16*>(this + 1)[2 * i + 1]; }
};
static_assert(sizeof(Slab) == 24);
constexpr u32 slab_descriptor_bytes(u32 objects) { return 24 + objects * 4; }

// The layout for `config`; objects = 0 if no order up to kSlabOrderMax holds one.
SlabLayout slab_layout(const KmemCacheConfig& config, u32 break_order);
// Objects in a magazine by object size (MECHANISMS 12.3).
constexpr u32 magazine_limit_for(u32 size) {
  if (size > kPageSize) return 0;
  return size > 1024 ? 60 : size > 256 ? 124 : 252;
}

struct SlabInfo {
  const char* name;
  u64 objects_active;  // handed out
  u64 objects_cached;  // in magazines and the depot
  u64 objects_total;
  u64 slabs_active;  // with an object that is not in the slab
  u64 slabs_total;
  u32 object_size;
  u32 objects_per_slab;
  u32 pages_per_slab;
  u32 limit;  // of a magazine
  u32 batch;
  u64 allocs;
  u64 frees;
  u64 grown;      // slabs made
  u64 reaped;     // slabs given back
  u64 high_mark;  // most objects out of slabs at once, cached ones included
  u64 errors;     // allocations that failed
  u64 frames;     // slabs, magazines, depot
};

// Ends the program: "slab: WHAT in cache NAME", with the object's address as the left value.
[[noreturn]] void slab_bug(const char* what, const char* cache, const void* object);

}  // namespace spillway
