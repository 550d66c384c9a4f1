// Assertions for bugs. A failed assertion ends the program with one line that names the place,
// the expression and both values, after the panic hook (set by the machine or the test) has
// printed how to replay. Expected failures are Result (base/result.h), never assertions.
//
//   SPW_ASSERT(c)          always on, O(1)
//   SPW_ASSERT_EQ/LE/LT    always on, prints both sides
//   SPW_DEBUG_ASSERT(c)    debug builds
//   SPW_PANIC(text)        unreachable or unrecoverable state
#pragma once

#include "base/types.h"

namespace spillway {

struct PanicInfo {
  const char* file;
  int line;
  const char* expression;
  u64 left;
  u64 right;
  bool has_values;
};

// Called once, before the process ends. Must not return to the failed code; if it does,
// panic() traps. Async-signal-safe code only: it may run on an engine thread.
using PanicHook = void (*)(const PanicInfo&);
void set_panic_hook(PanicHook hook);

[[noreturn]] void panic(const char* file, int line, const char* expression, u64 left = 0,
                        u64 right = 0, bool has_values = false);

namespace detail {
template <class T>
constexpr u64 panic_value(const T& x) {
  if constexpr (requires { x.v; }) {
    return static_cast<u64>(x.v);
  } else {
    return static_cast<u64>(x);
  }
}
}  // namespace detail

}  // namespace spillway

#define SPW_PANIC(text) ::spillway::panic(__FILE__, __LINE__, text)
#define SPW_ASSERT(c)                            \
  do {                                           \
    if (!(c)) [[unlikely]]                       \
      ::spillway::panic(__FILE__, __LINE__, #c); \
  } while (0)
#define SPW_ASSERT_OP_(a, op, b)                                        \
  do {                                                                  \
    const auto& spw_a_ = (a);                                           \
    const auto& spw_b_ = (b);                                           \
    if (!(spw_a_ op spw_b_)) [[unlikely]]                               \
      ::spillway::panic(__FILE__, __LINE__, #a " " #op " " #b,          \
                        ::spillway::detail::panic_value(spw_a_),        \
                        ::spillway::detail::panic_value(spw_b_), true); \
  } while (0)
#define SPW_ASSERT_EQ(a, b) SPW_ASSERT_OP_(a, ==, b)
#define SPW_ASSERT_NE(a, b) SPW_ASSERT_OP_(a, !=, b)
#define SPW_ASSERT_LE(a, b) SPW_ASSERT_OP_(a, <=, b)
#define SPW_ASSERT_LT(a, b) SPW_ASSERT_OP_(a, <, b)
#ifdef NDEBUG
#define SPW_DEBUG_ASSERT(c) \
  do {                      \
  } while (0)
#else
#define SPW_DEBUG_ASSERT(c) SPW_ASSERT(c)
#endif
