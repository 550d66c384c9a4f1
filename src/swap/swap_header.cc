#include "swap/swap_header.h"

#include <cstring>

namespace spillway {
namespace {

constexpr char kMagic[] = "SWAPSPACE2";

}  // namespace

void SwapHeader::make(u32 pages, const u32* bad_pages, u32 bad_pages_count) {
  SPW_ASSERT_LE(bad_pages_count, kBadMax);
  std::memset(this, 0, sizeof *this);
  version = kVersion;
  last_page = pages - 1;
  bad_count = bad_pages_count;
  for (u32 i = 0; i < bad_count; ++i) bad[i] = bad_pages[i];
  std::memcpy(magic, kMagic, sizeof magic);
}

Status SwapHeader::check(PageCount device_pages) const {
  if (std::memcmp(magic, kMagic, sizeof magic) != 0 || version != kVersion) return Error::invalid;
  if (last_page == 0 || last_page >= device_pages.v) return Error::invalid;
  if (last_page >= u32{1} << SlotId::kOffsetBits) return Error::invalid;
  if (bad_count > kBadMax || bad_count >= last_page) return Error::invalid;
  for (u32 i = 0; i < bad_count; ++i) {
    if (bad[i] == 0 || bad[i] > last_page) return Error::invalid;
  }
  return kOk;
}

}  // namespace spillway
