// Touches more memory than it may keep, in a chosen order, and verifies every value it reads.
//
//   access --mb N [--threads N] [--patterns LIST] [--ops N] [--seconds-max N] [--warmup N]
//          [--seed N]
//
// Fills N MB of pages (1 KB random, 3 KB zeros: about 4:1 for lz4), then runs each pattern of
// the comma-separated LIST: sequential, stride4, stride16, random, zipf. An operation is one
// page: half of them read and check two words of it, half write a new version. At the end every
// byte of every page is verified.
//
// Threads own equal, contiguous parts of the pages and share the operations. Prints one JSON
// object per pattern and a last one, {"pattern":"verify"}, with the pages found wrong; exit code
// 1 if there was any error. Counters are of the whole process, so an engine that works on threads
// of its own inside the process is charged for what it does.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kPageWords = kPageBytes / sizeof(std::uint64_t);
constexpr std::size_t kRandomWords = 1024 / sizeof(std::uint64_t);
constexpr double kZipfTheta = 0.99;
// Above this an access has not been served by the page table alone (a miss of all CPU caches and
// TLBs stays under a microsecond on anything that runs this).
constexpr std::uint64_t kSlowNs = 2000;

std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(mix(seed)) {}
  std::uint64_t next() { return mix(state_++); }
  // The multiply-shift reduction: no division on the measured path.
  std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
  }
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

 private:
  __extension__ using Wide = unsigned __int128;
  std::uint64_t state_;
};

// Ranks 0, 1, 2... with probability proportional to 1 / (rank + 1)^0.99; the method of Gray et
// al., "Quickly generating billion-record synthetic databases", as used by YCSB.
class Zipf {
 public:
  explicit Zipf(std::uint64_t count) : count_(static_cast<double>(count)) {
    for (std::uint64_t i = 1; i <= count; ++i) {
      zeta_ += 1.0 / std::pow(static_cast<double>(i), kZipfTheta);
    }
    const double zeta2 = 1.0 + std::pow(0.5, kZipfTheta);
    eta_ = (1.0 - std::pow(2.0 / count_, 1.0 - kZipfTheta)) / (1.0 - zeta2 / zeta_);
  }
  std::uint64_t rank(Random& random) const {
    const double u = random.unit();
    const double uz = u * zeta_;
    if (uz < 1.0) {
      return 0;
    }
    if (uz < 1.0 + std::pow(0.5, kZipfTheta)) {
      return 1;
    }
    const double rank = count_ * std::pow(eta_ * u - eta_ + 1.0, 1.0 / (1.0 - kZipfTheta));
    return std::min(static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(count_) - 1);
  }

 private:
  double count_;
  double zeta_ = 0.0;
  double eta_ = 0.0;
};

// Latencies in buckets of 1/16 of a power of two: 6 % exact, and no memory that grows.
class Histogram {
 public:
  void add(std::uint64_t ns) {
    ++buckets_[index_of(ns)];
    ++count_;
  }
  void add(const Histogram& other) {
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      buckets_[i] += other.buckets_[i];
    }
    count_ += other.count_;
  }
  std::uint64_t count_above(std::uint64_t ns) const {
    std::uint64_t above = 0;
    for (std::size_t i = index_of(ns) + 1; i < buckets_.size(); ++i) {
      above += buckets_[i];
    }
    return above;
  }
  // The smallest bucket bound that `share` of the values above `floor_ns` do not exceed.
  std::uint64_t quantile(double share, std::uint64_t floor_ns = 0) const {
    const std::uint64_t total = floor_ns == 0 ? count_ : count_above(floor_ns);
    const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(total)));
    std::uint64_t seen = 0;
    const std::size_t first = floor_ns == 0 ? 0 : index_of(floor_ns) + 1;
    for (std::size_t i = first; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen >= wanted && seen > 0) {
        return value_of(i);
      }
    }
    return 0;
  }

 private:
  static std::size_t index_of(std::uint64_t ns) {
    if (ns < 16) {
      return ns;
    }
    const auto power = static_cast<std::size_t>(std::bit_width(ns)) - 1;
    return (power - 3) * 16 + ((ns >> (power - 4)) & 15);
  }
  static std::uint64_t value_of(std::size_t index) {
    return index < 16 ? index : (16 + index % 16) << (index / 16 - 1);
  }
  std::array<std::uint64_t, 62 * 16> buckets_{};
  std::uint64_t count_ = 0;
};

std::uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// Words of a page: [0] its version, [1] a check of the version, [2..128) random, the rest zero.
struct Page {
  std::uint64_t words[kPageWords];
};

std::uint64_t check_of(std::uint64_t page, std::uint64_t version) {
  return mix(page * 0x9E3779B97F4A7C15u ^ version);
}

void set_version(Page& memory, std::uint64_t page, std::uint64_t version) {
  memory.words[0] = version;
  memory.words[1] = check_of(page, version);
}

