// The operation language of the allocators: single frames and blocks, object caches and vmalloc
// areas in one machine, for the fuzzer (alloc_fuzz.cc) and for replays in tests
// (alloc_ops_test.cc).
//
// A program is a list of operations with two numbers each. It has two forms: bytes, four for each
// operation, which is what a fuzzer likes to change; and text, one operation in a line, which
// starts with '#'. Numbers are taken modulo what there is, so every program means something.
//
// What is held carries a pattern of its own, which is checked when it goes; validate() of all three
// allocators runs in between, and at the end everything goes back and must be as in the beginning.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "machine_sim/sim_machine.h"
#include "slab/kmalloc.h"
#include "vmalloc/vmalloc.h"

namespace spillway {

// X(name, what a and b mean)
#define SPW_ALLOC_OPS(X)                                                            \
  X(alloc, "block of order a")                                                      \
  X(free, "the b-th block")                                                         \
  X(run, "up to a consecutive frames")                                              \
  X(create, "a cache: a is its kind (see kind_of), b the size")                     \
  X(destroy, "the cache a; refused while it has objects")                           \
  X(take, "b % 64 + 1 objects of cache a")                                          \
  X(give, "the b-th object, and a % 64 after it")                                   \
  X(shrink, "the cache a")                                                          \
  X(reap, "one reap of the chain")                                                  \
  X(kmalloc, "a % 8 + 1 objects of b bytes from the general caches")                \
  X(kfree, "the b-th of those, and a % 8 after it")                                 \
  X(vmalloc, "an area of b % 600 pages less a bytes")                               \
  X(vfree, "the b-th area")                                                         \
  X(vwrong, "free of an address a * 511 pages and b bytes into the range: refused") \
  X(purge, "of the freed areas")                                                    \
  X(offline, "up to b frames go back to the budget")                                \
  X(online, "up to b frames come back")                                             \
  X(drain, "of the CPUs' lists; the CPU is a from now on")                          \
  X(check, "everything")

enum class AllocOpKind : u8 {
#define X(name, text) name,
  SPW_ALLOC_OPS(X)
#undef X
      kCount
};

struct AllocOp {
  AllocOpKind kind = AllocOpKind::check;
  u8 a = 0;
  u16 b = 0;
};

std::string print(const AllocOp& op);
std::string print(const std::vector<AllocOp>& program);
// Text that starts with '#', else bytes. *bad_line, if given: the first line of a text that is no
// operation, 0 if there is none; such lines are left out.
std::vector<AllocOp> read_program(const u8* data, u64 size, u32* bad_line = nullptr);

class AllocWorld {
 public:
  static constexpr u64 kFrames = 1024;
  static constexpr u32 kCaches = 8;
  static constexpr u64 kBlocksMax = 400;

  AllocWorld();
  // "" or what is wrong, and at which operation. Broken invariants that the core notices itself
  // end the program.
  std::string run(const std::vector<AllocOp>& program);
  // After so many operations a byte of something that is held changes: run() must notice.
  void damage_after(u32 ops) { damage_after_ = ops; }
  u64 done() const { return done_; }

 private:
  struct Block {
    Pfn pfn;
    u32 frames;
    u32 order;  // of one block, if `whole`
    bool whole;
    u64 mark;
  };
  struct Object {
    u32 cache;
    u8* at;
    u64 mark;
  };
  struct General {
    u8* at;
    u64 bytes;
    u64 mark;
  };
  struct Area {
    VirtAddr at;
    u64 pages;
    u64 mark;
  };

  void step(const AllocOp& op);
  void alloc(u32 order);
  void run_of(u32 want);
  void free_block(u64 which);
  void create(u32 which, u32 kind, u32 size);
  void take(u32 cache, u32 count);
  void give(u64 which);
  void take_general(u64 bytes);
  void give_general(u64 which);
  void map(u64 bytes);
  void unmap(u64 which);
  void check();
  void end();
  void damage();
  void fail(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }
  u8* page(Pfn pfn) { return sim_.machine().frames.bytes(pfn); }
  bool store_word(VirtAddr at, u64 word);
  bool load_word(VirtAddr at, u64* word);

  SimMachine sim_;
  Counters counters_{};
  EventRing events_;
  Observer observer_{&counters_, &events_};
  FrameTable frames_;
  PageAllocator allocator_;
  SlabChain slabs_;
  VmallocSpace space_;
  Kmalloc general_;
  std::unique_ptr<KmemCache> caches_[kCaches];
  std::vector<Block> blocks_;
  std::vector<Object> objects_;
  std::vector<General> generals_;
  std::vector<Area> areas_;
  u64 next_mark_ = 1;
  u64 done_ = 0;
  u32 damage_after_ = 0;
  std::string wrong_;
};

}  // namespace spillway
