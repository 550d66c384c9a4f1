#include "page/page.h"

namespace spillway {

const char* name_of(PageState s) {
  constexpr const char* kNames[kPageStateCount] = {
      "offline", "reserved", "free", "pcp", "isolated", "kernel", "mapped", "unmapped", "reading"};
  return kNames[static_cast<u8>(s)];
}

const char* name_of(PageOwner o) {
  constexpr const char* kNames[kPageOwnerCount] = {"none",      "boot",  "slab",   "table",
                                                   "swap_meta", "pool",  "user",   "file",
                                                   "shmem",     "stack", "vmalloc"};
  return kNames[static_cast<u8>(o)];
}

const char* name_of(PageQueue q) {
  constexpr const char* kNames[kPageQueueCount] = {
      "none",        "probation",     "main",           "unmapped",
      "locked",      "active",        "inactive_dirty", "inactive_clean",
      "active_anon", "inactive_anon", "active_file",    "inactive_file"};
  return kNames[static_cast<u8>(q)];
}

}  // namespace spillway
