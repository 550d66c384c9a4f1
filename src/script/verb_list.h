// The words of the scenario language. Each verb and each quantity has one line here: its name, its
// signature, and what it does. The parser, the printer, error messages and the test of
// docs/scenario-language.md all read these lines.
//
// A signature is a usage line:
//   WORD           a required operand of the type that the word names (ParamType)
//   {a|b}          a required word, one of these
//   [a|b]          an optional word, one of these
//   [key=WORD]     an option
//   [key={a|b}]    an option whose value is one of these words
//   TEXT...        any number of strings, at least one
// Of a quantity, a word a? is a question whose answer is yes or no, and a:TYPE answers with a
// TYPE; other words are numbers.
#pragma once

// X(identifier, signature, what it does)
#define SPW_VERBS_STAGE(X)                                                                    \
  X(title, "TEXT", "names the scenario; first of all")                                        \
  X(text, "TEXT", "tells the reader what comes next")                                         \
  X(machine,                                                                                  \
    "[frames=NUMBER] [cpus=NUMBER] [policy={linux24|two_list|three_queue}] [cluster=NUMBER] " \
    "[min=NUMBER] [low=NUMBER] [high=NUMBER] [strict_stack=TOGGLE] [guard_gap=NUMBER] "       \
    "[layout={classic|modern}] [overcommit={heuristic|always|never}] [ratio=NUMBER] "         \
    "[readahead={cluster|streams}] [pool=NUMBER] [file_pages=NUMBER] [latency=TIME] "         \
    "[daemons={asked|auto}] [seed=NUMBER]",                                                   \
    "what the machine and its kernel are like")                                               \
  X(swap, "NUMBER [priority=INTEGER] [off]",                                                  \
    "a swap area of so many slots, swap0, swap1 and so on; switched on unless off")           \
  X(file, "TEXT SIZE [pattern=NUMBER] [capacity=SIZE]", "a file on disk with known contents") \
  X(program, "TEXT [code=SIZE] [data=SIZE] [bss=SIZE]", "an ELF file that can be executed")   \
  X(disk, "NUMBER [block=SIZE]",                                                              \
    "a block device of so many pages with a buffer cache: disk0, disk1 and so on")

#define SPW_VERBS_PROCESS(X)                                                                  \
  X(process, "CHILD", "a process with a stack of one page and an empty heap")                 \
  X(fork, "PROCESS CHILD [fails=ERROR]", "fork: a child with the same memory, copy-on-write") \
  X(thread, "PROCESS CHILD [fails=ERROR]", "a task that shares the address space")            \
  X(exec, "PROCESS TEXT... [pad=SIZE] [fails=ERROR]",                                         \
    "execve: path and arguments, the last of them so long")                                   \
  X(exit, "PROCESS [code=NUMBER]", "the process ends")                                        \
  X(kill, "PROCESS [with={KILL|TERM|SEGV}]", "a signal ends the process")                     \
  X(reap, "PROCESS [fails=ERROR]", "wait: removes what is left of a dead process")            \
  X(cpu, "PROCESS NUMBER", "the CPU on which the process runs from now on")                   \
  X(sp, "PROCESS PLACE", "sets the stack pointer")                                            \
  X(limit, "PROCESS {stack|as|data|memlock} LIMIT", "setrlimit")                              \
  X(nice, "PROCESS INTEGER", "sets the nice value")                                           \
  X(oom_score_adj, "PROCESS INTEGER", "how willingly the OOM killer takes it; -1000 never")   \
  X(catches, "PROCESS TOGGLE", "whether the process survives SIGSEGV and SIGBUS")

#define SPW_VERBS_ACCESS(X)                                                        \
  X(read, "PROCESS PLACE [bytes=SIZE] [expect=DATA] [signal=SIGNAL]",              \
    "loads bytes; they are compared with what was written there")                  \
  X(write, "PROCESS PLACE DATA [bytes=SIZE] [signal=SIGNAL]",                      \
    "stores a text, or a byte as often as bytes says")                             \
  X(fetch, "PROCESS PLACE [signal=SIGNAL]", "executes an instruction there")       \
  X(touch, "PROCESS PLACE SIZE {read|write|fetch} [signal=SIGNAL]",                \
    "one access to each page of the range")                                        \
  X(fill, "PROCESS PLACE SIZE [pattern=NUMBER]", "writes every byte of the range") \
  X(verify, "PROCESS PLACE SIZE", "reads every byte of the range and compares it")

