// ElfImage: what exec needs to know of an ELF file: where its segments go. Parsed from the first
// page of the file; everything is checked, because files come from anywhere.
#pragma once

#include "base/result.h"
#include "machine/pte.h"

namespace spillway {

struct ElfSegment {
  u64 offset = 0;  // in the file, congruent to addr modulo the page size
  u64 addr = 0;    // without load bias
  u64 file_bytes = 0;
  u64 mem_bytes = 0;
  Prot prot = Prot::none;
};

struct ElfImage {
  static constexpr u32 kSegmentsMax = 16;
  ElfSegment segments[kSegmentsMax];  // PT_LOAD, by address
  u32 count = 0;
  u64 entry = 0;
  bool relocatable = false;  // ET_DYN: may be loaded anywhere

  // `head` is the file's first `bytes` bytes, at most a page; `file_bytes` its size. no_exec: not a
  // 32- or 64-bit little-endian ELF program, or a segment that makes no sense below `top`.
  static Result<ElfImage> parse(const u8* head, u64 bytes, u64 file_bytes, u64 top);
};

}  // namespace spillway
