#include "host_side.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace spillway::diff {
namespace {

// An actor that has not answered by then hangs; it never computes for long.
constexpr int kReplySeconds = 10;

u64 data_address(u32 process) {
  return kChannelAddress + process * sizeof(Channel) + offsetof(Channel, data);
}

bool is_error(i64 result) { return result < 0 && result > -4096; }

Answer answer_of(i64 result) {
  Answer a;
  if (is_error(result)) {
    a.error = static_cast<int>(-result);
  } else {
    a.value = static_cast<u64>(result);
  }
  return a;
}

// Places `fd` at number `wanted`, without close-on-exec.
bool place_fd(int fd, int wanted) { return dup2(fd, wanted) == wanted; }

}  // namespace

HostSide::HostSide(const Setup& setup, const std::string& actor_path) {
  make_files(setup);
  start(actor_path);
  pin(setup);
}

HostSide::~HostSide() {
  for (u32 p = 0; p < kProcessesMax; ++p) {
    if (pidfds_[p] < 0) continue;
    syscall(SYS_pidfd_send_signal, pidfds_[p], SIGKILL, nullptr, 0);
    close(pidfds_[p]);
    // The others are children of process 0, and nobody's when it is gone.
    if (p == 0) waitpid(pids_[p], nullptr, 0);
  }
  if (wire_ != nullptr) munmap(wire_, sizeof(Wire));
  if (channel_fd_ >= 0) close(channel_fd_);
  for (const int fd : opens_) {
    if (fd >= 0) close(fd);
  }
}

void HostSide::broken(const std::string& text) const { throw SideBroken{"kernel: " + text}; }

void HostSide::must(i64 result, const char* what) {
  if (is_error(result)) broken(std::string(what) + ": " + errno_name(static_cast<int>(-result)));
}

void HostSide::make_files(const Setup& setup) {
  constexpr const char* kNames[] = {"spw_diff_a", "spw_diff_b", "spw_diff_c"};
  for (u32 f = 0; f < kFilesCount; ++f) {
    const int fd = memfd_create(kNames[f], MFD_CLOEXEC);
    if (fd < 0) broken(std::string("memfd_create: ") + std::strerror(errno));
    files_[f].fd = fd;
    struct stat status {};
    fstat(fd, &status);
    files_[f].inode = status.st_ino;
    std::vector<u8> bytes(setup.file_size(f));
    make_bytes(1000 + f, bytes.size(), bytes.data());
    if (pwrite(fd, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
      broken(std::string("pwrite: ") + std::strerror(errno));
    }
  }
  const auto reopen = [&](u32 file, int flags) {
    const std::string path = "/proc/self/fd/" + std::to_string(files_[file].fd);
    const int fd = open(path.c_str(), flags | O_CLOEXEC);
    if (fd < 0) broken(path + ": " + std::strerror(errno));
    return fd;
  };
  opens_ = {files_[0].fd, reopen(0, O_RDONLY), reopen(0, O_WRONLY), files_[1].fd, files_[2].fd};
}

void HostSide::start(const std::string& actor_path) {
  channel_fd_ = memfd_create("spw_diff_wire", MFD_CLOEXEC);
  if (channel_fd_ < 0 || ftruncate(channel_fd_, sizeof(Wire)) != 0) broken("no shared memory");
  void* memory = mmap(nullptr, sizeof(Wire), PROT_READ | PROT_WRITE, MAP_SHARED, channel_fd_, 0);
  if (memory == MAP_FAILED) broken("no shared memory");
  wire_ = static_cast<Wire*>(memory);

  const pid_t pid = vfork();
  if (pid < 0) broken(std::string("vfork: ") + std::strerror(errno));
  if (pid == 0) {
    bool ok = place_fd(channel_fd_, kChannelFd);
    for (u32 i = 0; i < kOpenFiles; ++i) {
      ok = ok && place_fd(opens_[i], kFirstFileFd + static_cast<int>(i));
    }
    // Refused in some containers. Then addresses differ from run to run, not what is compared.
    personality(ADDR_NO_RANDOMIZE);
    const char* argv[] = {actor_path.c_str(), nullptr};
    const char* envp[] = {nullptr};
    if (ok) execve(argv[0], const_cast<char**>(argv), const_cast<char**>(envp));
    _exit(127);
  }
  pids_[0] = pid;
  pidfds_[0] = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (pidfds_[0] < 0) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    broken(std::string("pidfd_open: ") + std::strerror(errno));
  }
  wait_for_reply(0);
}