#define SPW_VERBS_CALL(X)                                                                         \
  X(mmap,                                                                                         \
    "PROCESS NAME SIZE PROT [private|shared] [at=PLACE] [fixed|noreplace] [populate] [locked] "   \
    "[noreserve] [growsdown] [file=TEXT] [offset=SIZE] [open={r|w|rw}] [fails=ERROR]",            \
    "maps memory, or a file; private and anonymous unless told otherwise")                        \
  X(munmap, "PROCESS PLACE SIZE [fails=ERROR]", "unmaps")                                         \
  X(mprotect, "PROCESS PLACE SIZE PROT [fails=ERROR]", "changes what is permitted")               \
  X(mremap, "PROCESS PLACE SIZE SIZE [maymove] [to=PLACE] [dontunmap] [name=NAME] [fails=ERROR]", \
    "resizes, or moves; old size, new size")                                                      \
  X(msync, "PROCESS PLACE SIZE {sync|async|invalidate} [fails=ERROR]", "writes a mapping back")   \
  X(mlock, "PROCESS PLACE SIZE [fails=ERROR]", "keeps pages in memory")                           \
  X(munlock, "PROCESS PLACE SIZE [fails=ERROR]", "lets them go again")                            \
  X(mlockall, "PROCESS {current|future|all} [fails=ERROR]", "keeps all pages in memory")          \
  X(munlockall, "PROCESS [fails=ERROR]", "lets them go again")                                    \
  X(madvise,                                                                                      \
    "PROCESS PLACE SIZE {normal|random|sequential|willneed|dontneed|free|cold|pageout} "          \
    "[fails=ERROR]",                                                                              \
    "tells what will be needed")                                                                  \
  X(mincore, "PROCESS PLACE SIZE [expect=TEXT] [fails=ERROR]",                                    \
    "asks what is resident: a 1 or a 0 for each page")                                            \
  X(brk, "PROCESS PLACE [refused]", "moves the end of the heap")                                  \
  X(pread, "PROCESS TEXT SIZE [bytes=SIZE] [expect=DATA] [fails=ERROR]",                          \
    "read(2) from a file at an offset")                                                           \
  X(pwrite, "PROCESS TEXT SIZE DATA [bytes=SIZE] [fails=ERROR]",                                  \
    "write(2) to a file at an offset")                                                            \
  X(ftruncate, "PROCESS TEXT SIZE [fails=ERROR]", "sets the size of a file")                      \
  X(fsync, "PROCESS TEXT [fails=ERROR]", "writes a file's dirty pages to disk")                   \
  X(unlink, "PROCESS TEXT [fails=ERROR]", "removes a file's name")                                \
  X(shmget, "PROCESS SEGMENT SIZE [key=NUMBER] [exclusive] [find] [fails=ERROR]",                 \
    "makes a shared memory segment, or finds one by its key")                                     \
  X(shmat, "PROCESS SEGMENT NAME [at=PLACE] [rdonly] [fails=ERROR]", "attaches it")               \
  X(shmdt, "PROCESS PLACE [fails=ERROR]", "detaches what begins there")                           \
  X(shmctl, "PROCESS SEGMENT {rmid|lock|unlock} [fails=ERROR]", "removes it, or locks it in RAM") \
  X(swapon, "DEVICE [priority=INTEGER] [fails=ERROR]", "adds a swap area")                        \
  X(swapoff, "DEVICE [fails=ERROR]", "brings all its pages back and removes it")

#define SPW_VERBS_BLOCK(X)                                                                      \
  X(bread, "DEVICE NUMBER [count=NUMBER] [expect=DATA] [fails=ERROR]",                          \
    "reads blocks of a disk through its buffer cache")                                          \
  X(bdirty, "DEVICE NUMBER DATA [count=NUMBER] [fails=ERROR]",                                  \
    "fills blocks of a disk and marks them dirty")                                              \
  X(bforget, "DEVICE NUMBER [count=NUMBER] [fails=ERROR]", "what is in the blocks is nobody's") \
  X(sync, "DEVICE [fails=ERROR]", "writes all dirty blocks of a disk")

#define SPW_VERBS_NAMES(X)                                                                       \
  X(make, "TEXT {file|directory} [size=SIZE] [first=NUMBER] [count=NUMBER] [fails=ERROR]",       \
    "makes files of zeros, or directories; a % in the path counts")                              \
  X(lookup, "TEXT [first=NUMBER] [count=NUMBER] [fails=ERROR]", "walks a path, as stat(2) does") \
  X(chmod, "TEXT NUMBER [first=NUMBER] [count=NUMBER] [fails=ERROR]",                            \
    "changes permissions: the inode becomes dirty")                                              \
  X(rename, "TEXT TEXT [first=NUMBER] [count=NUMBER] [fails=ERROR]", "old path, new path")       \
  X(remove, "TEXT [directory] [first=NUMBER] [count=NUMBER] [fails=ERROR]", "unlink or rmdir")   \
  X(prune, "{dentries|inodes} NUMBER", "prune_dcache or prune_icache with this goal")

