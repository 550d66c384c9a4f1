// Exit codes of the command and the one exception type that leads to them.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "machine_host/stop.h"

namespace spillway {

// The program's own exit code passes through; 128+N tells that signal N ended it. Codes of a
// program that the engine stopped stand in machine_host/stop.h; these are those of env(1).
inline constexpr int kExitFailure = kExitStartFailed;  // Spillway failed, or was called wrongly
inline constexpr int kExitNotExecutable = 126;         // the program exists but cannot be run
inline constexpr int kExitNotFound = 127;              // there is no such program
inline constexpr int kExitSignalBase = 128;

// What a wait status of waitpid(2) becomes as an exit code.
int exit_code_of(int wait_status);

// Ends the command with one line on stderr: `spillway: <thing>: <what is wrong>; <remedy>`.
class CliError : public std::exception {
 public:
  CliError(std::string thing, std::string wrong, std::string remedy, int exit_code = kExitFailure)
      : line_(std::move(thing) + ": " + std::move(wrong) + "; " + std::move(remedy)),
        exit_code_(exit_code) {}

  // The line without the leading `spillway: `.
  const char* what() const noexcept override { return line_.c_str(); }
  int exit_code() const { return exit_code_; }

 private:
  std::string line_;
  int exit_code_;
};

}  // namespace spillway
