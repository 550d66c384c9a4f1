#include "cli/exit_codes.h"

#include <sys/wait.h>

namespace spillway {

int exit_code_of(int wait_status) {
  if (WIFEXITED(wait_status)) return WEXITSTATUS(wait_status);
  if (WIFSIGNALED(wait_status)) return kExitSignalBase + WTERMSIG(wait_status);
  return kExitFailure;
}

}  // namespace spillway
