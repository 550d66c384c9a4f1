// exec (MECHANISMS 4.5 and 13.2): the new image is built beside the old one and takes its place
// when nothing can fail any more, so an error leaves the old image as it was.
//
// Argument pages are frames of their own that are filled from the top downward and handed over to
// the stack without a copy. The page in which a segment's file contents end and its zeros begin is
// prepared the same way.
#include "system/elf_image.h"
#include "system/exec_strings.h"
#include "system/kernel_impl.h"

namespace spillway {
namespace {

constexpr u32 kArgPagesMax = 32;       // MAX_ARG_PAGES: 128 KiB
constexpr u64 kDynBase = 0x0804'8000;  // where relocatable programs go, classic layout
constexpr u64 kDynBaseModern = 0x5555'5555'4000;
constexpr u32 kTailsMax = ElfImage::kSegmentsMax;
// An image needs a read for its headers and one for each tail, and each may have to wait for a
// frame first. With so little memory that one read pushes out what the other has brought, the call
// would go on for ever: it ends here, with no_memory. Pages of arguments in swap are not counted,
// as long as each try copies more of them than all before.
constexpr u32 kExecWaitsMax = 16 * (1 + kTailsMax);

// The frames that exec prepares. Whatever is not handed over goes back at the end.
class Prepared {
 public:
  explicit Prepared(SystemImpl& sys) : sys_(sys) {}
  ~Prepared() {
    for (u32 i = 0; i < kArgPagesMax; ++i) give_back(args[i]);
    for (u32 i = 0; i < kTailsMax; ++i) give_back(tails[i]);
  }
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;

  Status take(Pfn* slot) {
    AllocFlags flags = kAllocUserZero;
    SPW_TRY_ASSIGN(pfn, sys_.allocator.alloc(0, flags));
    *slot = pfn;
    return kOk;
  }

  u64 args_taken() const {
    u64 taken = 0;
    for (const Pfn pfn : args) taken += pfn.valid() ? 1 : 0;
    return taken;
  }

  Pfn args[kArgPagesMax];  // args[kArgPagesMax - 1] is the highest page of the stack
  Pfn tails[kTailsMax];    // by segment

 private:
  void give_back(Pfn pfn) {
    if (pfn.valid()) sys_.allocator.free(pfn, 0);
  }
  SystemImpl& sys_;
};

// Writes the new stack from the top downward into the argument pages.
class ArgumentWriter {
 public:
  ArgumentWriter(SystemImpl& sys, Prepared& pages, u64 top) : sys_(sys), pages_(pages), top_(top) {
    at_ = top;
  }
  u64 at() const { return at_; }
  void align(u64 to) { at_ &= ~(to - 1); }

  // Bytes left of MAX_ARG_PAGES.
  u64 room() const { return at_ - (top_ - u64{kArgPagesMax} * kPageSize); }

  // `fill(from, out, n)` writes bytes [from, from+n) of what is pushed. too_big: beyond
  // MAX_ARG_PAGES; no_memory or wait: no frame; else what `fill` says.
  template <class Fill>
  Status push(u64 bytes, Fill fill) {
    if (bytes > room()) return Error::too_big;
    at_ -= bytes;
    for (u64 done = 0; done < bytes;) {
      const u64 address = at_ + done;
      const u32 page = kArgPagesMax - 1 - static_cast<u32>((top_ - 1 - address) >> kPageShift);
      if (!pages_.args[page].valid()) SPW_TRY(pages_.take(&pages_.args[page]));
      const u64 offset = address & kPageMask;
      const u64 left = kPageSize - offset;
      const u64 n = bytes - done < left ? bytes - done : left;
      SPW_TRY(fill(done, sys_.machine.frames.bytes(pages_.args[page]) + offset, n));
      done += n;
    }
    return kOk;
  }
  Status push_bytes(const void* data, u64 bytes) {
    return push(bytes, [data](u64 from, u8* out, u64 n) {
      __builtin_memcpy(out, static_cast<const u8*>(data) + from, n);
      return Status(kOk);
    });
  }
  Status push_word(u64 value) { return push_bytes(&value, sizeof(value)); }

