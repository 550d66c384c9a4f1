// The only truth about frames is each process's own frames_held: what is free is the total less
// their sum. So there is nothing to repair after a process dies between two instructions; an
// entry counts exactly while its pid is positive, and reaping is one compare-and-swap of the pid
// to its negative. Two engines that grow at the same time may both see the sum overshoot; each
// steps back by what is too much, so they may get less than there was, never more.
#include "machine_host/ledger.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <cerrno>

#include "machine_host/process_id.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

// Reports keep the entries of ended engines until this many were used; after that, entries are
// reused first, so that sums over a long build with thousands of compilers stay short.
constexpr u32 kKeepEnded = 64;
// Times that ledger_join looks for an entry; others may race for the same ones.
constexpr u32 kJoinAttempts = 4;

u32 entries_in_use(const Ledger& ledger) {
  const u32 n = ledger.engines_started.load(std::memory_order_acquire);
  return n < kLedgerProcesses ? n : kLedgerProcesses;
}

bool counts(const LedgerProcess& p) { return p.pid.load(std::memory_order_acquire) > 0; }

u64 sum_held(const Ledger& ledger) {
  u64 sum = 0;
  for (u32 i = 0; i < entries_in_use(ledger); ++i) {
    const LedgerProcess& p = ledger.process[i];
    if (counts(p)) sum += p.frames_held.load(std::memory_order_acquire);
  }
  return sum;
}

// Keeps the published number near the truth; only reports read it.
void publish_free(Ledger& ledger) {
  const u64 held = sum_held(ledger);
  ledger.frames_free.store(held < ledger.frames_total ? ledger.frames_total - held : 0,
                           std::memory_order_relaxed);
}

bool others_want(const Ledger& ledger, const LedgerProcess& self) {
  for (u32 i = 0; i < entries_in_use(ledger); ++i) {
    const LedgerProcess& p = ledger.process[i];
    if (&p != &self && counts(p) && p.frames_wanted.load(std::memory_order_relaxed) > 0) {
      return true;
    }
  }
  return false;
}

// The fair share: an equal part of the budget for every live engine, where what some do not need
// is divided among the others (max-min fairness).
u64 fair_share(const Ledger& ledger) {
  const u32 n = entries_in_use(ledger);
  u64 level = 0;
  // Every round either finds more engines that need less than the level, or ends; a few rounds
  // are near enough, because the level only grows.
  constexpr int kRounds = 8;
  for (int round = 0; round < kRounds; ++round) {
    u64 modest = 0;  // demand of the engines that need no more than the level
    u64 eager = 0;   // number of the others
    for (u32 i = 0; i < n; ++i) {
      const LedgerProcess& p = ledger.process[i];
      if (!counts(p)) continue;
      const u64 demand = p.frames_held.load(std::memory_order_relaxed) +
                         p.frames_wanted.load(std::memory_order_relaxed);
      if (demand <= level) {
        modest += demand;
      } else {
        ++eager;
      }
    }
    if (eager == 0) return ledger.frames_total;
    const u64 rest = modest < ledger.frames_total ? ledger.frames_total - modest : 0;
    if (rest / eager <= level) break;
    level = rest / eager;
  }
  return level;
}

void add_counters(Counters& to, const Counters& from) {
  for (u32 i = 0; i < kCounterCount; ++i) {
    __atomic_fetch_add(&to.value[i], from.value[i], __ATOMIC_RELAXED);
  }
}

// Ends the entry of `pid`; true for the one caller that did it.
bool end_entry(LedgerProcess& p, i32 pid) {
  if (pid <= 0 || !p.pid.compare_exchange_strong(pid, -pid, std::memory_order_acq_rel)) {
    return false;
  }
  p.frames_wanted.store(0, std::memory_order_relaxed);
  p.state.store(static_cast<u32>(EngineState::ended), std::memory_order_release);
  return true;
}

LedgerProcess* take_entry(Ledger& ledger, u32 first, u32 last, EngineState wanted) {
  for (u32 i = first; i < last; ++i) {
    LedgerProcess& p = ledger.process[i];
    u32 state = static_cast<u32>(wanted);
    if (p.state.load(std::memory_order_acquire) != state) continue;
    if (p.state.compare_exchange_strong(state, static_cast<u32>(EngineState::starting),
                                        std::memory_order_acq_rel)) {
      return &p;
    }
  }
  return nullptr;
}

