// Threads that write and verify random pages of one big buffer, while they read() and write() it
// and while the process forks children that verify, and partly rewrite, their copies.
//
//   mt_verify [--mb N] [--threads N] [--forks N] [--rounds N] [--seed N] [--dir DIR]
//
// Ownership: pages are dealt out in blocks of 16, block b to thread b % threads; only its owner
// touches a page, so every check can be exact. A page is {version, page number, body}; the body
// is a function of both, and `versions` (one word a page, kept by the owner) says which version
// it must be.
//
// Two kinds of fork alternate. A quiet one stops the threads between two operations: the child
// must then see exactly the versions of `versions`. A wild one happens while they write: fork()
// does not stop other threads, so the child checks each page by itself; a page that was being
// written has kWriting in its version word and is skipped, and each thread can have at most one
// block of such pages. Every second child rewrites each third page and verifies everything again;
// the parent's own check at the end would see any write that leaked through.
//
// Exit code 0 only if no value was wrong. Same arguments and seed, same operations.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <vector>

#include "options.h"
#include "page_data.h"

namespace {

using programs::kPageBytes;
using programs::Random;

constexpr std::size_t kBlockPages = 16;
constexpr std::uint64_t kWriting = ~std::uint64_t{0};
constexpr std::size_t kHeaderWords = 2;

struct Shared {
  unsigned char* buffer = nullptr;
  std::vector<std::uint64_t> versions;
  std::size_t pages = 0;
  std::uint64_t threads = 0;
  std::uint64_t rounds = 0;
  std::uint64_t seed = 0;
  int file = -1;
  pthread_rwlock_t operation = PTHREAD_RWLOCK_INITIALIZER;  // a quiet fork takes it for writing
  std::atomic<std::uint64_t> wrong{0};
};

std::uint64_t* words_of(const Shared& shared, std::size_t page) {
  return reinterpret_cast<std::uint64_t*>(shared.buffer + page * kPageBytes);
}

std::uint64_t key_of(std::size_t page, std::uint64_t version) {
  return programs::mix(page) ^ version;
}

// An exchange, not a store: as an acquire, it keeps the writes that follow from moving above it.
void mark_writing(const Shared& shared, std::size_t page) {
  std::atomic_ref<std::uint64_t>(words_of(shared, page)[0])
      .exchange(kWriting, std::memory_order_acq_rel);
}

// The version word is written last (and kWriting first), so a child forked meanwhile can tell:
// one page is copied by fork at one moment, even though the whole buffer is not.
void write_page(const Shared& shared, std::size_t page, std::uint64_t version) {
  std::uint64_t* words = words_of(shared, page);
  mark_writing(shared, page);
  words[1] = page;
  programs::fill_page(words, key_of(page, version), programs::Content::mixed, kHeaderWords);
  std::atomic_ref<std::uint64_t>(words[0]).store(version, std::memory_order_release);
}

bool page_holds(const std::uint64_t* words, std::size_t page, std::uint64_t version) {
  return words[0] == version && words[1] == page &&
         programs::page_is(words, key_of(page, version), programs::Content::mixed, kHeaderWords);
}

void expect(Shared& shared, bool right, const char* what, std::size_t page) {
  if (!right && shared.wrong.fetch_add(1) < 10) {
    std::fprintf(stderr, "mt_verify: page %zu is wrong (%s)\n", page, what);
  }
}

// Sends a block of pages through the file and back: out with one write, in again over memory
// that was cleared, so both directions meet pages that may be anywhere. The pages travel with
// kWriting in their version words: a child forked meanwhile skips them, however torn they are.
void exchange_block(Shared& shared, std::size_t first, std::size_t count) {
  unsigned char* start = shared.buffer + first * kPageBytes;
  const std::size_t bytes = count * kPageBytes;
  const auto offset = static_cast<off_t>(first * kPageBytes);
  for (std::size_t page = first; page < first + count; ++page) {
    mark_writing(shared, page);
  }
  bool moved = pwrite(shared.file, start, bytes, offset) == static_cast<ssize_t>(bytes);
  for (std::size_t page = first; page < first + count; ++page) {
    std::memset(words_of(shared, page) + 1, 0, kPageBytes - sizeof(std::uint64_t));
  }
  moved = moved && pread(shared.file, start, bytes, offset) == static_cast<ssize_t>(bytes);
  expect(shared, moved, "read or write of the file failed", first);
  for (std::size_t page = first; page < first + count; ++page) {
    std::uint64_t* words = words_of(shared, page);
    std::atomic_ref<std::uint64_t>(words[0]).store(shared.versions[page],
                                                   std::memory_order_release);
    expect(shared, page_holds(words, page, shared.versions[page]), "after read() and write()",
           page);
  }
}

struct Worker {
  Shared* shared;
  std::uint64_t number;
  pthread_t handle;
};

void* work(void* argument) {
  const Worker& worker = *static_cast<Worker*>(argument);
  Shared& shared = *worker.shared;
  Random random(shared.seed * 1000 + worker.number);
  const std::size_t blocks = shared.pages / kBlockPages;
  const std::size_t mine = (blocks - worker.number + shared.threads - 1) / shared.threads;
  for (std::uint64_t round = 0; round < shared.rounds; ++round) {
    const std::size_t block = random.below(mine) * shared.threads + worker.number;
    const std::size_t page = block * kBlockPages + random.below(kBlockPages);
    const std::uint64_t choice = random.below(64);
    pthread_rwlock_rdlock(&shared.operation);
    expect(shared, page_holds(words_of(shared, page), page, shared.versions[page]), "random check",
           page);
    if (choice == 0) {
      exchange_block(shared, block * kBlockPages, kBlockPages);
    } else if (choice < 32) {
      write_page(shared, page, ++shared.versions[page]);
    }
    pthread_rwlock_unlock(&shared.operation);
  }
  return nullptr;
}

enum class Fork { quiet, wild };

// Runs in the child, alone: no other thread exists any more. Returns its exit code.
int verify_in_child(const Shared& shared, Fork kind, bool rewrites) {
  std::size_t wrong = 0;
  std::size_t unfinished = 0;
  for (std::size_t page = 0; page < shared.pages; ++page) {
    const std::uint64_t* words = words_of(shared, page);
    const std::uint64_t version = kind == Fork::quiet ? shared.versions[page] : words[0];
    if (kind == Fork::wild && version == kWriting) {
      ++unfinished;
      continue;
    }
    wrong += page_holds(words, page, version) ? 0 : 1;
  }
  wrong += unfinished > shared.threads * kBlockPages ? 1 : 0;
  if (rewrites) {
    for (std::size_t page = 0; page < shared.pages; page += 3) {
      write_page(shared, page, words_of(shared, page)[0] + 1'000'000);
    }
    for (std::size_t page = 0; page < shared.pages; page += 3) {
      wrong += page_holds(words_of(shared, page), page, words_of(shared, page)[0]) ? 0 : 1;
    }
  }
  return wrong == 0 ? 0 : 1;
}

pid_t start_child(Shared& shared, std::uint64_t number) {
  const Fork kind = number % 2 == 0 ? Fork::quiet : Fork::wild;
  const bool rewrites = number % 4 >= 2;
  if (kind == Fork::quiet) {
    pthread_rwlock_wrlock(&shared.operation);
  }
  const pid_t child = fork();
  if (child == 0) {
    _exit(verify_in_child(shared, kind, rewrites));
  }
  if (kind == Fork::quiet) {
    pthread_rwlock_unlock(&shared.operation);
  }
  return child;
}

// Children are spread over the workers' run: one is started when the previous has ended.
std::uint64_t run_children(Shared& shared, std::uint64_t forks) {
  std::uint64_t failed = 0;
  for (std::uint64_t i = 0; i < forks; ++i) {
    const pid_t child = start_child(shared, i);
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
      std::fprintf(stderr, "mt_verify: child %llu failed (status %d)\n",
                   static_cast<unsigned long long>(i), status);
      ++failed;
    }
  }
  return failed;
}

