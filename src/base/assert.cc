#include "base/assert.h"

namespace spillway {
namespace {

PanicHook g_hook = nullptr;

}  // namespace

void set_panic_hook(PanicHook hook) { g_hook = hook; }

void panic(const char* file, int line, const char* expression, u64 left, u64 right,
           bool has_values) {
  // A panic inside the hook must not loop: the hook is taken down before it runs.
  PanicHook hook = g_hook;
  g_hook = nullptr;
  if (hook != nullptr) {
    hook(PanicInfo{file, line, expression, left, right, has_values});
  }
  __builtin_trap();
}

}  // namespace spillway