void reset_entry(Ledger& ledger, LedgerProcess& p, bool reused) {
  if (reused) add_counters(ledger.ended, p.counters);
  p.pid.store(0, std::memory_order_relaxed);
  p.stop_reason.store(0, std::memory_order_relaxed);
  p.start_time.store(0, std::memory_order_relaxed);
  p.frames_held.store(0, std::memory_order_relaxed);
  p.frames_wanted.store(0, std::memory_order_relaxed);
  p.snapshot = Snapshot{};
  p.counters = Counters{};
}

void* map_fd(int fd, u64 bytes) {
  const i64 at = sys::mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
  if (sys::failed(at)) {
    errno = static_cast<int>(-at);
    return nullptr;
  }
  return reinterpret_cast<void*>(at);
}

}  // namespace

Ledger* ledger_create(u64 frames_total, u64 pool_frames_max, u64 swap_max_bytes, int* fd) {
  const i64 made = sys::call(SYS_memfd_create, "spillway-ledger", 0);
  if (sys::failed(made)) {
    errno = static_cast<int>(-made);
    return nullptr;
  }
  *fd = static_cast<int>(made);
  const i64 sized = sys::call(SYS_ftruncate, *fd, sizeof(Ledger));
  void* at = sys::failed(sized) ? nullptr : map_fd(*fd, sizeof(Ledger));
  if (at == nullptr) {
    if (sys::failed(sized)) errno = static_cast<int>(-sized);
    sys::close(*fd);
    return nullptr;
  }
  Ledger* ledger = static_cast<Ledger*>(at);
  ledger->bytes = sizeof(Ledger);
  ledger->frames_total = frames_total;
  ledger->pool_frames_max = pool_frames_max;
  ledger->swap_max_bytes = swap_max_bytes;
  ledger->frames_free.store(frames_total, std::memory_order_relaxed);
  ledger->magic = Ledger::kMagic;
  return ledger;
}

Ledger* ledger_attach(int fd) {
  // The size is checked before anything is touched: a foreign, shorter file would raise SIGBUS.
  constexpr int kSeekEnd = 2;
  if (sys::call(SYS_lseek, fd, 0, kSeekEnd) != static_cast<i64>(sizeof(Ledger))) {
    errno = EINVAL;
    return nullptr;
  }
  Ledger* ledger = static_cast<Ledger*>(map_fd(fd, sizeof(Ledger)));
  if (ledger == nullptr) return nullptr;
  if (ledger->magic != Ledger::kMagic || ledger->bytes != sizeof(Ledger)) {
    sys::munmap(reinterpret_cast<u64>(ledger), sizeof(Ledger));
    errno = EINVAL;
    return nullptr;
  }
  return ledger;
}

LedgerProcess* ledger_join(Ledger& ledger, i32 pid, const char* command) {
  // A program that replaced itself by exec keeps pid and start time: its old engine is gone.
  for (u32 i = 0; pid > 0 && i < entries_in_use(ledger); ++i) end_entry(ledger.process[i], pid);

  ledger.engines_started.fetch_add(1, std::memory_order_acq_rel);
  LedgerProcess* p = nullptr;
  bool reused = false;
  for (u32 attempt = 0; p == nullptr && attempt < kJoinAttempts; ++attempt) {
    p = take_entry(ledger, 0, kKeepEnded, EngineState::unused);
    if (p != nullptr) break;
    p = take_entry(ledger, 0, kLedgerProcesses, EngineState::ended);
    reused = p != nullptr;
    if (p != nullptr) break;
    p = take_entry(ledger, kKeepEnded, kLedgerProcesses, EngineState::unused);
    if (p == nullptr) ledger_reap_dead(ledger);
  }
  if (p == nullptr) return nullptr;
  reset_entry(ledger, *p, reused);
  u32 n = 0;
  for (; command != nullptr && command[n] != '\0' && n + 1 < sizeof(p->command); ++n) {
    p->command[n] = command[n];
  }
  p->command[n] = '\0';
  if (pid > 0) ledger_confirm(ledger, *p, pid, 0);
  return p;
}

void ledger_confirm(Ledger& ledger, LedgerProcess& self, i32 pid, u64 frames_held) {
  self.start_time.store(process_start_time(pid), std::memory_order_relaxed);
  self.frames_held.store(frames_held, std::memory_order_relaxed);
  // From this store on the entry counts, with all that it holds.
  self.pid.store(pid, std::memory_order_release);
  self.state.store(static_cast<u32>(EngineState::live), std::memory_order_release);
  if (frames_held == 0 || sum_held(ledger) <= ledger.frames_total) return;
  publish_free(ledger);
  ledger.need_sequence.fetch_add(1, std::memory_order_acq_rel);
  sys::futex_wake(&ledger.need_sequence, ~u32{0} >> 1, sys::Sharing::processes);
}

