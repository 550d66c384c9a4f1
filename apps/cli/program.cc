#include "cli/program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "cli/elf_file.h"
#include "cli/exit_codes.h"

namespace spillway {
namespace {

// What execvp(3) searches when PATH is not set.
constexpr const char* kDefaultPath = "/bin:/usr/bin";
// The kernel reads so much of a file to find its interpreter.
constexpr std::size_t kScriptLineMax = 256;

bool is_directory(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// 0 if `path` may be executed, else the errno that tells why not.
int execute_error(const std::string& path) {
  if (::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) != 0) return errno;
  return is_directory(path) ? EISDIR : 0;
}

[[noreturn]] void throw_execute_error(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) {
    throw CliError(path, "there is no such program", "check the name", kExitNotFound);
  }
  if (error == EISDIR) {
    throw CliError(path, "is a directory", "name a program inside it", kExitNotExecutable);
  }
  if (error == EACCES) {
    throw CliError(path, "may not be executed by this user",
                   "check its permissions and those of the folders above it (chmod +x)",
                   kExitNotExecutable);
  }
  throw CliError(path, fmt::format("cannot be executed: {}", std::strerror(error)),
                 "check the file", kExitNotExecutable);
}

// The first word after `#!`; empty if `path` is no script.
std::string script_interpreter(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  char start[kScriptLineMax] = {};
  file.read(start, sizeof start);
  std::string line(start, static_cast<std::size_t>(file.gcount()));
  if (line.compare(0, 2, "#!") != 0) return "";
  line = line.substr(2, line.find('\n') - 2);
  std::string word;
  std::istringstream(line) >> word;
  return word;
}

void check_privileges(const std::string& path, const Credentials& credentials) {
  struct stat status;
  struct statvfs system;
  if (::stat(path.c_str(), &status) != 0) return;
  const bool nosuid = ::statvfs(path.c_str(), &system) == 0 && (system.f_flag & ST_NOSUID) != 0;
  const bool capabilities = ::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0;
  const std::string obstacle = privilege_obstacle(status, capabilities, nosuid, credentials);
  if (obstacle.empty()) return;
  throw CliError(path, obstacle + ", so the loader would ignore Spillway's library",
                 "run it without 'spillway run', or run a copy of it without that privilege");
}

void check_elf(const std::string& path, const Credentials& credentials) {
  const ElfFile file = inspect_elf(path);
  switch (file.kind) {
    case ElfKind::dynamic: break;
    case ElfKind::static_linked:
      throw CliError(path, "is statically linked, so no library can be preloaded into it",
                     "link it dynamically (without -static), or run it without 'spillway run'");
    case ElfKind::other_machine:
      throw CliError(path, "is " + file.detail, "Spillway serves 64-bit x86-64 programs only");
    case ElfKind::malformed:
      throw CliError(path, "is a damaged ELF file: " + file.detail, "build or copy it again",
                     kExitNotExecutable);
    case ElfKind::not_elf:
      throw CliError(path, "is neither an ELF program nor a script with a '#!' line",
                     "if it is a script, name its interpreter: spillway run -- sh " + path,
                     kExitNotExecutable);
    case ElfKind::unreadable:
      throw CliError(
          path, fmt::format("cannot be read to see how it is linked: {}", std::strerror(errno)),
          "make it readable for this user (chmod +r)", kExitNotExecutable);
  }
  const std::string loader = file.interpreter.substr(file.interpreter.rfind('/') + 1);
  if (loader.compare(0, 7, "ld-musl") == 0) {
    throw CliError(path, "is linked with musl libc, which Spillway's library cannot join",
                   "use a build of it for glibc");
  }
  if (::access(file.interpreter.c_str(), F_OK) != 0) {
    throw CliError(path, "needs the loader " + file.interpreter + ", which is not there",
                   "install the libc that it was built for", kExitNotFound);
  }
  check_privileges(path, credentials);
}

}  // namespace

Credentials own_credentials() {
  return Credentials{::getuid(), ::geteuid(), ::getgid(),
                     ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1};
}

std::string find_program(const std::string& name, const char* path_variable) {
  if (name.empty()) {
    throw CliError("''", "is not the name of a program", "check the name", kExitNotFound);
  }
  if (name.find('/') != std::string::npos) {
    const int error = execute_error(name);
    if (error != 0) throw_execute_error(name, error);
    return name;
  }
  std::istringstream folders(path_variable != nullptr ? path_variable : kDefaultPath);
  std::string refused;
  int refusal = 0;
  for (std::string folder; std::getline(folders, folder, ':');) {
    // An empty element means the current folder.
    std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    const int error = execute_error(candidate);
    if (error == 0) return candidate;
    // As execvp does: go on looking, but remember that something was there.
    if (refused.empty() && (error == EACCES || error == EISDIR)) {
      refused = candidate;
      refusal = error;
    }
  }
  if (!refused.empty() && ::access(refused.c_str(), F_OK) == 0) {
    throw_execute_error(refused, refusal);
  }
  throw CliError(name, "there is no such program in PATH", "check the name, or give the path to it",
                 kExitNotFound);
}

std::string privilege_obstacle(const struct stat& status, bool capabilities, bool nosuid,
                               const Credentials& credentials) {
  // The loader enters its secure mode only when the program would gain something.
  if (nosuid || credentials.no_new_privs) return "";
  if ((status.st_mode & S_ISUID) != 0 && status.st_uid != credentials.uid) {
    return "is set-user-ID";
  }
  // Set-group-ID without group execution means mandatory locking, not a change of group.
  constexpr mode_t kSetGroup = S_ISGID | S_IXGRP;
  if ((status.st_mode & kSetGroup) == kSetGroup && status.st_gid != credentials.gid) {
    return "is set-group-ID";
  }
  if (capabilities && credentials.euid != 0) return "carries file capabilities";
  return "";
}

Program inspect_program(const std::string& path, const Credentials& credentials) {
  std::string at = path;
  for (int level = 0;; ++level) {
    const std::string interpreter = script_interpreter(at);
    if (interpreter.empty()) break;
    if (level == kScriptLevelsMax) {
      throw CliError(path,
                     fmt::format("names more than {} interpreters in a row", kScriptLevelsMax),
                     "let its '#!' line name a program instead of a script", kExitNotExecutable);
    }
    const int error = execute_error(interpreter);
    if (error == ENOENT || error == ENOTDIR) {
      throw CliError(at, "its '#!' line names " + interpreter + ", which does not exist",
                     "install that interpreter or correct the line", kExitNotFound);
    }
    if (error != 0) throw_execute_error(interpreter, error);
    at = interpreter;
  }
  check_elf(at, credentials);
  return Program{path, at};
}

}  // namespace spillway
