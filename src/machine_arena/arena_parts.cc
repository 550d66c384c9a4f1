#include "machine_arena/arena_parts.h"

#include <sys/mman.h>
#include <time.h>

#include <atomic>

namespace spillway {
namespace {

u8* map_lazily(u64 bytes) {
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == MAP_FAILED ? nullptr : static_cast<u8*>(at);
}

}  // namespace

Status ArenaFrames::prepare(PageCount count) {
  SPW_ASSERT(base_ == nullptr && count.v != 0);
  if (count.v >= Pfn::kNone) return Error::invalid;
  base_ = map_lazily(count.bytes());
  if (base_ == nullptr) return Error::no_memory;
  count_ = count;
  // A huge page would hold memory for frames that are offline.
  (void)::madvise(base_, count.bytes(), MADV_NOHUGEPAGE);
  return kOk;
}

void ArenaFrames::unprepare() {
  if (base_ != nullptr) (void)::munmap(base_, count_.bytes());
  base_ = nullptr;
  count_ = granted_ = online_ = PageCount(0);
}

PageCount ArenaFrames::acquire_quota(PageCount want) {
  const PageCount left = count_ - granted_;
  const PageCount got = want < left ? want : left;
  granted_ += got;
  return got;
}

void ArenaFrames::release_quota(PageCount count) {
  SPW_ASSERT_LE(count.v + online_.v, granted_.v);
  granted_ -= count;
}

Status ArenaFrames::bring_online(Pfn first, PageCount count) {
  SPW_ASSERT_LE(u64{first.v} + count.v, count_.v);
  SPW_ASSERT_LE(online_.v + count.v, granted_.v);
  online_ += count;
  return kOk;
}

void ArenaFrames::take_offline(Pfn first, PageCount count) {
  SPW_ASSERT_LE(u64{first.v} + count.v, count_.v);
  SPW_ASSERT_LE(count.v, online_.v);
  // It cannot fail for a range of our own mapping, and what would still be there when the frame
  // comes back must read as zeros.
  if (::madvise(bytes(first), count.bytes(), MADV_DONTNEED) != 0) {
    SPW_PANIC("arena: frames could not be given back");
  }
  online_ -= count;
}

Status ArenaBoot::prepare(u64 bytes_max) {
  SPW_ASSERT(base_ == nullptr);
  base_ = map_lazily(bytes_max);
  if (base_ == nullptr) return Error::no_memory;
  size_ = bytes_max;
  return kOk;
}

void ArenaBoot::unprepare() {
  if (base_ != nullptr) (void)::munmap(base_, size_);
  base_ = nullptr;
  size_ = used_ = 0;
}

void* ArenaBoot::alloc(u64 bytes, u64 align) {
  SPW_ASSERT(align != 0 && (align & (align - 1)) == 0);
  SPW_ASSERT_LE(align, kPageSize);
  const u64 start = (used_ + align - 1) & ~(align - 1);
  if (start > size_ || bytes > size_ - start) return nullptr;
  used_ = start + bytes;
  return base_ + start;
}

u64 ArenaClock::now_ns() {
  timespec now{};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

u32 ArenaCpus::current() {
  static constinit std::atomic<u32> threads{0};
  static constinit thread_local u32 slot = ~u32{0};
  if (slot == ~u32{0}) [[unlikely]]
    slot = threads.fetch_add(1, std::memory_order_relaxed);
  return slot < count_ ? slot : slot % count_;
}

void ArenaMmu::map(SpaceId, VirtAddr, Pfn, u32, Prot) { SPW_PANIC("arena: no MMU to map"); }
u32 ArenaMmu::unmap(SpaceId, VirtAddr, const Pfn*, u32, Prot) {
  SPW_PANIC("arena: no MMU to unmap");
}
void ArenaMmu::drop(SpaceId, VirtAddr, const Pfn*, u32, Prot) {
  SPW_PANIC("arena: no MMU to drop");
}
void ArenaMmu::move(SpaceId, VirtAddr, VirtAddr, const Pfn*, u32, Prot) {
  SPW_PANIC("arena: no MMU to move");
}
Status ArenaMmu::protect(SpaceId, VirtAddr, PageCount, Prot) {
  SPW_PANIC("arena: no MMU to protect");
}
void ArenaMmu::refresh(SpaceId, VirtAddr, u32) { SPW_PANIC("arena: no MMU to refresh"); }
void ArenaMmu::restore(SpaceId, VirtAddr, PageCount) { SPW_PANIC("arena: no MMU to restore"); }
void ArenaMmu::wake(SpaceId, VirtAddr, PageCount) { SPW_PANIC("arena: no MMU to wake"); }
void ArenaMmu::set_root(SpaceId, Pfn) { SPW_PANIC("arena: no MMU to set a root"); }

}  // namespace spillway
