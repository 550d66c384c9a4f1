#include "sim_side.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "machine_sim/sim_machine.h"
#include "observe/events.h"
#include "system/kernel.h"
#include "wire.h"

namespace spillway::diff {
namespace {

constexpr u32 kFileDevice = 0;
constexpr u32 kSwapDevice = 1;
constexpr u64 kFileDevicePages = 512;
// More than all operations of a case can fill: want of memory is not what is compared.
constexpr u64 kSwapPages = 4096;
// Machines of this size never lack memory for what a case does.
constexpr u64 kFramesPlenty = 4096;
// A call that waited so often waits for ever.
constexpr u32 kRoundsMax = 20'000;
// A number that no open file has.
constexpr i32 kNotOpen = 31;

SimConfig machine_config(const Setup& setup) {
  SimConfig config;
  config.seed = setup.seed;
  config.frames = PageCount(setup.frames);
  config.cpus = 2;
  config.block_pages = {kFileDevicePages, kSwapPages};
  return config;
}

// As a Linux of today is set up, where that can be seen.
KernelConfig kernel_config(const Setup& setup) {
  KernelConfig config;
  constexpr Policy kPolicies[] = {Policy::three_queue, Policy::linux24, Policy::two_list};
  config.mm.policy = kPolicies[setup.policy % std::size(kPolicies)];
  config.mm.slots_max = kSwapPages;
  config.mm.page_cluster = 3;
  config.mm.fresh_around_max = 0;  // mincore: one page for each first touch
  config.layout = Layout::modern;
  config.strict_stack = false;
  config.stack_guard_gap = PageCount(256);
  config.overcommit = Overcommit::always;
  config.file_device = kFileDevice;
  return config;
}

class SimSide final : public Side {
 public:
  SimSide(const Setup& setup, u64 pages_at_start) : sim_(machine_config(setup)) {
    const Result<Kernel*> kernel =
        Kernel::boot(sim_.machine(), kernel_config(setup), counters_, ring_, nullptr);
    if (!kernel.ok()) throw SideFailed{std::string("model: boot: ") + name_of(kernel.error())};
    kernel_ = kernel.value();
    must(until_done([&] { return kernel_->mkswap(kSwapDevice); }), "mkswap");
    must(until_done([&] { return kernel_->swapon(kSwapDevice, -1); }), "swapon");
    make_files(setup);
    start(setup, pages_at_start);
  }

  Answer perform(const Op& op) override {
    const Pid pid = pids_[op.process];
    kernel_->run_on(0, pid);
    sim_.cpus().set_current(0);
    const Answer a = dispatch(op, pid);
    run_daemons();
    return a;
  }

  std::vector<AreaLine> areas(u32 process) override;
  u64 object_of_file(u32 file) override;
  std::vector<u8> file_bytes(u32 file) override;
  u64 file_size(u32 file) override;

  std::string audit() override {
    const AuditReport report = kernel_->audit();
    if (!report.ok) {
      return std::string(report.what) + " " + std::to_string(report.left) + " " +
             std::to_string(report.right);
    }
    return sim_.mmu().mirror_difference();
  }
  std::string end() override;
  const char* name() const override { return "model"; }
  bool refuses_whole() const override { return true; }
  u64 swapped_out() const override { return counters_[Counter::pswpout]; }
  bool short_of_memory() const override { return sim_.config().frames.v < kFramesPlenty; }

 private:
  template <class R>
  void must(const R& result, const char* what) {
    if (!result.ok()) {
      throw SideFailed{std::string("model: ") + what + ": " + name_of(result.error())};
    }
  }

  void make_files(const Setup& setup);
  void start(const Setup& setup, u64 pages_at_start);
  Answer dispatch(const Op& op, Pid pid);
  Answer access(const Op& op, Pid pid);
  Answer fetch(const Op& op, Pid pid);
  Answer transfer(const Op& op, Pid pid);
  Answer resident(const Op& op, Pid pid);
  template <class Try>
  bool finish_access(Pid pid, Answer* a, Try try_access);

