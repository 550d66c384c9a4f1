#define LZ4_STATIC_LINKING_ONLY
#include "swap/codec.h"

#include <lz4.h>

#include <cstring>

namespace spillway {
namespace {

// Compressing must save at least 1/16, or decompression time buys nothing.
constexpr u32 worth_at_most(u32 content) { return content - content / 16; }
// Below this many bytes LZ4 cannot gain anything.
constexpr u32 kCompressMin = 64;

}  // namespace

Status Codec::init(BootMemory& boot) {
  lz4_state_ = boot.alloc(static_cast<u64>(LZ4_sizeofState()), 64);
  buffer_ = static_cast<u8*>(boot.alloc(kPageSize, 64));
  if (lz4_state_ == nullptr || buffer_ == nullptr) return Error::no_memory;
  LZ4_initStream(lz4_state_, static_cast<size_t>(LZ4_sizeofState()));
  return kOk;
}

Encoded Codec::encode(const u8* page) {
  constexpr u32 kWords = kPageSize / sizeof(u64);
  const u64* words = reinterpret_cast<const u64*>(page);
  const u64 first = words[0];
  if ((first >> 32) == (first & 0xffffffff)) {
    u32 i = 1;
    while (i < kWords && words[i] == first) ++i;
    if (i == kWords) return {.same_filled = true, .fill = static_cast<u32>(first)};
  }
  u32 last = kWords;
  while (last > 1 && words[last - 1] == 0) --last;
  const u32 content = last * static_cast<u32>(sizeof(u64));
  if (content >= kCompressMin) {
    const int stored = LZ4_compress_fast_extState_fastReset(
        lz4_state_, reinterpret_cast<const char*>(page), reinterpret_cast<char*>(buffer_),
        static_cast<int>(content), static_cast<int>(worth_at_most(content)), 1);
    if (stored > 0) {
      return {.stored = static_cast<u16>(stored),
              .content = static_cast<u16>(content | ObjectHeader::kCompressed),
              .data = buffer_};
    }
  }
  return {.stored = static_cast<u16>(content), .content = static_cast<u16>(content), .data = page};
}

Status Codec::decode(const ObjectHeader& header, const u8* data, u8* out) {
  const u32 content = header.content_bytes();
  if (content > kPageSize || header.stored > kPageSize) return Error::corrupt;
  if (header.compressed()) {
    const int got =
        LZ4_decompress_safe(reinterpret_cast<const char*>(data), reinterpret_cast<char*>(out),
                            header.stored, static_cast<int>(content));
    if (got != static_cast<int>(content)) return Error::corrupt;
  } else {
    if (header.stored != content) return Error::corrupt;
    std::memcpy(out, data, content);
  }
  std::memset(out + content, 0, kPageSize - content);
  return kOk;
}

void Codec::fill(u32 value, u8* out) {
  u64 wide = (u64{value} << 32) | value;
  u64* words = reinterpret_cast<u64*>(out);
  for (u32 i = 0; i < kPageSize / sizeof(u64); ++i) words[i] = wide;
}

}  // namespace spillway
