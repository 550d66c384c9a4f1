// What the parts of ExtFs tell each other.
#pragma once

#include "vfs/file_system.h"

namespace spillway {

struct ExtTypes {
  enum class RunKind : u8 { hole, written, unwritten };
  // Consecutive blocks of a file that lie side by side.
  struct Run {
    u64 first = 0;  // block of the file
    u64 count = 0;
    u64 physical = 0;
    RunKind kind = RunKind::hole;
    u64 end() const { return first + count; }
  };
  // Where an entry of a directory is.
  struct Found {
    u64 block = 0;     // of the directory
    u64 physical = 0;  // of the device
    u32 offset = 0;
    u32 previous = 0;  // offset of the entry before it; the same if there is none
    u32 number = 0;
    u32 type = 0;  // as stored
  };
  struct Zone {
    u64 first;
    u64 end;
  };
  // Blocks whose contents are stored and whose extents still say "unwritten".
  struct Written {
    u32 number;
    u64 first;
    u64 count;
    u64 size;  // of the file then
  };
  struct Ended {
    Pfn pfn;
    Status status;
  };
  // One entry of a directory block, checked.
  struct Entry {
    Name name;
    u32 number;
    u32 type;  // as stored
    u32 offset;
    u32 length;    // rec_len
    u32 previous;  // offset of the one before
  };
  enum class Walk : u8 { go_on, stop };
};

}  // namespace spillway
