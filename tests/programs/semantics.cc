// Does memory still behave as Linux documents it, with pages evicted under the program's feet?
//
//   semantics [--pressure-mb N] [--only TEXT]
//
// One line per check on stdout, `ok` or `FAIL` and its name; the details of a failure go to
// stderr. The output must be identical natively and under any budget. Between the steps of a
// check, press() touches --pressure-mb of other memory: choose it larger than the budget.
// Exit code: 0 if every check passed, 1 if not.
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "options.h"
#include "semantics_support.h"

namespace {

// What the exec checks start: proves that exec'd code runs with working memory of its own.
int run_as_child(const char* wanted_code) {
  constexpr std::size_t kPages = 64;
  unsigned char* pages = programs::map_pages(kPages);
  programs::stamp(pages, kPages, 1);
  return programs::stamped(pages, kPages, 1) ? std::atoi(wanted_code) : 99;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--exit-with") == 0) {
    return run_as_child(argv[2]);
  }
  programs::Options options(argc, argv);
  programs::set_pressure(options.number("--pressure-mb", 0) * 1024 * 1024);
  const char* only = options.text("--only", "");
  options.finish("[--pressure-mb N] [--only TEXT]");

  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) {
    std::perror("semantics: /proc/self/exe");
    return 3;
  }
  path[length] = '\0';
  programs::set_own_path(path);
  programs::install_fault_handler();

  int failed = 0;
  for (const auto checks :
       {programs::mapping_checks(), programs::io_checks(), programs::process_checks()}) {
    for (const programs::Check& check : checks) {
      if (std::strstr(check.name, only) == nullptr) {
        continue;
      }
      const bool passed = check.run();
      failed += passed ? 0 : 1;
      std::printf("%-4s %s\n", passed ? "ok" : "FAIL", check.name);
      std::fflush(stdout);
    }
  }
  return failed == 0 ? 0 : 1;
}
