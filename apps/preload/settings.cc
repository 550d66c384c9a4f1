#include "preload/settings.h"

#include <fcntl.h>
#include <sys/statfs.h>

#include "base/parse_size.h"
#include "machine_host/syscalls.h"

namespace spillway {
namespace {

// The same numbers as the launcher's (apps/cli/budget.h), so that both ways to start agree.
constexpr u64 kRamBytesMin = u64{8} << 20;
constexpr u64 kDefaultRamPercent = 80;
constexpr u64 kDefaultSwapFactor = 8;
constexpr u64 kDefaultDiskDivisor = 2;
constexpr u64 kDefaultReserve = u64{1} << 40;
constexpr u64 kNoLimit = ~u64{0};

// The rest of `text` behind `prefix`, or null.
const char* after(const char* text, const char* prefix) {
  for (; *prefix != '\0'; ++prefix, ++text) {
    if (*text != *prefix) return nullptr;
  }
  return text;
}

bool is_word(const char* text, const char* word) {
  const char* rest = after(text, word);
  return rest != nullptr && *rest == '\0';
}

int number_or(const char* text, int otherwise) {
  if (text == nullptr || *text < '0' || *text > '9') return otherwise;
  int value = 0;
  for (; *text >= '0' && *text <= '9'; ++text) {
    if (value > 100'000'000) return otherwise;
    value = value * 10 + (*text - '0');
  }
  return *text == '\0' ? value : otherwise;
}

bool is_on(const char* text) {
  return text != nullptr && *text != '\0' && !(text[0] == '0' && text[1] == '\0');
}

// Copies of the values of SPILLWAY_OPTIONS, which are not terminated where they stand.
char g_options[1024];

struct Option {
  const char* name;
  const char* Settings::*field;
};
constexpr Option kOptions[] = {{"ram", &Settings::ram},
                               {"swap-ram", &Settings::swap_ram},
                               {"swap-dir", &Settings::swap_dir},
                               {"swap-max", &Settings::swap_max},
                               {"reserve", &Settings::reserve}};

bool read_options(const char* text, Settings& settings, Message& why) {
  u32 n = 0;
  for (; text[n] != '\0'; ++n) {
    if (n + 1 >= sizeof(g_options)) {
      why.text("SPILLWAY_OPTIONS is longer than 1000 characters; use one variable per option");
      return false;
    }
    g_options[n] = text[n] == ',' ? '\0' : text[n];
  }
  g_options[n] = '\0';
  for (u32 at = 0; at < n;) {
    char* item = g_options + at;
    while (g_options[at] != '\0') ++at;
    ++at;
    if (*item == '\0') continue;
    bool known = false;
    for (const Option& option : kOptions) {
      const char* rest = after(item, option.name);
      if (rest == nullptr || *rest != '=') continue;
      // A variable of its own goes before the collection.
      if (settings.*option.field == nullptr) settings.*option.field = rest + 1;
      known = true;
    }
    if (!known) {
      why.text("SPILLWAY_OPTIONS: unknown option '").text(item);
      why.text("'; known are ram, swap-ram, swap-dir, swap-max, reserve");
      return false;
    }
  }
  return true;
}

// Reads a small file; the text is empty when there is none.
template <u32 N>
const char* read_file(const char* path, char (&text)[N]) {
  text[0] = '\0';
  const i64 fd = sys::open(path, O_RDONLY | O_CLOEXEC);
  if (sys::failed(fd)) return text;
  const i64 got = sys::read(static_cast<int>(fd), text, N - 1);
  sys::close(static_cast<int>(fd));
  text[got > 0 ? got : 0] = '\0';
  return text;
}

u64 leading_number(const char* text) {
  while (*text == ' ' || *text == '\t') ++text;
  if (*text < '0' || *text > '9') return kNoLimit;
  u64 value = 0;
  for (; *text >= '0' && *text <= '9'; ++text) {
    if (value > kNoLimit / 16) return kNoLimit;
    value = value * 10 + static_cast<u64>(*text - '0');
  }
  return value;
}

u64 physical_bytes() {
  char text[256];
  for (const char* p = read_file("/proc/meminfo", text); *p != '\0'; ++p) {
    const char* value = after(p, "MemTotal:");
    if (value != nullptr) return leading_number(value) * 1024;
  }
  return kNoLimit;
}

// The limit of a control group and of all above it: `path` is cut from the end, folder by folder.
u64 group_limit(const char* root, const char* group, const char* file) {
  char path[512];
  u32 n = 0;
  for (const char* p = root; *p != '\0'; ++p) path[n++] = *p;
  const u32 root_length = n;
  for (const char* p = group; *p != '\0' && *p != '\n' && n < 400; ++p) path[n++] = *p;
  u64 least = kNoLimit;
  for (;;) {
    while (n > root_length && path[n - 1] == '/') --n;
    u32 at = n;
    path[at++] = '/';
    for (const char* p = file; *p != '\0'; ++p) path[at++] = *p;
    path[at] = '\0';
    char text[64];
    const u64 limit = leading_number(read_file(path, text));
    if (limit < least) least = limit;
    if (n <= root_length) return least;
    while (n > root_length && path[n - 1] != '/') --n;
  }
}

u64 usable_bytes() {
  u64 least = physical_bytes();
  char text[4096];
  const char* line = read_file("/proc/self/cgroup", text);
  while (*line != '\0') {
    // "0::/path" is version 2; "5:memory:/path" the memory controller of version 1.
    const char* group = after(line, "0::");
    u64 limit = kNoLimit;
    if (group != nullptr) limit = group_limit("/sys/fs/cgroup", group, "memory.max");
    const char* p = line;
    while (*p != '\0' && *p != '\n' && *p != ':') ++p;
    const char* v1 = *p == ':' ? after(p, ":memory:") : nullptr;
    if (v1 != nullptr) limit = group_limit("/sys/fs/cgroup/memory", v1, "memory.limit_in_bytes");
    if (limit < least) least = limit;
    while (*line != '\0' && *line != '\n') ++line;
    if (*line == '\n') ++line;
  }
  return least;
}

bool free_disk_bytes(const char* dir, u64& bytes, Message& why) {
  struct statfs info = {};
  const i64 result = sys::call(SYS_statfs, dir, &info);
  bytes = static_cast<u64>(info.f_bavail) * static_cast<u64>(info.f_bsize);
  if (result == 0) return true;
  why.text("cannot use the swap directory ").text(dir).text(": ").error(result);
  why.text("; choose another one with SPILLWAY_SWAP_DIR");
  return false;
}

bool size_of(const char* name, const char* text, u64 whole, u64& bytes, Message& why) {
  const Result<u64> parsed = parse_size(text, whole);
  if (parsed.ok()) {
    bytes = parsed.value();
    return true;
  }
  why.text(name).text(" '").text(text).text("' is not a size; write one like 512M, 2G or 50%");
  return false;
}

}  // namespace

bool read_settings(char** environment, Settings& settings, Message& why) {
  const char* options = nullptr;
  for (char** entry = environment; entry != nullptr && *entry != nullptr; ++entry) {
    const char* name = after(*entry, "SPILLWAY_");
    if (name == nullptr) continue;
    const char* value = nullptr;
    if ((value = after(name, "RAM=")) != nullptr) settings.ram = value;
    if ((value = after(name, "SWAP_RAM=")) != nullptr) settings.swap_ram = value;
    if ((value = after(name, "SWAP_DIR=")) != nullptr) settings.swap_dir = value;
    if ((value = after(name, "SWAP_MAX=")) != nullptr) settings.swap_max = value;
    if ((value = after(name, "RESERVE=")) != nullptr) settings.reserve = value;
    if ((value = after(name, "OPTIONS=")) != nullptr) options = value;
    if ((value = after(name, "LEDGER_FD=")) != nullptr) settings.ledger_fd = number_or(value, -1);
    if ((value = after(name, "UFFD_FD=")) != nullptr) settings.uffd_fd = number_or(value, -1);
    if ((value = after(name, "STATS=")) != nullptr) settings.stats = is_on(value);
    if ((value = after(name, "PARANOID=")) != nullptr) settings.paranoid = is_on(value);
    if ((value = after(name, "PAIR=")) != nullptr) settings.pair = is_on(value);
    if ((value = after(name, "IO=")) != nullptr && *value != '\0') {
      settings.io_threads = is_word(value, "threads");
      if (!settings.io_threads && !is_word(value, "uring")) {
        why.text("SPILLWAY_IO '").text(value).text("' is neither threads nor uring");
        return false;
      }
    }
    if ((value = after(name, "ALLOW_COPY=")) != nullptr) settings.allow_copy_backend = is_on(value);
  }
  const auto drop_empty = [](const char*& text) {
    if (text != nullptr && *text == '\0') text = nullptr;
  };
  for (const Option& option : kOptions) drop_empty(settings.*option.field);
  return options == nullptr || read_options(options, settings, why);
}

bool compute_own_budget(const Settings& settings, OwnBudget& budget, Message& why) {
  const u64 usable = usable_bytes();
  u64 swap_ram = 0;
  if (settings.swap_ram != nullptr &&
      !size_of("SPILLWAY_SWAP_RAM", settings.swap_ram, usable, swap_ram, why)) {
    return false;
  }
  u64 ram = usable / 100 * kDefaultRamPercent;
  ram = ram > swap_ram ? ram - swap_ram : 0;
  if (settings.ram != nullptr && after(settings.ram, "auto") == nullptr &&
      !size_of("SPILLWAY_RAM", settings.ram, usable, ram, why)) {
    return false;
  }
  if (ram < kRamBytesMin) {
    why.text("SPILLWAY_RAM of ").size(ram).text(" is less than the least of ").size(kRamBytesMin);
    return false;
  }
  budget.frames_total = (ram + swap_ram) >> kPageShift;
  budget.pool_frames_max =
      settings.swap_ram != nullptr ? swap_ram >> kPageShift : budget.frames_total / 2;
  u64 disk = 0;
  if (settings.swap_dir != nullptr && !free_disk_bytes(settings.swap_dir, disk, why)) return false;
  const u64 by_ram = ram * kDefaultSwapFactor;
  budget.swap_max_bytes = by_ram < disk / kDefaultDiskDivisor ? by_ram : disk / kDefaultDiskDivisor;
  if (settings.swap_max == nullptr) return true;
  return size_of("SPILLWAY_SWAP_MAX", settings.swap_max, disk, budget.swap_max_bytes, why);
}

bool reserve_bytes(const Settings& settings, u64& bytes, Message& why) {
  bytes = kDefaultReserve;
  if (settings.reserve == nullptr) return true;
  return size_of("SPILLWAY_RESERVE", settings.reserve, physical_bytes(), bytes, why);
}

}  // namespace spillway
