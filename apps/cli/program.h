// Finds the program to run and decides, before anything is started, whether Spillway can serve
// it: a dynamically linked 64-bit x86-64 program, directly or through `#!` lines, whose loader
// will honour LD_PRELOAD.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <string>

namespace spillway {

// Scripts that name scripts as their interpreter, at most: the kernel's own limit.
inline constexpr int kScriptLevelsMax = 4;

struct Program {
  std::string path;  // what to execute
  std::string elf;   // what the kernel will load in the end: `path` or its interpreter
};

// Who is asking, as far as set-uid and file capabilities depend on it.
struct Credentials {
  uid_t uid;
  uid_t euid;
  gid_t gid;
  bool no_new_privs;
};
Credentials own_credentials();

// `name` as execvp(3) would resolve it with `path_variable` (null: not set) as PATH.
// Throws CliError with exit code 127 (not found) or 126 (not executable).
std::string find_program(const std::string& name, const char* path_variable);

// Follows `#!` lines from `path` and checks the ELF file at the end. Throws CliError.
Program inspect_program(const std::string& path, const Credentials& credentials);

// Why the loader would ignore LD_PRELOAD for a file of this owner and mode, in words; empty if
// it would not. `capabilities`: the file carries some. `nosuid`: its file system ignores both.
std::string privilege_obstacle(const struct stat& status, bool capabilities, bool nosuid,
                               const Credentials& credentials);

}  // namespace spillway
