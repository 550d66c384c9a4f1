// Checks of system calls that read or write evicted memory: files, pipes, futexes, vectors.
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

#include "semantics_support.h"

namespace programs {
namespace {

constexpr std::size_t kPages = 16;
constexpr std::size_t kBytes = kPages * kPageBytes;

// An unlinked file that goes away with the descriptor.
class ScratchFile {
 public:
  explicit ScratchFile(int extra_flags = 0) {
    char path[] = "/tmp/semantics.XXXXXX";
    file_ = mkostemp(path, extra_flags);
    if (file_ >= 0) {
      unlink(path);
    }
  }
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;
  ~ScratchFile() { close(file_); }
  int get() const { return file_; }

 private:
  int file_ = -1;
};

// Sends kPages evicted pages to the file, clears and evicts them, reads them back.
bool round_trip(int file, unsigned char* pages, std::uint64_t salt) {
  stamp(pages, kPages, salt);
  press();
  EXPECT_OR_FAIL(pwrite(file, pages, kBytes, 0) == static_cast<ssize_t>(kBytes));
  std::memset(pages, 0, kBytes);
  press();
  EXPECT_OR_FAIL(pread(file, pages, kBytes, 0) == static_cast<ssize_t>(kBytes));
  EXPECT_OR_FAIL(stamped(pages, kPages, salt));
  return true;
}

bool file_io() {
  ScratchFile file;
  EXPECT_OR_FAIL(file.get() >= 0);
  unsigned char* p = map_pages(kPages);
  EXPECT_OR_FAIL(round_trip(file.get(), p, 201));
  // Into pages that were never touched, and into ones that MADV_DONTNEED emptied.
  unsigned char* fresh = map_pages(kPages);
  EXPECT_OR_FAIL(pread(file.get(), fresh, kBytes, 0) == static_cast<ssize_t>(kBytes));
  EXPECT_OR_FAIL(stamped(fresh, kPages, 201));
  unmap_pages(fresh, kPages);
  unmap_pages(p, kPages);
  return true;
}

bool direct_io() {
  ScratchFile file(O_DIRECT);
  EXPECT_OR_FAIL(file.get() >= 0);
  unsigned char* p = map_pages(kPages);
  EXPECT_OR_FAIL(round_trip(file.get(), p, 211));
  unmap_pages(p, kPages);
  return true;
}

bool vector_io() {
  ScratchFile file;
  EXPECT_OR_FAIL(file.get() >= 0);
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 221);
  press();
  // Odd lengths, so that pieces end inside pages; backwards, so that their order matters.
  iovec pieces[kPages];
  for (std::size_t i = 0; i < kPages; ++i) {
    const std::size_t page = kPages - 1 - i;
    pieces[i] = {p + page * kPageBytes, kPageBytes - page};
  }
  std::size_t total = 0;
  for (const iovec& piece : pieces) {
    total += piece.iov_len;
  }
  EXPECT_OR_FAIL(pwritev(file.get(), pieces, kPages, 0) == static_cast<ssize_t>(total));
  for (const iovec& piece : pieces) {
    std::memset(piece.iov_base, 0, piece.iov_len);
  }
  press();
  EXPECT_OR_FAIL(preadv(file.get(), pieces, kPages, 0) == static_cast<ssize_t>(total));
  EXPECT_OR_FAIL(stamped(p, kPages, 221));
  unmap_pages(p, kPages);
  return true;
}

bool pipe_io() {
  int ends[2];
  EXPECT_OR_FAIL(pipe(ends) == 0);
  unsigned char* p = map_pages(kPages);
  stamp(p, kPages, 231);
  unsigned char* copy = map_pages(kPages);
  std::memset(copy, 0xEE, kBytes);
  press();
  EXPECT_OR_FAIL(write(ends[1], p, kBytes) == static_cast<ssize_t>(kBytes));
  EXPECT_OR_FAIL(read(ends[0], copy, kBytes) == static_cast<ssize_t>(kBytes));
  EXPECT_OR_FAIL(stamped(copy, kPages, 231));
  close(ends[0]);
  close(ends[1]);
  unmap_pages(copy, kPages);
  unmap_pages(p, kPages);
  return true;
}

// The pipe keeps a reference to the page itself, not a copy: the page must not be reused for
// other data while a reader has yet to come.
bool spliced_pages() {
  int ends[2];
  EXPECT_OR_FAIL(pipe(ends) == 0);
  unsigned char* p = map_pages(4);
  stamp(p, 4, 241);
  iovec piece = {p, 4 * kPageBytes};
  EXPECT_OR_FAIL(vmsplice(ends[1], &piece, 1, 0) == 4 * kPageBytes);
  press();
  unsigned char* copy = map_pages(4);
  EXPECT_OR_FAIL(read(ends[0], copy, 4 * kPageBytes) == 4 * kPageBytes);
  EXPECT_OR_FAIL(stamped(copy, 4, 241));
  EXPECT_OR_FAIL(stamped(p, 4, 241));
  close(ends[0]);
  close(ends[1]);
  unmap_pages(copy, 4);
  unmap_pages(p, 4);
  return true;
}

bool bad_buffers() {
  ScratchFile file;
  EXPECT_OR_FAIL(file.get() >= 0);
  unsigned char* p = map_pages(4);
  stamp(p, 4, 251);
  EXPECT_OR_FAIL(pwrite(file.get(), p, kPageBytes, 0) == kPageBytes);
  EXPECT_OR_FAIL(mprotect(p, kPageBytes, PROT_NONE) == 0);
  EXPECT_OR_FAIL(mprotect(p + kPageBytes, kPageBytes, PROT_READ) == 0);
  unmap_pages(p + 2 * kPageBytes, 1);
  press();
  for (const std::size_t page : {std::size_t{0}, std::size_t{2}}) {
    EXPECT_OR_FAIL(pwrite(file.get(), p + page * kPageBytes, 100, 0) == -1 && errno == EFAULT);
    EXPECT_OR_FAIL(pread(file.get(), p + page * kPageBytes, 100, 0) == -1 && errno == EFAULT);
  }
  EXPECT_OR_FAIL(pread(file.get(), p + kPageBytes, 100, 0) == -1 && errno == EFAULT);
  EXPECT_OR_FAIL(pwrite(file.get(), p + kPageBytes, 100, 0) == 100);
  EXPECT_OR_FAIL(page_is(p + 3 * kPageBytes, mix(251) + 3));
  unmap_pages(p, 4);
  return true;
}

long futex(std::atomic<std::uint32_t>* word, int operation, std::uint32_t value) {
  return syscall(SYS_futex, word, operation, value, nullptr, nullptr, 0);
}

void* wait_until_set(void* argument) {
  auto* word = static_cast<std::atomic<std::uint32_t>*>(argument);
  while (word->load() == 7) {
    futex(word, FUTEX_WAIT_PRIVATE, 7);
  }
  return nullptr;
}

bool cold_futex() {
  unsigned char* p = map_pages(1);
  auto* word = new (p) std::atomic<std::uint32_t>(7);
  press();
  EXPECT_OR_FAIL(futex(word, FUTEX_WAIT_PRIVATE, 8) == -1 && errno == EAGAIN);
  press();
  EXPECT_OR_FAIL(futex(word, FUTEX_WAKE_PRIVATE, 1) == 0);
  // A sleeper whose futex page is evicted meanwhile is still found: a private futex is keyed by
  // its address.
  pthread_t thread;
  EXPECT_OR_FAIL(pthread_create(&thread, nullptr, wait_until_set, word) == 0);
  press();
  word->store(9);
  press();
  futex(word, FUTEX_WAKE_PRIVATE, 1);
  EXPECT_OR_FAIL(pthread_join(thread, nullptr) == 0);
  unmap_pages(p, 1);
  return true;
}

bool own_memory_from_outside() {
  unsigned char* p = map_pages(kPages);
  unsigned char* copy = map_pages(kPages);
  stamp(p, kPages, 261);
  press();
  const iovec local = {copy, kBytes};
  const iovec remote = {p, kBytes};
  EXPECT_OR_FAIL(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) ==
                 static_cast<ssize_t>(kBytes));
  EXPECT_OR_FAIL(stamped(copy, kPages, 261));
  unmap_pages(copy, kPages);
  unmap_pages(p, kPages);
  return true;
}

constexpr Check kChecks[] = {
    {"read and write of evicted and fresh pages", file_io},
    {"O_DIRECT read and write of evicted pages", direct_io},
    {"readv and writev across evicted pages", vector_io},
    {"pipes carry evicted pages", pipe_io},
    {"vmsplice: pages given to a pipe stay what they were", spliced_pages},
    {"system calls on PROT_NONE, PROT_READ and unmapped pages give EFAULT", bad_buffers},
    {"futex on an evicted page", cold_futex},
    {"process_vm_readv of evicted pages", own_memory_from_outside},
};

}  // namespace

std::span<const Check> io_checks() { return kChecks; }

}  // namespace programs