#define SPW_VERBS_SLAB(X)                                                                        \
  X(kcache, "TEXT SIZE [ctor] [fails=ERROR]", "kmem_cache_create: a cache of such objects")      \
  X(kalloc, "TEXT [count=NUMBER] [fails=ERROR]", "kmem_cache_alloc: so many objects of it")      \
  X(kfree, "TEXT [count=NUMBER] [oldest]", "kmem_cache_free: the newest objects, or the oldest") \
  X(kshrink, "TEXT", "kmem_cache_shrink: all empty slabs of the cache go")                       \
  X(kdestroy, "TEXT [fails=ERROR]", "kmem_cache_destroy")                                        \
  X(kreap, "", "kmem_cache_reap: most empty slabs of the idlest cache go")                       \
  X(vmalloc, "TEXT SIZE [fails=ERROR]", "contiguous addresses from single frames")               \
  X(vfree, "TEXT [fails=ERROR]", "gives them back; they are unmapped later, in a batch")         \
  X(vwrite, "TEXT SIZE DATA [bytes=SIZE] [signal=SIGNAL]",                                       \
    "stores at an offset of the area: a text, or a byte as often as bytes says")                 \
  X(vread, "TEXT SIZE [below] [bytes=SIZE] [expect=DATA] [signal=SIGNAL]",                       \
    "loads from an offset of the area, or from so many bytes below it")                          \
  X(vpurge, "", "ends all areas that were given back")

#define SPW_VERBS_MACHINE(X)                                                                     \
  X(run, "{kswapd|kreclaimd|flush|reaper} [times=NUMBER] [idle]",                                \
    "so many steps of a daemon; idle: until it has nothing to do")                               \
  X(daemons, "", "every daemon that was woken runs until it sleeps; all I/O ends")               \
  X(age, "[times=NUMBER]", "so many rounds of ageing, as a busy kernel makes them now and then") \
  X(advance, "TIME", "lets time pass; I/O that falls due ends")                                  \
  X(pass, "TIME", "lets time pass; I/O ends, and every daemon runs when its time has come")      \
  X(bdflush, "[nfract=NUMBER] [nfract_sync=NUMBER] [ndirty=NUMBER] [interval=TIME]",             \
    "sets vm.bdflush")                                                                           \
  X(complete, "[times=NUMBER]", "ends so many I/O requests, or all")                             \
  X(fail,                                                                                        \
    "DEVICE {read_io|write_io|write_torn|write_lost|read_flip|write_no_space} [nth=NUMBER] "     \
    "[times=NUMBER] [block=NUMBER]",                                                             \
    "from the nth transfer on, so many fail; or every transfer of one block")                    \
  X(repair, "DEVICE", "calls all failures of the device off")

#define SPW_VERBS_CONTROL(X)                                                     \
  X(step, "TEXT", "{ ... } groups operations into one step of the walk-through") \
  X(repeat, "NUMBER", "{ ... } does operations several times")                   \
  X(expect, "", "states what must hold now: expect QUANTITY = VALUE")            \
  X(note, "NAME", "keeps the present value of a quantity as @NAME")

#define SPW_VERBS(X)   \
  SPW_VERBS_STAGE(X)   \
  SPW_VERBS_PROCESS(X) \
  SPW_VERBS_ACCESS(X)  \
  SPW_VERBS_CALL(X)    \
  SPW_VERBS_BLOCK(X)   \
  SPW_VERBS_NAMES(X)   \
  SPW_VERBS_SLAB(X)    \
  SPW_VERBS_MACHINE(X) \
  SPW_VERBS_CONTROL(X)

