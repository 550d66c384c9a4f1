#include "system/elf_image.h"

namespace spillway {
namespace {

// Field offsets of the ELF specification, for both classes.
struct Format {
  u32 header_bytes, entry, phoff, phentsize, phnum, word;
  u32 ph_bytes, p_offset, p_vaddr, p_filesz, p_memsz, p_flags;
};
constexpr Format kElf64{64, 24, 32, 54, 56, 8, 56, 8, 16, 32, 40, 4};
constexpr Format kElf32{52, 24, 28, 42, 44, 4, 32, 4, 8, 16, 20, 24};
constexpr u32 kTypeExec = 2;
constexpr u32 kTypeDyn = 3;
constexpr u32 kLoad = 1;
constexpr u32 kFlagExec = 1;
constexpr u32 kFlagWrite = 2;
constexpr u32 kFlagRead = 4;

u64 load(const u8* from, u32 bytes) {
  u64 value = 0;
  for (u32 i = 0; i < bytes; ++i) value |= u64{from[i]} << (8 * i);
  return value;
}

Prot prot_of(u64 flags) {
  u32 bits = 0;
  if ((flags & kFlagRead) != 0) bits |= static_cast<u32>(Prot::read);
  if ((flags & kFlagWrite) != 0) bits |= static_cast<u32>(Prot::write);
  if ((flags & kFlagExec) != 0) bits |= static_cast<u32>(Prot::exec);
  return static_cast<Prot>(bits);
}

bool sensible(const ElfSegment& s, u64 file_bytes, u64 top) {
  if (s.mem_bytes == 0 || s.file_bytes > s.mem_bytes) return false;
  if (s.offset > file_bytes || s.file_bytes > file_bytes - s.offset) return false;
  if (s.addr >= top || s.mem_bytes > top - s.addr) return false;
  return (s.offset & kPageMask) == (s.addr & kPageMask);
}

}  // namespace

Result<ElfImage> ElfImage::parse(const u8* head, u64 bytes, u64 file_bytes, u64 top) {
  if (bytes < kElf32.header_bytes) return Error::no_exec;
  if (head[0] != 0x7f || head[1] != 'E' || head[2] != 'L' || head[3] != 'F') return Error::no_exec;
  if ((head[4] != 1 && head[4] != 2) || head[5] != 1) return Error::no_exec;
  const Format& f = head[4] == 2 ? kElf64 : kElf32;
  if (bytes < f.header_bytes) return Error::no_exec;
  ElfImage image;
  const u64 type = load(head + 16, 2);
  if (type != kTypeExec && type != kTypeDyn) return Error::no_exec;
  image.relocatable = type == kTypeDyn;
  image.entry = load(head + f.entry, f.word);
  const u64 phoff = load(head + f.phoff, f.word);
  const u64 phnum = load(head + f.phnum, 2);
  if (load(head + f.phentsize, 2) != f.ph_bytes || phnum == 0) return Error::no_exec;
  if (phoff > bytes || phnum * f.ph_bytes > bytes - phoff) return Error::no_exec;
  for (u64 i = 0; i < phnum; ++i) {
    const u8* p = head + phoff + i * f.ph_bytes;
    if (load(p, 4) != kLoad) continue;
    ElfSegment s;
    s.offset = load(p + f.p_offset, f.word);
    s.addr = load(p + f.p_vaddr, f.word);
    s.file_bytes = load(p + f.p_filesz, f.word);
    s.mem_bytes = load(p + f.p_memsz, f.word);
    s.prot = prot_of(load(p + f.p_flags, 4));
    if (image.count == kSegmentsMax || !sensible(s, file_bytes, top)) return Error::no_exec;
    if (image.count > 0) {
      const ElfSegment& before = image.segments[image.count - 1];
      // Segments are in order and share no page.
      if (pages_for(before.addr + before.mem_bytes).v > (s.addr >> kPageShift)) {
        return Error::no_exec;
      }
    }
    image.segments[image.count++] = s;
  }
  if (image.count == 0) return Error::no_exec;
  return image;
}

}  // namespace spillway
