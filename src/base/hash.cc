#define XXH_INLINE_ALL
#include "base/hash.h"

#include <xxhash.h>

namespace spillway {

u64 checksum64(const void* data, u64 bytes, u64 seed) {
  return XXH3_64bits_withSeed(data, bytes, seed);
}

}  // namespace spillway
