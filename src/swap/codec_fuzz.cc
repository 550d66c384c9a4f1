// Fuzzes the codec from both sides: what was encoded must decode to the same page, and whatever
// bytes come back from a disk must neither crash the decoder nor make it write outside the page.
#include <cstring>

#include "machine/machine.h"
#include "swap/codec.h"

namespace {

using namespace spillway;

class StaticBoot final : public BootMemory {
 public:
  void* alloc(u64 bytes, u64 align) override {
    used_ = (used_ + align - 1) & ~(align - 1);
    void* at = memory_ + used_;
    used_ += bytes;
    return used_ <= sizeof memory_ ? at : nullptr;
  }

 private:
  alignas(4096) u8 memory_[64 * 1024] = {};
  u64 used_ = 0;
};

struct Guarded {
  u8 before[64];
  u8 page[kPageSize];
  u8 after[64];
};

bool guards_hold(const Guarded& g) {
  for (u8 b : g.before) {
    if (b != 0xa5) return false;
  }
  for (u8 b : g.after) {
    if (b != 0xa5) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  static StaticBoot boot;
  static Codec codec;
  static const bool ready = codec.init(boot).ok();
  if (!ready || size < 8) return 0;
  alignas(8) static Guarded out;
  std::memset(&out, 0xa5, sizeof out);

  // Hostile: the header and the bytes are the input.
  ObjectHeader header;
  std::memcpy(&header, data, sizeof header);
  alignas(8) static u8 object[kPageSize];
  std::memset(object, 0, sizeof object);
  const size_t rest = size - sizeof header < kPageSize ? size - sizeof header : kPageSize;
  std::memcpy(object, data + sizeof header, rest);
  (void)codec.decode(header, object, out.page);
  if (!guards_hold(out)) __builtin_trap();

  // Round trip: the input is a page.
  alignas(8) static u8 page[kPageSize];
  std::memset(page, 0, sizeof page);
  std::memcpy(page, data, size < kPageSize ? size : kPageSize);
  const Encoded e = codec.encode(page);
  if (e.same_filled) {
    Codec::fill(e.fill, out.page);
  } else {
    std::memcpy(object, e.data, e.stored);
    const ObjectHeader good{1, e.stored, e.content};
    if (!codec.decode(good, object, out.page).ok()) __builtin_trap();
  }
  if (std::memcmp(page, out.page, kPageSize) != 0 || !guards_hold(out)) __builtin_trap();
  return 0;
}
