// Codec: a page to the bytes that are kept of it, and back. A page that is one repeated 32-bit
// value keeps no bytes at all. Otherwise trailing zeros are cut off (Debian's LZ4 1.9.4 spends
// 1.9 us on a 3 KB run of zeros, against 0.4 us on other data), and the rest is compressed with
// LZ4 or, where that gains less than 1/16, kept as it is.
//
// No allocation: work memory is handed in at init. Thread safety: the engine lock.
#pragma once

#include "base/result.h"
#include "machine/machine.h"

namespace spillway {

// Stands before every stored object in a segment; 8 bytes, objects are aligned to 16.
struct ObjectHeader {
  u32 slot;     // who it belongs to
  u16 stored;   // bytes that follow
  u16 content;  // bytes of the page before the zero tail; bit 15: compressed with LZ4
  static constexpr u16 kCompressed = 0x8000;

  u32 content_bytes() const { return content & 0x7fffU; }
  bool compressed() const { return (content & kCompressed) != 0; }
};
static_assert(sizeof(ObjectHeader) == 8);

// Bytes that an object takes in a segment.
constexpr u32 object_bytes(u32 stored) {
  return (static_cast<u32>(sizeof(ObjectHeader)) + stored + 15) & ~u32{15};
}

struct Encoded {
  bool same_filled = false;
  u32 fill = 0;              // when same_filled
  u16 stored = 0;            // bytes at `data`
  u16 content = 0;           // for ObjectHeader
  const u8* data = nullptr;  // inside the page or the codec's buffer; until the next encode
};

class Codec {
 public:
  // no_memory: the machine has no boot memory left.
  Status init(BootMemory& boot);
  Encoded encode(const u8* page);
  // Rebuilds the page at `out` (4096 bytes). corrupt: the bytes are not a stored page.
  Status decode(const ObjectHeader& header, const u8* data, u8* out);
  static void fill(u32 value, u8* out);

 private:
  void* lz4_state_ = nullptr;
  u8* buffer_ = nullptr;
};

}  // namespace spillway