 private:
  SystemImpl& sys_;
  Prepared& pages_;
  u64 top_;
  u64 at_;
};

// Of one list, the last string first, so that they lie in order; where each lies goes to
// `addresses`.
Status push_strings(ArgumentWriter& out, ExecStrings& strings, ExecList list, u32 count,
                    u64* addresses) {
  for (u32 i = count; i > 0; --i) {
    SPW_TRY_ASSIGN(bytes, strings.length(list, i - 1, out.room()));
    SPW_TRY(out.push(
        bytes, [&](u64 from, u8* to, u64 n) { return strings.copy(list, i - 1, from, to, n); }));
    addresses[i - 1] = out.at();
  }
  return kOk;
}

// Strings first, then the tables that name them, as the ABI wants it: argc, argv, 0, envp, 0, end
// of the auxiliary vector. `addresses` has room for argc + envc.
Status write_arguments(ArgumentWriter& out, const char* path, ExecStrings& strings, u32 argc,
                       u32 envc, u64* addresses) {
  SPW_TRY(out.push_bytes(path, __builtin_strlen(path) + 1));
  SPW_TRY(push_strings(out, strings, ExecList::environment, envc, addresses + argc));
  SPW_TRY(push_strings(out, strings, ExecList::arguments, argc, addresses));
  out.align(16);
  // argc must be 16-byte aligned: an odd number of words below gets one more.
  if ((argc + envc + 5) % 2 != 0) SPW_TRY(out.push_word(0));
  SPW_TRY(out.push_word(0));  // AT_NULL, its value
  SPW_TRY(out.push_word(0));  // AT_NULL
  SPW_TRY(out.push_word(0));
  for (u32 i = envc; i > 0; --i) SPW_TRY(out.push_word(addresses[argc + i - 1]));
  SPW_TRY(out.push_word(0));
  for (u32 i = argc; i > 0; --i) SPW_TRY(out.push_word(addresses[i - 1]));
  return out.push_word(argc);
}

// The last page of a segment's file contents when zeros follow in it.
bool has_tail(const ElfSegment& s) {
  return s.mem_bytes > s.file_bytes && s.file_bytes > 0 &&
         ((s.addr + s.file_bytes) & kPageMask) != 0;
}

}  // namespace

// One exec call at work.
class Exec {
 public:
  Exec(KernelImpl& kernel, Task& task, Dentry& dentry)
      : kernel_(kernel),
        sys_(kernel.sys),
        task_(task),
        dentry_(dentry),
        inode_(*dentry.inode),
        pages_(kernel.sys) {}

  // `copied`: the bytes of strings that lie in argument pages, also when it fails.
  Result<u64> run(const char* path, ExecStrings& strings, u64* copied);

 private:
  Status read(u64 offset, u8* out, u64 bytes);
  Status parse();
  Status prepare_tails();
  Status build(AddressSpace& space, u64 sp);
  Status map_segment(AddressSpace& space, u32 index);
  Status hand_over(AddressSpace& space, Vpn vpn, Pfn* pfn);