void HostSide::set_limit(int resource, u64 bytes) {
  rlimit limit{};
  limit.rlim_cur = limit.rlim_max = bytes;
  std::memcpy(wire_->channels[0].data, &limit, sizeof limit);
  must(call(0, SYS_prlimit64, 0, static_cast<u64>(resource), data_address(0), 0),
       "prlimit (the hard limit of locked memory must be 8 MiB, the others unlimited)");
}

// Everything that could make two runs differ, or let root do more than others.
void HostSide::pin(const Setup& setup) {
  must(call(0, SYS_prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0), "prctl(PR_SET_THP_DISABLE)");
  const u64 brk_now = static_cast<u64>(call(0, SYS_brk, 0));
  heap_start_ = (brk_now + kPageMask) & ~kPageMask;
  if (static_cast<u64>(call(0, SYS_brk, heap_start_)) != heap_start_) broken("brk cannot move");

  const auto bytes = [](u64 pages) {
    return pages == kNoLimit ? RLIM_INFINITY : pages * kPageSize;
  };
  read_proc(0, "statm");
  pages_at_start_ = std::strtoull(proc_text_.c_str(), nullptr, 10);
  set_limit(RLIMIT_STACK, bytes(setup.stack));
  set_limit(RLIMIT_MEMLOCK, bytes(setup.memlock));
  set_limit(RLIMIT_DATA, RLIM_INFINITY);
  set_limit(RLIMIT_AS, setup.as == kNoLimit ? RLIM_INFINITY : bytes(pages_at_start_ + setup.as));

  // CAP_IPC_LOCK would lift the limit on locked memory, CAP_SYS_RESOURCE all of them.
  struct {
    __user_cap_header_struct header;
    __user_cap_data_struct data[2];
  } none{};
  none.header.version = _LINUX_CAPABILITY_VERSION_3;
  std::memcpy(wire_->channels[0].data, &none, sizeof none);
  const u64 at = data_address(0);
  must(call(0, SYS_capset, at, at + sizeof none.header), "capset");
}

void HostSide::wait_for_reply(u32 process) {
  Channel& c = wire_->channels[process];
  constexpr timespec kSlice{0, 100'000'000};
  for (int waited = 0; waited < kReplySeconds * 10;) {
    const u32 turn = c.turn.load(std::memory_order_acquire);
    if (turn == static_cast<u32>(Turn::reply)) return;
    const long r = syscall(SYS_futex, &c.turn, FUTEX_WAIT, turn, &kSlice, nullptr, 0);
    if (r == 0 || errno != ETIMEDOUT) continue;
    ++waited;
    pollfd ended{pidfds_[process], POLLIN, 0};
    if (pidfds_[process] >= 0 && poll(&ended, 1, 0) == 1) {
      broken("process " + std::to_string(process) + " died");
    }
  }
  broken("process " + std::to_string(process) + " does not answer");
}

