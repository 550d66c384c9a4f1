// Reads just enough of an ELF file to know whether a library can be preloaded into it.
// The file may be hostile: every offset and length is checked against the file's size.
#pragma once

#include <string>

#include "base/types.h"

namespace spillway {

enum class ElfKind : u8 {
  dynamic,        // 64-bit x86-64 with an interpreter: preloading works
  static_linked,  // no interpreter: nobody reads LD_PRELOAD
  other_machine,  // ELF, but not 64-bit little-endian x86-64
  not_elf,
  malformed,   // says that it is ELF, but contradicts itself
  unreadable,  // open or read failed; errno tells why
};

struct ElfFile {
  ElfKind kind = ElfKind::not_elf;
  std::string interpreter;  // of dynamic: the path in PT_INTERP
  std::string detail;       // of other_machine and malformed: what was found
};

// Leaves errno set when the kind is `unreadable`.
ElfFile inspect_elf(const std::string& path);

}  // namespace spillway
