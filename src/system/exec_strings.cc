#include "system/exec_strings.h"

#include <cstring>

namespace spillway {

Result<u32> HostStrings::count(ExecList l) {
  u32 n = 0;
  while (list(l) != nullptr && list(l)[n] != nullptr && n <= kMax) ++n;
  return n > kMax ? Result<u32>(Error::too_big) : n;
}

Result<u64> HostStrings::length(ExecList l, u32 i, u64 max) {
  const u64 bytes = strnlen(list(l)[i], max) + 1;
  return bytes > max ? Result<u64>(Error::too_big) : bytes;
}

Status HostStrings::copy(ExecList l, u32 i, u64 from, u8* out, u64 n) {
  std::memcpy(out, list(l)[i] + from, n);
  return kOk;
}

Result<VirtAddr> UserStrings::address(ExecList l, u32 i) {
  u64 word = 0;
  const VirtAddr at = lists_[static_cast<u32>(l)] + u64{i} * sizeof(word);
  SPW_TRY(copy_from_user(sys_, space_, at, &word, sizeof(word)));
  return VirtAddr(word);
}

// No list at all is an empty one, as in Linux.
Result<u32> UserStrings::count(ExecList l) {
  if (lists_[static_cast<u32>(l)].v == 0) return 0U;
  for (u32 n = 0; n <= kMax; ++n) {
    SPW_TRY_ASSIGN(at, address(l, n));
    if (at.v == 0) return n;
  }
  return Error::too_big;
}

Result<u64> UserStrings::length(ExecList l, u32 i, u64 max) {
  SPW_TRY_ASSIGN(at, address(l, i));
  return strnlen_user(sys_, space_, at, max);
}

Status UserStrings::copy(ExecList l, u32 i, u64 from, u8* out, u64 n) {
  SPW_TRY_ASSIGN(at, address(l, i));
  return copy_from_user(sys_, space_, at + from, out, n);
}

}  // namespace spillway