struct Settings {
  std::size_t pages = 0;
  std::size_t threads = 1;
  std::uint64_t ops = 0;
  std::uint64_t warmup = 0;
  std::uint64_t time_max_ns = 0;
  std::uint64_t seed = 1;
};

struct Worker {
  const Settings* settings = nullptr;
  pthread_barrier_t* start = nullptr;
  std::string pattern;
  Page* memory = nullptr;
  std::uint64_t first = 0;  // this thread's pages: [first, first + count)
  std::uint64_t count = 0;
  std::uint64_t number = 0;
  Histogram latencies{};
  std::uint64_t ops = 0;
  std::uint64_t errors = 0;
};

// The order of pages, as offsets into the worker's part.
class Order {
 public:
  Order(const std::string& pattern, std::uint64_t count, std::uint64_t seed)
      : count_(count), random_(seed) {
    if (pattern == "zipf") {
      zipf_ = std::make_unique<Zipf>(count);
    } else if (pattern == "sequential") {
      stride_ = 1;
    } else if (pattern.starts_with("stride")) {
      stride_ = std::strtoull(pattern.c_str() + 6, nullptr, 10);
    }
  }
  std::uint64_t next() {
    if (zipf_ != nullptr) {
      // Ranks are scattered over the pages (a prime that does not divide the count permutes
      // them), or popular pages would be neighbours and any readahead would look clever.
      return (zipf_->rank(random_) * kScatter) % count_;
    }
    if (stride_ == 0) {
      return random_.below(count_);
    }
    const std::uint64_t result = at_;
    at_ += stride_;
    if (at_ >= count_) {
      phase_ = (phase_ + 1) % stride_;
      at_ = phase_;
    }
    return result;
  }

 private:
  static constexpr std::uint64_t kScatter = 1'000'000'007;
  std::uint64_t count_;
  Random random_;
  std::unique_ptr<Zipf> zipf_;
  std::uint64_t stride_ = 0;  // 0: random
  std::uint64_t at_ = 0;
  std::uint64_t phase_ = 0;
};

// One page: a check of its version and of one random word, or that and a new version.
bool touch(Page& memory, std::uint64_t page, std::uint64_t choice) {
  const std::uint64_t version = memory.words[0];
  const bool right = memory.words[1] == check_of(page, version);
  if ((choice & 1) != 0) {
    set_version(memory, page, version + 1);
    return right;
  }
  const std::uint64_t word = 2 + (choice >> 1) % (kRandomWords - 2);
  return right && memory.words[word] == mix(page * kPageWords + word);
}

void* work(void* argument) {
  Worker& self = *static_cast<Worker*>(argument);
  const Settings& settings = *self.settings;
  const std::uint64_t seed = settings.seed * 64 + self.number;
  Order order(self.pattern, self.count, seed);
  Random choices(seed ^ 0xC401CE5);
  for (std::uint64_t i = 0; i < settings.warmup; ++i) {
    const std::uint64_t page = self.first + order.next();
    self.errors += touch(self.memory[page], page, choices.next()) ? 0 : 1;
  }
  pthread_barrier_wait(self.start);  // the main thread reads its clocks between the two
  pthread_barrier_wait(self.start);
  std::uint64_t before = now_ns();
  const std::uint64_t deadline = before + settings.time_max_ns;
  while (self.ops < settings.ops && before < deadline) {
    const std::uint64_t page = self.first + order.next();
    self.errors += touch(self.memory[page], page, choices.next()) ? 0 : 1;
    const std::uint64_t after = now_ns();
    self.latencies.add(after - before);
    before = after;
    ++self.ops;
  }
  return nullptr;
}

struct Usage {
  std::uint64_t wall_ns;
  std::uint64_t cpu_ns;
  std::int64_t majflt;
  std::int64_t minflt;

  static Usage now() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    const auto micros = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1'000'000 +
                        used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    return {now_ns(), static_cast<std::uint64_t>(micros) * 1000, used.ru_majflt, used.ru_minflt};
  }
};

void print_result(const std::string& pattern, const Settings& settings, const Usage& from,
                  const Usage& to, const std::vector<Worker>& workers) {
  auto all = std::make_unique<Histogram>();
  std::uint64_t ops = 0;
  std::uint64_t errors = 0;
  for (const Worker& worker : workers) {
    all->add(worker.latencies);
    ops += worker.ops;
    errors += worker.errors;
  }
  const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf(
      "{\"pattern\":\"%s\",\"threads\":%zu,\"pages\":%zu,\"ops\":%llu,\"wall_ns\":%llu,"
      "\"cpu_ns\":%llu,\"majflt\":%lld,\"minflt\":%lld,\"p50_ns\":%llu,\"p99_ns\":%llu,"
      "\"p999_ns\":%llu,\"slow_ops\":%llu,\"slow_p50_ns\":%llu,\"slow_p99_ns\":%llu,"
      "\"errors\":%llu}\n",
      pattern.c_str(), settings.threads, settings.pages, number(ops),
      number(to.wall_ns - from.wall_ns), number(to.cpu_ns - from.cpu_ns),
      static_cast<long long>(to.majflt - from.majflt),
      static_cast<long long>(to.minflt - from.minflt), number(all->quantile(0.5)),
      number(all->quantile(0.99)), number(all->quantile(0.999)), number(all->count_above(kSlowNs)),
      number(all->quantile(0.5, kSlowNs)), number(all->quantile(0.99, kSlowNs)), number(errors));
  std::fflush(stdout);
}

