// Mmu: makes frames visible to programs. The core's page tables are the truth; these calls keep
// the machine in step with them. All calls happen under the engine lock, and the core writes the
// table entries: before protect and unmap it has decided, after map it stores.
//
// A run is `count` pages at consecutive addresses. `prot` is the protection of the area that the
// run lies in, so that a machine can choose its way without keeping tables of its own.
#pragma once

#include "base/result.h"
#include "machine/pte.h"

namespace spillway {

class Mmu {
 public:
  // Maps frames [first, first+count), which are online and unmapped, at consecutive addresses
  // from `va`, where nothing is mapped. With shared_frames they may be mapped elsewhere, and the
  // entries that the core stores may grant less than `prot`, which may be Prot::none there (fork of
  // a page that nobody may touch for now). Cannot fail: a machine that cannot
  // go on stops the program with a message. Does not wake anybody who waits for the page; see
  // wake().
  virtual void map(SpaceId space, VirtAddr va, Pfn first, u32 count, Prot prot) = 0;

  // Takes the mapping of `count` pages away and brings each frame's bytes home; frames[i] is the
  // frame behind page i. Returns how many pages, from the front, were unmapped: fewer than
  // `count` when somebody else holds the next page (pinned for I/O), which stays mapped.
  virtual u32 unmap(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) = 0;

  // As unmap, for pages whose contents nobody needs any more. Always succeeds; the frames'
  // bytes are undefined afterwards, except with shared_frames, where they stay as they are: the
  // frame may have other mappings or belong to a cache. A frame of kNoPfn stands for the shared
  // zero page.
  virtual void drop(SpaceId space, VirtAddr va, const Pfn* frames, u32 count, Prot prot) = 0;

  // Moves the mappings of `count` pages, all present, to consecutive addresses from `to`,
  // where nothing is mapped and the same protection holds. kNoPfn as for drop.
  virtual void move(SpaceId space, VirtAddr from, VirtAddr to, const Pfn* frames, u32 count,
                    Prot prot) = 0;

  // The pages of [start, start+count) will be governed by `prot` from now on; present ones stay
  // mapped with it, and from now on calls for them name it. Prot::none is also what unmapped
  // ranges have: machines need not forbid anything there, because nothing is or will be mapped.
  // Fails with no_memory when the machine has run out of room for the split, changing nothing.
  virtual Status protect(SpaceId space, VirtAddr start, PageCount count, Prot prot) = 0;

  // The core has rewritten rights, accessed bits or dirty bits of present entries of the run;
  // the frames are the same, and no entry grants more than its area's protection. Translations
  // that a CPU remembers from before must go: until this call a program may still write through
  // a right that was taken away, and a write may leave a cleared dirty bit clear. Accessed bits
  // are hints: who clears only these may do without. Only called on machines with shared_frames,
  // accessed_bit or dirty_bit.
  virtual void refresh(SpaceId space, VirtAddr va, u32 count) = 0;

  // The range had been given to a foreign mapping (a file mapped over managed memory by the
  // program); it is managed again from now on, with nothing mapped in it.
  virtual void restore(SpaceId space, VirtAddr start, PageCount count) = 0;

  // Lets tasks that wait for a fault in the range run again and retry their access.
  virtual void wake(SpaceId space, VirtAddr va, PageCount count) = 0;

  // Tells the machine where the space's root table is (machines that walk the tables need it);
  // kNoPfn when the space ends.
  virtual void set_root(SpaceId space, Pfn root) = 0;

 protected:
  ~Mmu() = default;
};

}  // namespace spillway