void HostSide::request(u32 process) {
  Channel& c = wire_->channels[process];
  c.turn.store(static_cast<u32>(Turn::request), std::memory_order_release);
  syscall(SYS_futex, &c.turn, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

i64 HostSide::call(u32 process, i64 number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
  Channel& channel = wire_->channels[process];
  channel.kind = RequestKind::system_call;
  channel.number = number;
  const u64 args[] = {a, b, c, d, e, f};
  std::copy(std::begin(args), std::end(args), channel.args);
  request(process);
  wait_for_reply(process);
  return channel.value;
}

Answer HostSide::perform(const Op& op) {
  switch (op.kind) {
    case OpKind::load:
    case OpKind::store: return access(op);
    case OpKind::fetch: return fetch(op);
    case OpKind::pread:
    case OpKind::pwrite: return transfer(op);
    case OpKind::fork: return fork_to(op);
    case OpKind::exit: return end(op.process);
    default: return system_call(op);
  }
}

Answer HostSide::system_call(const Op& op) {
  const u32 p = op.process;
  const u64 at = address_of(op.at);
  const u64 fd = op.file == kNoFile ? ~u64{0} : static_cast<u64>(kFirstFileFd + op.file);
  switch (op.kind) {
    case OpKind::mmap:
      return answer_of(call(p, SYS_mmap, at, op.len, op.prot, op.flags, fd, op.offset));
    case OpKind::munmap: return answer_of(call(p, SYS_munmap, at, op.len));
    case OpKind::mprotect: return answer_of(call(p, SYS_mprotect, at, op.len, op.prot));
    case OpKind::mremap:
      return answer_of(call(p, SYS_mremap, at, op.len, op.newlen, op.flags, address_of(op.to)));
    case OpKind::madvise:
      return answer_of(call(p, SYS_madvise, at, op.len, static_cast<u64>(op.advice)));
    case OpKind::mlock: return answer_of(call(p, SYS_mlock, at, op.len));
    case OpKind::munlock: return answer_of(call(p, SYS_munlock, at, op.len));
    case OpKind::mlockall: return answer_of(call(p, SYS_mlockall, op.flags));
    case OpKind::munlockall: return answer_of(call(p, SYS_munlockall));
    case OpKind::msync: return answer_of(call(p, SYS_msync, at, op.len, op.flags));
    case OpKind::mincore: {
      Answer a = answer_of(call(p, SYS_mincore, at, op.len, data_address(p)));
      const u8* vec = wire_->channels[p].data;
      if (a.error == 0) a.bytes.assign(vec, vec + (op.len + kPageMask) / kPageSize);
      // The other bits are reserved.
      for (u8& byte : a.bytes) byte &= 1;
      return a;
    }
    case OpKind::brk: return answer_of(call(p, SYS_brk, at));
    case OpKind::ftruncate: return answer_of(call(p, SYS_ftruncate, fd, op.offset));
    default: return {};
  }
}

Answer HostSide::access(const Op& op) {
  Channel& c = wire_->channels[op.process];
  const bool load = op.kind == OpKind::load;
  c.kind = load ? RequestKind::copy_out : RequestKind::copy_in;
  c.args[0] = address_of(op.at);
  c.args[1] = std::min(op.len, kAccessMax);
  if (!load) make_bytes(op.seed, c.args[1], c.data);
  request(op.process);
  wait_for_reply(op.process);
  Answer a;
  a.value = static_cast<u64>(c.value);
  a.signo = c.signo;
  a.code = c.code;
  a.fault_address = c.fault_address;
  if (load) a.bytes.assign(c.data, c.data + c.value);
  return a;
}

// Only what is known to return may be called, so the byte is read first.
Answer HostSide::fetch(const Op& op) {
  Op read = op;
  read.kind = OpKind::load;
  read.len = 1;
  Answer a = access(read);
  if (a.signo != 0 || a.bytes[0] != kReturnInstruction) return a;
  Channel& c = wire_->channels[op.process];
  c.kind = RequestKind::call;
  c.args[0] = address_of(op.at);
  request(op.process);
  wait_for_reply(op.process);
  a.signo = c.signo;
  a.code = c.code;
  a.fault_address = c.fault_address;
  return a;
}

Answer HostSide::transfer(const Op& op) {
  const u32 p = op.process;
  const u64 fd = op.file == kNoFile ? ~u64{0} : static_cast<u64>(kFirstFileFd + op.file);
  const bool read = op.kind == OpKind::pread;
  const u64 bytes = std::min(op.len, kAccessMax);
  u8* const data = wire_->channels[p].data;
  if (!read) make_bytes(op.seed, bytes, data);
  Answer a =
      answer_of(call(p, read ? SYS_pread64 : SYS_pwrite64, fd, data_address(p), bytes, op.offset));
  if (read && a.error == 0) a.bytes.assign(data, data + a.value);
  return a;
}

Answer HostSide::fork_to(const Op& op) {
  Channel& parent = wire_->channels[op.process];
  wire_->channels[op.number].turn.store(static_cast<u32>(Turn::idle), std::memory_order_release);
  parent.kind = RequestKind::fork;
  parent.args[0] = op.number;
  request(op.process);
  wait_for_reply(op.process);
  const Answer a = answer_of(parent.value);
  if (a.error != 0) return a;
  pids_[op.number] = static_cast<pid_t>(a.value);
  pidfds_[op.number] = static_cast<int>(syscall(SYS_pidfd_open, pids_[op.number], 0));
  wait_for_reply(op.number);
  return {};
}

Answer HostSide::end(u32 process) {
  wire_->channels[process].kind = RequestKind::exit;
  request(process);
  pollfd ended{pidfds_[process], POLLIN, 0};
  if (poll(&ended, 1, kReplySeconds * 1000) != 1) broken("a process does not exit");
  close(pidfds_[process]);
  pidfds_[process] = -1;
  pids_[process] = 0;
  return {};
}

void HostSide::read_proc(u32 process, const char* file) {
  const std::string path = "/proc/" + std::to_string(pids_[process]) + "/" + file;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) broken(path + ": " + std::strerror(errno));
  proc_text_.clear();
  char part[16384];
  for (ssize_t n = 0; (n = read(fd, part, sizeof part)) > 0;) {
    proc_text_.append(part, static_cast<std::size_t>(n));
  }
  close(fd);
}

std::vector<AreaLine> HostSide::areas(u32 process) {
  read_proc(process, "smaps");
  std::vector<AreaLine> lines;
  AreaLine detailed;
  for (std::size_t at = 0; at < proc_text_.size();) {
    const std::size_t newline = proc_text_.find('\n', at);
    const char* line = proc_text_.c_str() + at;
    at = newline + 1;
    unsigned long long start = 0;
    unsigned long long end = 0;
    unsigned long long offset = 0;
    unsigned long long inode = 0;
    char rights[5] = "";
    if (std::sscanf(line, "%llx-%llx %4s %llx %*s %llu", &start, &end, rights, &offset, &inode) ==
        5) {
      AreaLine a;
      a.start = start;
      a.end = end;
      a.prot = (rights[0] == 'r' ? u32{PROT_READ} : 0U) |
               (rights[1] == 'w' ? u32{PROT_WRITE} : 0U) | (rights[2] == 'x' ? u32{PROT_EXEC} : 0U);
      a.shared = rights[3] == 's';
      a.object = inode;
      if (inode != 0) a.page_offset = offset / kPageSize;
      detailed = a;
    } else if (std::strncmp(line, "VmFlags:", 8) == 0) {
      const std::string flags(line, newline - static_cast<std::size_t>(line - proc_text_.c_str()));
      detailed.locked = flags.find(" lo") != std::string::npos;
      detailed.growsdown = flags.find(" gd") != std::string::npos;
      detailed.noreserve = flags.find(" nr") != std::string::npos;
      add_line(detailed, &lines);  // the last line of its area
    }
  }
  return lines;
}

u64 HostSide::file_size(u32 file) {
  struct stat status {};
  fstat(files_[file].fd, &status);
  return static_cast<u64>(status.st_size);
}

std::vector<u8> HostSide::file_bytes(u32 file) {
  std::vector<u8> bytes(file_size(file));
  const ssize_t n = pread(files_[file].fd, bytes.data(), bytes.size(), 0);
  if (n != static_cast<ssize_t>(bytes.size())) broken("cannot read a file back");
  return bytes;
}

std::string host_objection() {
#if !defined(__x86_64__)
  return "the test is written for x86-64";
#else
  std::FILE* f = std::fopen("/proc/sys/vm/overcommit_memory", "r");
  if (f == nullptr) return "/proc is not mounted";
  const int mode = std::fgetc(f);
  std::fclose(f);
  if (mode == '2') return "vm.overcommit_memory is 2, so that mmap may fail at any time";
  return {};
#endif
}

}  // namespace spillway::diff