std::uint64_t run_pattern(const std::string& pattern, const Settings& settings, Page* memory) {
  pthread_barrier_t start;
  pthread_barrier_init(&start, nullptr, static_cast<unsigned>(settings.threads) + 1);
  std::vector<Worker> workers(settings.threads);
  std::vector<pthread_t> handles(settings.threads);
  for (std::size_t i = 0; i < settings.threads; ++i) {
    Worker& worker = workers[i];
    worker.settings = &settings;
    worker.start = &start;
    worker.pattern = pattern;
    worker.memory = memory;
    worker.count = settings.pages / settings.threads;
    worker.first = i * worker.count;
    worker.number = i;
    if (pthread_create(&handles[i], nullptr, work, &worker) != 0) {
      std::perror("access: pthread_create");
      std::exit(3);
    }
  }
  pthread_barrier_wait(&start);
  const Usage from = Usage::now();
  pthread_barrier_wait(&start);
  for (const pthread_t handle : handles) {
    pthread_join(handle, nullptr);
  }
  print_result(pattern, settings, from, Usage::now(), workers);
  pthread_barrier_destroy(&start);
  std::uint64_t errors = 0;
  for (const Worker& worker : workers) {
    errors += worker.errors;
  }
  return errors;
}

void fill(Page* memory, std::size_t pages) {
  for (std::uint64_t page = 0; page < pages; ++page) {
    set_version(memory[page], page, 0);
    for (std::size_t word = 2; word < kRandomWords; ++word) {
      memory[page].words[word] = mix(page * kPageWords + word);
    }
    std::memset(memory[page].words + kRandomWords, 0, kPageBytes - kRandomWords * 8);
  }
}

std::uint64_t verify(const Page* memory, std::size_t pages) {
  std::uint64_t errors = 0;
  for (std::uint64_t page = 0; page < pages; ++page) {
    const Page& found = memory[page];
    std::uint64_t difference = found.words[1] ^ check_of(page, found.words[0]);
    for (std::size_t word = 2; word < kPageWords; ++word) {
      difference |= found.words[word] ^ (word < kRandomWords ? mix(page * kPageWords + word) : 0);
    }
    errors += difference != 0 ? 1 : 0;
  }
  return errors;
}

const char* option(int argc, char** argv, const char* name, const char* otherwise) {
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], name) == 0) {
      return argv[i + 1];
    }
  }
  return otherwise;
}

std::uint64_t number_option(int argc, char** argv, const char* name, const char* otherwise) {
  return std::strtoull(option(argc, argv, name, otherwise), nullptr, 10);
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings{
      .pages = number_option(argc, argv, "--mb", "0") * 1024 * 1024 / kPageBytes,
      .threads = number_option(argc, argv, "--threads", "1"),
      .ops = number_option(argc, argv, "--ops", "100000"),
      .warmup = number_option(argc, argv, "--warmup", "0"),
      .time_max_ns = number_option(argc, argv, "--seconds-max", "60") * 1'000'000'000u,
      .seed = number_option(argc, argv, "--seed", "1")};
  if (settings.pages == 0 || settings.threads == 0 || settings.threads > settings.pages) {
    std::fprintf(stderr,
                 "usage: access --mb N [--threads N] [--patterns LIST] [--ops N] "
                 "[--seconds-max N] [--warmup N] [--seed N]\n");
    return 2;
  }
  settings.ops /= settings.threads;
  settings.warmup /= settings.threads;
  void* mapped = mmap(nullptr, settings.pages * kPageBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    std::perror("access: mmap");
    return 3;
  }
  // Huge pages would let one fault bring 512 pages: both sides are measured in 4 KB pages.
  madvise(mapped, settings.pages * kPageBytes, MADV_NOHUGEPAGE);
  auto* memory = static_cast<Page*>(mapped);
  fill(memory, settings.pages);

  std::uint64_t errors = 0;
  std::string patterns = option(argc, argv, "--patterns", "random");
  for (std::size_t at = 0; at < patterns.size();) {
    const std::size_t comma = std::min(patterns.find(',', at), patterns.size());
    errors += run_pattern(patterns.substr(at, comma - at), settings, memory);
    at = comma + 1;
  }
  const std::uint64_t bad_pages = verify(memory, settings.pages);
  std::printf("{\"pattern\":\"verify\",\"pages\":%zu,\"errors\":%llu}\n", settings.pages,
              static_cast<unsigned long long>(bad_pages));
  return errors + bad_pages == 0 ? 0 : 1;
}
