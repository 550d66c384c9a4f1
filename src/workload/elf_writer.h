// elf_writer: a small executable for the simulated machine, made of bytes that are known: one
// segment of code, one of data with bss behind it. ELF64, little-endian, ET_EXEC for x86-64.
#pragma once

#include <vector>

#include "base/types.h"

namespace spillway {

struct ElfParts {
  u64 code_bytes = kPageSize;  // the headers included
  u64 data_bytes = kPageSize;
  u64 bss_bytes = 0;
  u64 base = 0x08048000;
};

struct WrittenElf {
  std::vector<u8> bytes;
  // Addresses. Code begins with the headers, at `base`; the entry point lies behind them.
  u64 code = 0;
  u64 entry = 0;
  u64 data = 0;
  u64 bss = 0;
  u64 end = 0;          // of bss
  u64 data_offset = 0;  // in the file, a whole number of pages
};

WrittenElf make_elf(const ElfParts& parts);

}  // namespace spillway
