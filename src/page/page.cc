#include "page/page.h"

namespace spillway {

const char* name_of(PageState s) {
  constexpr const char* kNames[kPageStateCount] = {
      "offline", "reserved", "free", "pcp", "isolated", "kernel", "mapped", "unmapped", "reading"};
  return kNames[static_cast<u8>(s)];
}

const char* name_of(PageOwner o) {
  constexpr const char* kNames[kPageOwnerCount] = {"none",      "boot", "slab", "table",
                                                   "swap_meta", "pool", "user"};
  return kNames[static_cast<u8>(o)];
}

}  // namespace spillway
