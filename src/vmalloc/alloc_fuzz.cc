// Fuzzes page allocator, object caches and vmalloc with programs of the operation language. A
// program that fails is printed as text: save it in tests/fuzz/alloc, where the tests replay it.
#include <cstdio>
#include <cstdlib>

#include "vmalloc/alloc_world_ops.h"

extern "C" int LLVMFuzzerTestOneInput(const spillway::u8* data, size_t size) {
  using namespace spillway;
  if (size > 4096) return 0;
  const std::vector<AllocOp> program = read_program(data, size);
  AllocWorld world;
  const std::string wrong = world.run(program);
  if (wrong.empty()) return 0;
  std::fprintf(stderr, "alloc_fuzz: %s\n%s", wrong.c_str(), print(program).c_str());
  std::abort();
}
