// Sizes as users write them: 512M, 2G, 96Mi, 1.5G, 50%, plain bytes. K, M, G, T and Ki, Mi, Gi,
// Ti are powers of 1024; KB, MB, GB, TB are powers of 1000. Case does not matter. `50%` is taken
// of `whole`. Used by the command and, without libc's help, by the preloaded library.
#pragma once

#include "base/result.h"

namespace spillway {

// invalid: not a size, or an unknown suffix. no_space: does not fit in 64 bits.
Result<u64> parse_size(const char* text, u64 whole);

}  // namespace spillway