  KernelImpl& kernel_;
  SystemImpl& sys_;
  Task& task_;
  Dentry& dentry_;
  Inode& inode_;
  Prepared pages_;
  ElfImage image_;
  u64 bias_ = 0;
};

// Reads through the page cache. wait: the whole exec is called again, and finds the page cached.
Status Exec::read(u64 offset, u8* out, u64 bytes) {
  FileReadahead readahead;
  u64 done = 0;
  const Result<u64> got = sys_.vfs.read(inode_, readahead, offset, out, bytes, &done);
  if (!got.ok()) return got.error();
  return got.value() == bytes ? kOk : Status(Error::no_exec);
}

Status Exec::parse() {
  const u64 size = inode_.mapping.size_bytes;
  const u64 bytes = size < kPageSize ? size : kPageSize;
  if (bytes == 0) return Error::no_exec;
  u8 head[kPageSize];
  SPW_TRY(read(0, head, bytes));
  SPW_TRY_ASSIGN(image, ElfImage::parse(head, bytes, size, kernel_.task_top() / 2));
  image_ = image;
  if (image_.relocatable) {
    bias_ = kernel_.config.layout == Layout::classic ? kDynBase : kDynBaseModern;
  }
  return kOk;
}

Status Exec::prepare_tails() {
  for (u32 i = 0; i < image_.count; ++i) {
    const ElfSegment& s = image_.segments[i];
    if (!has_tail(s)) continue;
    SPW_TRY(pages_.take(&pages_.tails[i]));
    const u64 end = s.offset + s.file_bytes;
    const u64 start = end & ~kPageMask;
    const u64 from = start > s.offset ? start : s.offset;
    SPW_TRY(
        read(from, sys_.machine.frames.bytes(pages_.tails[i]) + (from & kPageMask), end - from));
  }
  return kOk;
}

// The frame becomes an ordinary, dirty, writable page of the area at `vpn`.
Status Exec::hand_over(AddressSpace& space, Vpn vpn, Pfn* pfn) {
  const Result<Pte*> leaf = space.table().ensure(vpn, kAllocReclaim);
  if (!leaf.ok()) return leaf.error();
  Area* area = space.find(vpn);
  SPW_ASSERT(area != nullptr);
  sys_.fault.install_page(space, *area, vpn, *pfn);
  *pfn = kNoPfn;
  return kOk;
}

Status Exec::map_segment(AddressSpace& space, u32 index) {
  const ElfSegment& s = image_.segments[index];
  const u64 start = s.addr + bias_;
  const Vpn first = VirtAddr(start).vpn();
  const Vpn file_end = first + pages_for((start & kPageMask) + s.file_bytes).v;
  const Vpn mem_end = first + pages_for((start & kPageMask) + s.mem_bytes).v;
  MapParams params;
  params.fixed = params.noreplace = true;
  params.prot = s.prot;
  if (s.file_bytes > 0) {
    params.range = {first, file_end};
    params.mapping = &inode_.mapping;
    params.ops = &sys_.file_areas;
    params.file = &dentry_;
    params.pgoff = s.offset >> kPageShift;
    params.executable = true;
    SPW_TRY_ASSIGN(mapped, space.map(params));
    (void)mapped;
    if (pages_.tails[index].valid()) {
      SPW_TRY(hand_over(space, file_end - 1, &pages_.tails[index]));
    }
  }
  if (mem_end <= file_end) return kOk;
  MapParams bss;
  bss.fixed = bss.noreplace = true;
  bss.prot = s.prot;
  bss.range = {s.file_bytes > 0 ? file_end : first, mem_end};
  SPW_TRY_ASSIGN(mapped, space.map(bss));
  (void)mapped;
  return kOk;
}

Status Exec::build(AddressSpace& space, u64 sp) {
  const u64 top = kernel_.task_top();
  SPW_TRY(kernel_.map_stack(space, pages_for(top - (sp & ~kPageMask))));
  for (u32 i = 0; i < image_.count; ++i) SPW_TRY(map_segment(space, i));
  const WalkScope walk(sys_.observer.walk, "setup_arg_pages", "stack pointer {a:x}", sp);
  sys_.observer.step("{a} pages become the stack's as they are, without a copy",
                     pages_.args_taken());
  const Vpn first = VirtAddr(top).vpn() - kArgPagesMax;
  for (u32 i = 0; i < kArgPagesMax; ++i) {
    if (pages_.args[i].valid()) SPW_TRY(hand_over(space, first + i, &pages_.args[i]));
  }
  const ElfSegment& last = image_.segments[image_.count - 1];
  space.set_brk_start(Vpn(pages_for(last.addr + bias_ + last.mem_bytes).v), last.file_bytes);
  return kOk;
}

Result<u64> Exec::run(const char* path, ExecStrings& strings, u64* copied) {
  SPW_TRY(parse());
  // What is read from the file comes before the arguments: their frames may push it out again.
  SPW_TRY(prepare_tails());
  SPW_TRY_ASSIGN(argc, strings.count(ExecList::arguments));
  SPW_TRY_ASSIGN(envc, strings.count(ExecList::environment));
  u64 addresses[2 * ExecStrings::kMax];
  ArgumentWriter writer(sys_, pages_, kernel_.task_top());
  {
    const WalkScope walk(sys_.observer.walk, "copy_strings",
                         "{a} arguments, {b} in the environment", argc, envc);
    const Status written = write_arguments(writer, path, strings, argc, envc, addresses);
    *copied = kernel_.task_top() - writer.at();
    if (!written.ok()) {
      sys_.observer.step("{a} pages were filled; all go back", pages_.args_taken());
      return written.error();
    }
    sys_.observer.step("{a} pages hold them", pages_.args_taken());
  }
  SPW_TRY_ASSIGN(made, kernel_.new_space());
  AddressSpace& space = sys_.spaces.at(made);
  space.limits() = kernel_.space(task_).limits();
  const Status built = build(space, writer.at());
  if (!built.ok()) {
    sys_.spaces.destroy(made);
    return built.error();
  }
  // The point of no return.
  kernel_.end_other_threads(task_);
  kernel_.drop_space(task_);
  task_.space = made;
  task_.sp = VirtAddr(writer.at());
  task_.catches = false;
  task_.pending = PendingCall{};
  MmInfo& info = kernel_.mm_info(made);
  info.start_stack = task_.sp;
  info.start_code = VirtAddr(image_.segments[0].addr + bias_);
  sys_.observer.step("the new image takes the old one's place, entry {a:x}, stack pointer {b:x}",
                     image_.entry + bias_, writer.at());
  return image_.entry + bias_;
}

Result<u64> KernelImpl::run_image(Task& task, const char* path, ExecStrings& strings, u64* copied) {
  SPW_TRY_ASSIGN(dentry, open_path(path, kOpenRead));
  Result<u64> run = Error::text_busy;
  if (!dentry->inode->is_regular()) {
    run = Error::access;
  } else if (dentry->inode->writers <= 0) {
    Exec exec(*this, task, *dentry);
    run = exec.run(path, strings, copied);
  }
  sys.vfs.put(*dentry);
  return run;
}

Result<u64> KernelImpl::execve(Task& task, const char* path, ExecStrings& strings) {
  const WalkScope walk(sys.observer.walk, "do_execve", "pid {a}", task.pid);
  u64 copied = 0;
  const Result<u64> run = run_image(task, path, strings, &copied);
  if (!run.ok() && run.error() == Error::wait) {
    if (copied > task.exec_copied) {
      task.exec_copied = copied;
      task.exec_waits = 0;
    }
    if (++task.exec_waits < kExecWaitsMax) return Error::wait;
  }
  task.exec_waits = 0;
  task.exec_copied = 0;
  if (!run.ok()) return run.error() == Error::wait ? Error::no_memory : run.error();
  u32 i = 0;
  for (; i + 1 < sizeof(task.name) && path[i] != 0; ++i) task.name[i] = path[i];
  task.name[i] = 0;
  return run.value();
}

Result<u64> Kernel::exec(Pid pid, const char* path, const char* const* argv,
                         const char* const* envp) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  HostStrings strings(argv, envp);
  return impl_.execve(*task, path, strings);
}

Result<u64> Kernel::execve(Pid pid, const char* path, VirtAddr argv, VirtAddr envp) {
  SPW_TRY_ASSIGN(task, impl_.live(pid));
  UserStrings strings(impl_.sys, impl_.space(*task), argv, envp);
  return impl_.execve(*task, path, strings);
}

}  // namespace spillway
