// The memory system calls as the program sees them: with errno and -1 as libc's functions have
// them. What is managed goes to the engine, everything else to the kernel.
#pragma once

#include <sys/types.h>
#include <cstddef>

namespace spillway {

void* call_mmap(void* addr, std::size_t length, int prot, int flags, int fd, off_t offset);
int call_munmap(void* addr, std::size_t length);
int call_mprotect(void* addr, std::size_t length, int prot);
int call_madvise(void* addr, std::size_t length, int advice);
void* call_mremap(void* old_addr, std::size_t old_length, std::size_t new_length, int flags,
                  void* new_addr);
int call_brk(void* addr);
int call_mlock(const void* addr, std::size_t length);
int call_mlock2(const void* addr, std::size_t length, unsigned flags);
int call_munlock(const void* addr, std::size_t length);
int call_mlockall(int flags);
int call_munlockall();
int call_mincore(void* addr, std::size_t length, unsigned char* vec);
int call_pkey_mprotect(void* addr, std::size_t length, int prot, int pkey);

// Moves the break of libc into the managed region; malloc copes with a break that jumped.
void take_over_brk();

}  // namespace spillway