  // Something happens, so that what waited can go on.
  void let_time_pass() {
    if (++rounds_ > kRoundsMax) throw SideFailed{"model: a call waits for ever"};
    if (sim_.complete_one()) return;
    run_daemons();
    sim_.advance(1'000'000);
  }
  void run_daemons() {
    for (const Daemon d : {Daemon::kswapd, Daemon::kreclaimd, Daemon::flush, Daemon::reaper}) {
      if (kernel_->wanted(d)) kernel_->step(d);
    }
  }
  template <class Call>
  auto until_done(Call call) -> decltype(call()) {
    rounds_ = 0;
    for (;;) {
      const auto r = call();
      if (r.ok() || r.error() != Error::wait) return r;
      let_time_pass();
    }
  }
  template <class Call>
  Answer answer(Call call) {
    const Result<u64> r = until_done(call);
    Answer a;
    if (r.ok()) {
      a.value = r.value();
    } else {
      a.error = errno_of(r.error());
    }
    return a;
  }
  i32 fd_of(i32 file) const {
    if (file == kNoFile) return -1;
    return file < static_cast<i32>(kOpenFiles) ? fds_[static_cast<u32>(file)] : kNotOpen;
  }

  SimMachine sim_;
  Counters counters_{};
  EventRing ring_;
  Kernel* kernel_ = nullptr;
  std::array<Pid, kProcessesMax> pids_{};
  std::array<i32, kOpenFiles> fds_{};
  u32 rounds_ = 0;
};

constexpr const char* kPaths[] = {"/a", "/b", "/c"};
// Each file, open to read and to write.
constexpr OpenFile kWhole[] = {OpenFile::a_rw, OpenFile::b_rw, OpenFile::c_rw};

void SimSide::make_files(const Setup& setup) {
  for (u32 f = 0; f < kFilesCount; ++f) {
    must(kernel_->create_file(kPaths[f], setup.file_size(f), kFileBytesMax), kPaths[f]);
  }
  const Result<Pid> pid = kernel_->spawn("diff");
  must(pid, "spawn");
  pids_[0] = pid.value();
  kernel_->run_on(0, pids_[0]);
  kernel_->set_catches(pids_[0], true);
  constexpr u32 kModes[kOpenFiles] = {kOpenReadWrite, kOpenRead, kOpenWrite, kOpenReadWrite,
                                      kOpenReadWrite};
  for (u32 i = 0; i < kOpenFiles; ++i) {
    const char* path = kPaths[file_of(static_cast<OpenFile>(i))];
    const Result<u64> fd = until_done([&] { return kernel_->open(pids_[0], path, kModes[i]); });
    must(fd, "open");
    fds_[i] = static_cast<i32>(fd.value());
  }
  for (const OpenFile open : kWhole) {
    const u32 f = file_of(open);
    std::vector<u8> bytes(setup.file_size(f));
    make_bytes(1000 + f, bytes.size(), bytes.data());
    u64 done = 0;
    must(until_done([&] {
           return kernel_->pwrite(pids_[0], fds_[static_cast<u32>(open)], bytes.data(),
                                  bytes.size(), 0, &done);
         }),
         "pwrite");
  }
}

void SimSide::start(const Setup& setup, u64 pages_at_start) {
  const Pid pid = pids_[0];
  const Result<u64> brk = until_done([&] { return kernel_->brk(pid, 0); });
  must(brk, "brk");
  // One page of heap lies below what is compared, as the C library's does on the other side: it is
  // a neighbour for what grows down.
  heap_start_ = ((brk.value() + kPageMask) & ~kPageMask) + kPageSize;
  must(until_done([&] { return kernel_->brk(pid, heap_start_); }), "brk");

  // As much as the other side's program, libraries and stack.
  TaskView task{};
  kernel_->tasks(&task, 1);
  if (task.total_vm > pages_at_start) throw SideFailed{"model: an empty process is too large"};
  const u64 ballast = (pages_at_start - task.total_vm) * kPageSize;
  if (ballast != 0) {
    must(until_done([&] {
           return kernel_->mmap(pid, kChannelAddress, ballast, 0,
                                kMapPrivate | kMapAnonymous | kMapFixed | kMapNoreserve, -1, 0);
         }),
         "mmap");
  }
  const auto bytes = [](u64 pages) { return pages == kNoLimit ? kUnlimited : pages * kPageSize; };
  kernel_->set_limit(pid, Limit::stack, bytes(setup.stack));
  kernel_->set_limit(pid, Limit::memlock, bytes(setup.memlock));
  kernel_->set_limit(pid, Limit::data, kUnlimited);
  kernel_->set_limit(pid, Limit::as,
                     setup.as == kNoLimit ? kUnlimited : bytes(pages_at_start + setup.as));
}

Answer SimSide::dispatch(const Op& op, Pid pid) {
  const u64 at = address_of(op.at);
  Kernel& k = *kernel_;
  switch (op.kind) {
    case OpKind::mmap:
      return answer(
          [&] { return k.mmap(pid, at, op.len, op.prot, op.flags, fd_of(op.file), op.offset); });
    case OpKind::munmap: return answer([&] { return k.munmap(pid, at, op.len); });
    case OpKind::mprotect: return answer([&] { return k.mprotect(pid, at, op.len, op.prot); });
    case OpKind::mremap:
      return answer(
          [&] { return k.mremap(pid, at, op.len, op.newlen, op.flags, address_of(op.to)); });
    case OpKind::madvise: return answer([&] { return k.madvise(pid, at, op.len, op.advice); });
    case OpKind::mlock: return answer([&] { return k.mlock(pid, at, op.len); });
    case OpKind::munlock: return answer([&] { return k.munlock(pid, at, op.len); });
    case OpKind::mlockall: return answer([&] { return k.mlockall(pid, op.flags); });
    case OpKind::munlockall: return answer([&] { return k.munlockall(pid); });
    case OpKind::msync: return answer([&] { return k.msync(pid, at, op.len, op.flags); });
    case OpKind::mincore: return resident(op, pid);
    case OpKind::brk: return answer([&] { return k.brk(pid, at); });
    case OpKind::load:
    case OpKind::store: return access(op, pid);
    case OpKind::fetch: return fetch(op, pid);
    case OpKind::pread:
    case OpKind::pwrite: return transfer(op, pid);
    case OpKind::ftruncate:
      return answer([&] { return k.ftruncate(pid, fd_of(op.file), op.offset); });
    case OpKind::fork: {
      const Result<Pid> child = until_done([&] { return k.fork(pid); });
      Answer a;
      if (child.ok()) {
        pids_[op.number] = child.value();
      } else {
        a.error = errno_of(child.error());
      }
      return a;
    }
    case OpKind::exit: {
      k.exit(pid, 0);
      const Result<u64> code = k.reap(pid);
      Answer a;
      a.error = code.ok() ? 0 : errno_of(code.error());
      return a;
    }
    default: return {};
  }
}

// Repeats an access until it has an outcome other than wait; false if that is a signal.
template <class Try>
bool SimSide::finish_access(Pid pid, Answer* a, Try try_access) {
  rounds_ = 0;
  for (u32 attempt = 0;; ++attempt) {
    const SimAccess r = try_access(attempt);
    if (r.outcome == FaultOutcome::done) return true;
    if (r.outcome == FaultOutcome::wait) {
      let_time_pass();
      continue;
    }
    const SignalInfo signal = kernel_->raise(pid, r.outcome, r.va);
    a->signo = static_cast<int>(signal.signo);
    a->code = signal.code;
    a->fault_address = signal.addr.v;
    return false;
  }
}

// Page by page, so that what was done before a fault is known.
Answer SimSide::access(const Op& op, Pid pid) {
  Answer a;
  const SpaceId space = kernel_->space_of(pid);
  const bool load = op.kind == OpKind::load;
  const u64 bytes = std::min(op.len, kAccessMax);
  std::vector<u8> buffer(bytes);
  if (!load) make_bytes(op.seed, bytes, buffer.data());
  while (a.value < bytes) {
    const VirtAddr va(address_of(op.at) + a.value);
    const u64 chunk = std::min(bytes - a.value, kPageSize - (va.v & kPageMask));
    u8* const data = buffer.data() + a.value;
    const bool done = finish_access(pid, &a, [&](u32 attempt) {
      return load ? sim_.load(*kernel_, space, va, data, chunk, attempt)
                  : sim_.store(*kernel_, space, va, data, chunk, attempt);
    });
    if (!done) break;
    a.value += chunk;
  }
  if (load) a.bytes.assign(buffer.begin(), buffer.begin() + static_cast<i64>(a.value));
  return a;
}

Answer SimSide::fetch(const Op& op, Pid pid) {
  Op read = op;
  read.kind = OpKind::load;
  read.len = 1;
  Answer a = access(read, pid);
  if (a.signo != 0 || a.bytes[0] != kReturnInstruction) return a;
  const SpaceId space = kernel_->space_of(pid);
  u8 code = 0;
  finish_access(pid, &a, [&](u32 attempt) {
    return sim_.fetch(*kernel_, space, VirtAddr(address_of(op.at)), &code, 1, attempt);
  });
  return a;
}

Answer SimSide::transfer(const Op& op, Pid pid) {
  const bool read = op.kind == OpKind::pread;
  std::vector<u8> buffer(std::min(op.len, kAccessMax));
  if (!read) make_bytes(op.seed, buffer.size(), buffer.data());
  u64 done = 0;
  Answer a = answer([&] {
    return read
               ? kernel_->pread(pid, fd_of(op.file), buffer.data(), buffer.size(), op.offset, &done)
               : kernel_->pwrite(pid, fd_of(op.file), buffer.data(), buffer.size(), op.offset,
                                 &done);
  });
  if (read && a.error == 0) {
    a.bytes.assign(buffer.begin(), buffer.begin() + static_cast<i64>(a.value));
  }
  return a;
}

Answer SimSide::resident(const Op& op, Pid pid) {
  std::vector<u8> vec((op.len + kPageMask) / kPageSize);
  Answer a = answer([&] { return kernel_->mincore(pid, address_of(op.at), op.len, vec.data()); });
  if (a.error == 0) a.bytes = std::move(vec);
  return a;
}

std::vector<AreaLine> SimSide::areas(u32 process) {
  constexpr u32 kAreasMax = 512;
  static std::array<AreaView, kAreasMax> views;
  const u32 count = kernel_->areas(pids_[process], views.data(), kAreasMax);
  std::vector<AreaLine> lines;
  for (u32 i = 0; i < std::min(count, kAreasMax); ++i) {
    const AreaView& v = views[i];
    AreaLine a;
    a.start = addr_of(v.range.start).v;
    a.end = addr_of(v.range.end).v;
    a.prot = static_cast<u32>(v.prot);
    a.shared = v.shared;
    a.object = v.mapping;
    if (v.mapping != 0) a.page_offset = v.pgoff;
    a.locked = v.locked;
    a.growsdown = v.growsdown;
    a.noreserve = v.noreserve;
    add_line(a, &lines);
  }
  return lines;
}

u64 SimSide::object_of_file(u32 file) {
  std::array<FileView, 8> views;
  const u32 count = kernel_->files(views.data(), static_cast<u32>(views.size()));
  for (u32 i = 0; i < count; ++i) {
    const std::string name = views[i].name;
    if (name == kPaths[file] || name == kPaths[file] + 1) return views[i].mapping;
  }
  throw SideFailed{"model: a file is gone"};
}

u64 SimSide::file_size(u32 file) {
  const Result<u64> size = kernel_->file_size(pids_[0], fds_[static_cast<u32>(kWhole[file])]);
  must(size, "file_size");
  return size.value();
}

std::vector<u8> SimSide::file_bytes(u32 file) {
  const i32 fd = fds_[static_cast<u32>(kWhole[file])];
  std::vector<u8> bytes(file_size(file));
  u64 done = 0;
  must(until_done(
           [&] { return kernel_->pread(pids_[0], fd, bytes.data(), bytes.size(), 0, &done); }),
       "pread");
  return bytes;
}

std::string SimSide::end() {
  for (const Pid pid : pids_) {
    if (!pid.valid() || !kernel_->alive(pid)) continue;
    kernel_->exit(pid, 0);
    must(kernel_->reap(pid), "reap");
  }
  while (sim_.complete_one()) {
  }
  run_daemons();
  const MemInfo m = kernel_->meminfo();
  if (m.anon_pages + m.shmem + m.page_tables + m.mapped != 0) {
    return "  pages: anonymous " + std::to_string(m.anon_pages) + ", shared " +
           std::to_string(m.shmem) + ", mapped " + std::to_string(m.mapped) + ", tables " +
           std::to_string(m.page_tables);
  }
  if (m.swap_free != m.swap_total) {
    return "  slots: " + std::to_string(m.swap_total - m.swap_free);
  }
  return audit();
}

}  // namespace

std::unique_ptr<Side> make_sim_side(const Setup& setup, u64 pages_at_start) {
  return std::make_unique<SimSide>(setup, pages_at_start);
}

}  // namespace spillway::diff