int open_scratch(const char* directory) {
  char path[4096];
  std::snprintf(path, sizeof path, "%s/mt_verify.XXXXXX", directory);
  const int file = mkstemp(path);
  if (file >= 0) {
    unlink(path);
  }
  return file;
}

}  // namespace

int main(int argc, char** argv) {
  programs::Options options(argc, argv);
  const std::uint64_t mb = options.number("--mb", 300);
  auto owned = std::make_unique<Shared>();
  Shared& shared = *owned;
  shared.threads = options.number("--threads", 4);
  const std::uint64_t forks = options.number("--forks", 4);
  shared.rounds = options.number("--rounds", 20'000);
  shared.seed = options.number("--seed", 1);
  const char* directory = options.text("--dir", "/tmp");
  options.finish("[--mb N] [--threads N] [--forks N] [--rounds N] [--seed N] [--dir DIR]");

  shared.pages = mb * 1024 * 1024 / kPageBytes;
  if (shared.threads == 0 || shared.pages / kBlockPages < shared.threads) {
    std::fprintf(stderr, "mt_verify: wants at least one thread and 64 KB for each\n");
    return 2;
  }
  shared.file = open_scratch(directory);
  void* memory = aligned_alloc(kPageBytes, shared.pages * kPageBytes);
  if (shared.file < 0 || memory == nullptr) {
    std::perror("mt_verify: scratch file or memory");
    return 3;
  }
  shared.buffer = static_cast<unsigned char*>(memory);
  shared.versions.assign(shared.pages, 1);
  for (std::size_t page = 0; page < shared.pages; ++page) {
    write_page(shared, page, 1);
  }

  std::vector<Worker> workers(shared.threads);
  for (std::uint64_t i = 0; i < shared.threads; ++i) {
    workers[i] = Worker{&shared, i, {}};
    if (pthread_create(&workers[i].handle, nullptr, work, &workers[i]) != 0) {
      std::perror("mt_verify: pthread_create");
      return 3;
    }
  }
  const std::uint64_t failed = run_children(shared, forks);
  for (Worker& worker : workers) {
    pthread_join(worker.handle, nullptr);
  }
  for (std::size_t page = 0; page < shared.pages; ++page) {
    expect(shared, page_holds(words_of(shared, page), page, shared.versions[page]), "final check",
           page);
  }
  const std::uint64_t wrong = shared.wrong.load();
  std::printf("mt_verify: %zu pages, %llu threads, %llu rounds each, %llu children: %llu wrong\n",
              shared.pages, static_cast<unsigned long long>(shared.threads),
              static_cast<unsigned long long>(shared.rounds),
              static_cast<unsigned long long>(forks),
              static_cast<unsigned long long>(wrong + failed));
  std::free(memory);
  return wrong + failed == 0 ? 0 : 1;
}
