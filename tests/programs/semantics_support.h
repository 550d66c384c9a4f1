// What the checks of `semantics` share: page buffers, pressure, and memory accesses whose SIGSEGV
// is caught and counted instead of ending the program.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "page_data.h"

namespace programs {

// One line of the output. `run` returns whether the machine behaved as Linux documents.
struct Check {
  const char* name;
  bool (*run)();
};

std::span<const Check> mapping_checks();
std::span<const Check> io_checks();
std::span<const Check> process_checks();

// Ends a check with `false` and tells on stderr (stdout is compared with a native run) where.
#define EXPECT_OR_FAIL(condition)                             \
  do {                                                        \
    if (!(condition)) {                                       \
      programs::tell_failure(__FILE__, __LINE__, #condition); \
      return false;                                           \
    }                                                         \
  } while (false)
void tell_failure(const char* file, int line, const char* condition);

// Sets the size of the pressure buffer; call once, before any check.
void set_pressure(std::size_t bytes);
// Touches (writes on the first call, then reads and verifies) more memory than the budget holds,
// so that everything else is evicted. Ends the program if the pressure buffer itself went wrong.
void press();

// Anonymous private pages, zero filled; never fails (ends the program instead).
unsigned char* map_pages(std::size_t pages, int protection = PROT_READ | PROT_WRITE);
void unmap_pages(void* start, std::size_t pages);

// Fills and verifies whole pages; `salt` tells one buffer's contents from another's.
void stamp(unsigned char* start, std::size_t pages, std::uint64_t salt);
bool stamped(const unsigned char* start, std::size_t pages, std::uint64_t salt);
bool all_zero(const unsigned char* start, std::size_t bytes);

// Installs the SIGSEGV handler on an alternate stack of ordinary anonymous memory.
void install_fault_handler();
// Does one byte's access; true if it raised SIGSEGV with exactly this address.
bool read_faults(const volatile unsigned char* address);
bool write_faults(volatile unsigned char* address);

// Waits for the child; its exit code, or 128 + N if signal N ended it.
int exit_code_of(int pid);

// The path of this very program, for checks that exec it (see main's --exit-with).
const char* own_path();
void set_own_path(const char* path);

}  // namespace programs
