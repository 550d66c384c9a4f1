// What Page::private_data of an anonymous page says until the page is mapped: its shadow in the low
// 32 bits, and these marks.
#pragma once

#include "base/types.h"

namespace spillway {

// Somebody waits for the page: its arrival is a refault and not readahead.
inline constexpr u64 kAwaited = u64{1} << 32;
// Its fault has been retried too often already.
inline constexpr u64 kReadUrgent = u64{1} << 33;
// It came from disk and nobody has touched it yet.
inline constexpr u64 kUntouched = u64{1} << 34;

}  // namespace spillway
