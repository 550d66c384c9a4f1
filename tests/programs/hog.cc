// Takes memory until it has what it was told to take, then verifies it: for exhaustion tests.
//
//   hog [--mb N] [--content mixed|incompressible|zero] [--passes N] [--children N]
//
// With children, each of them (forked before anything is touched) takes the same amount, which
// shows whether a process tree shares one budget. Exit codes: 0 all values right, 1 a wrong
// value, 2 usage, 3 the mapping itself was refused.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "options.h"
#include "page_data.h"

namespace {

using programs::Content;
using programs::kPageBytes;

struct Plan {
  std::size_t pages;
  Content content;
  std::uint64_t passes;
};

int take(const Plan& plan) {
  const std::size_t bytes = plan.pages * kPageBytes;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::fprintf(stderr, "hog: mmap of %zu bytes: %s\n", bytes, std::strerror(errno));
    return 3;
  }
  auto* base = static_cast<unsigned char*>(memory);
  for (std::size_t page = 0; page < plan.pages; ++page) {
    programs::fill_page(base + page * kPageBytes, page, plan.content);
  }
  std::size_t wrong = 0;
  for (std::uint64_t pass = 0; pass < plan.passes; ++pass) {
    for (std::size_t page = 0; page < plan.pages; ++page) {
      wrong += programs::page_is(base + page * kPageBytes, page, plan.content) ? 0 : 1;
    }
  }
  std::printf("hog: %zu pages taken and verified, %zu wrong\n", plan.pages, wrong);
  std::fflush(stdout);
  return wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  programs::Options options(argc, argv);
  const char* content = options.text("--content", "mixed");
  const Plan plan{.pages = options.number("--mb", 64) * 1024 * 1024 / kPageBytes,
                  .content = std::strcmp(content, "zero") == 0             ? Content::zero
                             : std::strcmp(content, "incompressible") == 0 ? Content::incompressible
                                                                           : Content::mixed,
                  .passes = options.number("--passes", 1)};
  const std::uint64_t children = options.number("--children", 0);
  options.finish("[--mb N] [--content mixed|incompressible|zero] [--passes N] [--children N]");

  for (std::uint64_t i = 0; i < children; ++i) {
    if (fork() == 0) {
      _exit(take(plan));
    }
  }
  int worst = children == 0 ? take(plan) : 0;
  for (int status = 0; wait(&status) > 0;) {
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    worst = code > worst ? code : worst;
  }
  return worst;
}
