// The libFuzzer target for images and path lookups: hostile_world.h says what an input is.
#include "hostile_world.h"

extern "C" int LLVMFuzzerTestOneInput(const spillway::u8* data, size_t size) {
  spillway::run_hostile_input(data, size);
  return 0;
}
