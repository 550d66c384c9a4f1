// Programs of the operation language, read and printed, and the patterns that its world uses.
#pragma once

#include <cstring>
#include <sstream>

#include "base/prng.h"
#include "vmalloc/alloc_ops.h"

namespace spillway {

inline constexpr const char* kAllocOpNames[] = {
#define X(name, text) #name,
    SPW_ALLOC_OPS(X)
#undef X
};
inline constexpr u32 kAllocOpCount = static_cast<u32>(AllocOpKind::kCount);

inline std::string print(const AllocOp& op) {
  return std::string(kAllocOpNames[static_cast<u32>(op.kind)]) + " " + std::to_string(op.a) + " " +
         std::to_string(op.b);
}

inline std::string print(const std::vector<AllocOp>& program) {
  std::string text = "# operations of src/vmalloc/alloc_ops.h\n";
  for (const AllocOp& op : program) text += print(op) + "\n";
  return text;
}

inline bool parse(const std::string& line, AllocOp* op) {
  std::istringstream in(line);
  std::string name;
  std::string rest;
  u32 a = 0;
  u32 b = 0;
  if (!(in >> name >> a >> b) || (in >> rest) || a > 0xff || b > 0xffff) return false;
  for (u32 kind = 0; kind < kAllocOpCount; ++kind) {
    if (name != kAllocOpNames[kind]) continue;
    *op = {static_cast<AllocOpKind>(kind), static_cast<u8>(a), static_cast<u16>(b)};
    return true;
  }
  return false;
}

inline std::vector<AllocOp> read_program(const u8* data, u64 size, u32* bad_line) {
  std::vector<AllocOp> program;
  if (bad_line != nullptr) *bad_line = 0;
  if (size == 0 || data[0] != '#') {
    for (u64 i = 0; i + 4 <= size; i += 4) {
      const u16 b = static_cast<u16>(data[i + 2] | (data[i + 3] << 8));
      program.push_back({static_cast<AllocOpKind>(data[i] % kAllocOpCount), data[i + 1], b});
    }
    return program;
  }
  std::istringstream in(std::string(reinterpret_cast<const char*>(data), size));
  std::string line;
  for (u32 number = 1; std::getline(in, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    AllocOp op;
    if (parse(line, &op)) {
      program.push_back(op);
    } else if (bad_line != nullptr && *bad_line == 0) {
      *bad_line = number;
    }
  }
  return program;
}

namespace alloc_world {

inline constexpr SpaceId kSpace{3};
inline constexpr Vpn kBase{0x1000};
inline constexpr u64 kRange = 1024;  // pages: less than what areas may ask for together
inline constexpr u8 kConstructed = 0xc7;
inline constexpr AllocFlags kNoWait{};

inline void construct(void* object, void* context) {
  std::memset(object, kConstructed, *static_cast<const u32*>(context));
}
// It must find what the owner left in the object, which is its constructed state.
inline void destruct(void* object, void* context) {
  const u8* bytes = static_cast<const u8*>(object);
  SPW_ASSERT(all_bytes_are(bytes, kConstructed, *static_cast<const u32*>(context)));
}

inline void fill(u8* at, u64 bytes, u64 mark) {
  for (u64 i = 0; i + 8 <= bytes; i += 8) {
    const u64 word = mix64(mark + i);
    std::memcpy(at + i, &word, 8);
  }
}
inline bool holds(const u8* at, u64 bytes, u64 mark) {
  for (u64 i = 0; i + 8 <= bytes; i += 8) {
    u64 word;
    std::memcpy(&word, at + i, 8);
    if (word != mix64(mark + i)) return false;
  }
  return true;
}

inline SimConfig config() {
  SimConfig c;
  c.frames = PageCount(AllocWorld::kFrames);
  c.boot_bytes_max = u64{1} << 20;
  return c;
}

inline KmemCacheConfig kind_of(u32 kind, u32 size, const char* name, u32* bytes) {
  KmemCacheConfig c;
  c.name = name;
  c.several = true;
  c.size = 8 + size % ((kind & 128) != 0 ? 16'000 : 1200);
  c.align = 8U << (kind & 3);
  if ((kind & 4) != 0) {
    c.ctor = construct;
    c.dtor = destruct;
    c.context = bytes;
  } else {
    c.zero = (kind & 8) != 0;
  }
  c.check = static_cast<SlabCheck>((kind >> 4) % 3);
  if ((kind & 64) != 0) c.limit = 0;
  *bytes = c.size;
  return c;
}

}  // namespace alloc_world

}  // namespace spillway
