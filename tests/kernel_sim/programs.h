// The programs of the cases, and the stacks that exec builds for them.
#pragma once

#include <string>
#include <vector>

#include "workload/elf_writer.h"

namespace spillway::ksim {

// Program 0 has code, data and bss; program 1 more data than fits into a page, and ends with it.
ElfParts program_parts(u32 program);

struct Arguments {
  std::vector<std::string> argv;
  std::vector<std::string> envp;
};
// Some words; now and then more than a stack may begin with.
Arguments draw_arguments(u64 seed);

// What exec puts on the stack below `top`, as the ABI wants it; empty when it is too much.
std::vector<u8> make_stack(const std::string& path, const Arguments& args, u64 top);

}  // namespace spillway::ksim
