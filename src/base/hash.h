// Checksums of pages: XXH3, 64 bits, seeded. Used to prove that a page came back from swap with
// the bytes that went out, and to recognise pages that did not change since.
#pragma once

#include "base/types.h"

namespace spillway {

// Checksum of `bytes` bytes at `data`. Different seeds give unrelated values, so binding a page
// to its slot and generation through the seed makes a stale or misplaced page fail the check.
u64 checksum64(const void* data, u64 bytes, u64 seed);

}  // namespace spillway