void ledger_abandon(LedgerProcess& unconfirmed) {
  unconfirmed.state.store(static_cast<u32>(EngineState::ended), std::memory_order_release);
}

void ledger_leave(Ledger& ledger, LedgerProcess& self) {
  end_entry(self, self.pid.load(std::memory_order_acquire));
  publish_free(ledger);
}

u64 ledger_acquire(Ledger& ledger, LedgerProcess& self, u64 want) {
  const u64 wanted_before = self.frames_wanted.exchange(want, std::memory_order_acq_rel);
  u64 n = want;
  if (others_want(ledger, self)) {
    const u64 share = fair_share(ledger);
    const u64 held = self.frames_held.load(std::memory_order_relaxed);
    const u64 room = share > held ? share - held : 0;
    if (n > room) n = room;
  }
  u64 held = sum_held(ledger);
  u64 free = held < ledger.frames_total ? ledger.frames_total - held : 0;
  if (n > free) n = free;
  if (n > 0) {
    self.frames_held.fetch_add(n, std::memory_order_acq_rel);
    held = sum_held(ledger);
    if (held > ledger.frames_total) {
      const u64 excess = held - ledger.frames_total;
      const u64 back = excess < n ? excess : n;
      self.frames_held.fetch_sub(back, std::memory_order_acq_rel);
      n -= back;
    }
  }
  self.frames_wanted.store(want - n, std::memory_order_release);
  publish_free(ledger);
  if (n < want) {
    ledger.need_sequence.fetch_add(1, std::memory_order_acq_rel);
    // Only the first unmet wish rouses sleepers; while it stays unmet they look by themselves.
    if (wanted_before == 0) {
      sys::futex_wake(&ledger.need_sequence, ~u32{0} >> 1, sys::Sharing::processes);
    }
  }
  return n;
}

void ledger_release(Ledger& ledger, LedgerProcess& self, u64 count) {
  const u64 held = self.frames_held.load(std::memory_order_relaxed);
  self.frames_held.store(held > count ? held - count : 0, std::memory_order_release);
  self.frames_wanted.store(0, std::memory_order_release);
  publish_free(ledger);
}

u64 ledger_wanted_back(const Ledger& ledger, const LedgerProcess& self) {
  u64 need = 0;
  u64 sum = 0;
  for (u32 i = 0; i < entries_in_use(ledger); ++i) {
    const LedgerProcess& p = ledger.process[i];
    if (!counts(p)) continue;
    sum += p.frames_held.load(std::memory_order_relaxed);
    if (&p != &self) need += p.frames_wanted.load(std::memory_order_relaxed);
  }
  // A forked child begins with a copy of its parent's frames, so together they may hold more
  // than there is: that is a need too.
  u64 overdrawn = 0;
  if (sum > ledger.frames_total) {
    overdrawn = sum - ledger.frames_total;
  } else if (need > 0) {
    const u64 free = ledger.frames_total - sum;
    need = need > free ? need - free : 0;
  }
  need += overdrawn;
  if (need == 0) return 0;
  const u64 held = self.frames_held.load(std::memory_order_relaxed);
  const u64 share = fair_share(ledger);
  const u64 above = held > share ? held - share : 0;
  return above < need ? above : need;
}

u64 ledger_reap_dead(Ledger& ledger) {
  u64 back = 0;
  for (u32 i = 0; i < entries_in_use(ledger); ++i) {
    LedgerProcess& p = ledger.process[i];
    const i32 pid = p.pid.load(std::memory_order_acquire);
    if (pid <= 0) continue;
    const u64 start = p.start_time.load(std::memory_order_relaxed);
    const u64 held = p.frames_held.load(std::memory_order_relaxed);
    if (!process_is_dead(pid, start)) continue;
    if (end_entry(p, pid)) back += held;
  }
  if (back > 0) publish_free(ledger);
  return back;
}

Counters ledger_total(const Ledger& ledger) {
  Counters total = ledger.ended;
  const u32 most = static_cast<u32>(Counter::frames_online_max);
  for (const LedgerProcess& p : ledger.process) {
    if (p.state.load(std::memory_order_acquire) == static_cast<u32>(EngineState::unused)) continue;
    for (u32 i = 0; i < kCounterCount; ++i) {
      // A maximum does not add up; the largest engine stands for the tree.
      if (i == most) {
        total.raise_to(Counter::frames_online_max, p.counters.value[i]);
      } else {
        total.value[i] += p.counters.value[i];
      }
    }
  }
  return total;
}

}  // namespace spillway