// X(identifier, signature, what it is). The last part of a signature says what it answers.
#define SPW_QUANTITIES(X)                                                                      \
  X(rss, "PROCESS", "present pages, the zero page not counted")                                \
  X(total_vm, "PROCESS", "pages of all areas")                                                 \
  X(locked_vm, "PROCESS", "pages of locked areas")                                             \
  X(stack_vm, "PROCESS", "pages of the stack")                                                 \
  X(swap_entries, "PROCESS", "entries that name a swap slot")                                  \
  X(page_tables, "PROCESS", "frames that hold its page tables")                                \
  X(min_flt, "PROCESS", "minor faults since its birth")                                        \
  X(maj_flt, "PROCESS", "major faults since its birth")                                        \
  X(badness, "PROCESS", "what the OOM killer thinks of it")                                    \
  X(areas, "PROCESS", "number of areas")                                                       \
  X(alive, "PROCESS ?", "whether it lives")                                                    \
  X(exit_code, "PROCESS", "how it ended: its code, or 128 and the signal's number")            \
  X(signal, "PROCESS :SIGNAL", "the last signal that a fault raised")                          \
  X(signal_address, "PROCESS", "the address in it")                                            \
  X(address, "PROCESS PLACE", "where a place is")                                              \
  X(area,                                                                                      \
    "PROCESS PLACE "                                                                           \
    "{pages|start|end|rss|swap|anonymous|pgoff|pss_x256|referenced|shared_clean|shared_dirty|" \
    "private_clean|private_dirty|shared?|locked?|growsdown?|prot:PROT|name:TEXT}",             \
    "of the area around a place")                                                              \
  X(entry, "PROCESS PLACE :KIND", "kind of the page table entry")                              \
  X(pte, "PROCESS PLACE {writable?|accessed?|dirty?|executable?}", "bits of the entry")        \
  X(pfn, "PROCESS PLACE", "number of the frame behind a page, in the swap cache too")          \
  X(slot_of, "PROCESS PLACE", "number of the page's swap slot")                                \
  X(frame,                                                                                     \
    "TARGET {count|mapcount|age|index|dirty?|referenced?|writeback?|uptodate?|error?|cached?|" \
    "queue:QUEUE|state:STATE|owner:OWNER}",                                                    \
    "of the frame behind a page, or of frame @NOTE")                                           \
  X(slot, "TARGET {count|used?|cached?}", "of the slot of a page, or of slot @NOTE")           \
  X(same_frame, "PROCESS PLACE PROCESS PLACE ?", "whether two pages are in one frame")         \
  X(queue, "QUEUE", "length of an ageing list")                                                \
  X(free, "", "free frames")                                                                   \
  X(meminfo,                                                                                   \
    "{mem_total|mem_free|buffers|cached|swap_cached|active|inactive|inactive_dirty|"           \
    "inactive_clean|unevictable|dirty|writeback|anon_pages|mapped|shmem|slab|page_tables|"     \
    "kernel_stack|vmalloc_used|swap_total|swap_free|commit_limit|committed_as|reserved|"       \
    "swap_meta|pool|inactive_target|watermark_min|watermark_low|watermark_high}",              \
    "a line of /proc/meminfo, in pages")                                                       \
  X(counter, "COUNTER", "how often, since this step began")                                    \
  X(total, "COUNTER", "how often, since boot")                                                 \
  X(reads, "DEVICE", "read requests since this step began")                                    \
  X(writes, "DEVICE", "write requests since this step began")                                  \
  X(pages_read, "DEVICE", "pages in them")                                                     \
  X(pages_written, "DEVICE", "pages in them")                                                  \
  X(swap_used, "DEVICE", "slots in use")                                                       \
  X(swap_on, "DEVICE ?", "whether the area is switched on")                                    \
  X(file_info, "TEXT {size|cached|dirty|writeback|opens}", "of a file; size in bytes")         \
  X(disk_info, "DEVICE {buffers|dirty|pages|writeback|hits|misses|released}",                  \
    "of a disk's buffer cache; pages that it has cached, released by reclaim")                 \
  X(block, "DEVICE NUMBER {cached?|dirty?}", "of a block of a disk")                           \
  X(slab, "TEXT {active|total|slabs|empty|per_slab|pages|frames|grown|reaped}",                \
    "of an object cache, as slabinfo has it; pages of one slab, frames of all")                \
  X(dentries, "{total|unused|negative|hits|misses|pruned}",                                    \
    "of the dentry cache; hits, misses and pruned since boot")                                 \
  X(inodes, "{total|unused|dirty|hits|misses|pruned|written}",                                 \
    "of the inode cache; the last four since boot")                                            \
  X(vmalloc_info, "{areas|pages|lazy_areas|lazy_pages}",                                       \
    "areas of vmalloc and their pages; lazy: given back and still mapped")                     \
  X(free_blocks, "NUMBER", "free blocks of 2 to this power frames, as buddyinfo has them")     \
  X(segment, "SEGMENT {size|attached|resident|swapped|removed?|locked?|exists?}",              \
    "of a shared memory segment; size in bytes")                                               \
  X(wanted, "{kswapd|kreclaimd|flush|reaper} ?", "whether a daemon would run now")             \
  X(called, "TEXT", "how often a function of this name was entered, since this step began")    \
  X(processes, "", "processes that live")
