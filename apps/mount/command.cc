#include "mount/command.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cli/budget.h"
#include "cli/exit_codes.h"
#include "cli/memory_limit.h"
#include "mount/background.h"
#include "mount/fuse_server.h"
#include "mount/sandbox.h"
#include "mount/source.h"

namespace spillway {
namespace {

constexpr u32 kThreads = 8;

void say(const std::string& line) { fmt::print(stderr, "spillway: {}\n", line); }

// The budget as `run` understands it; there is no swap.
Budget budget_of(const MountOptions& options) {
  BudgetRequest request;
  request.ram = options.ram;
  request.swap_max = Setting{"0", "--swap-max"};
  HostFacts host;
  host.usable = usable_ram();
  host.physical_bytes = physical_ram();
  return compute_budget(request, host);
}

void check_fusermount() {
  if (::geteuid() == 0) return;
  for (const char* path :
       {"/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"}) {
    if (::access(path, X_OK) == 0) return;
  }
  throw CliError("fusermount3", "is not installed, and only root can mount without it",
                 "install the package fuse3");
}

void check_fuse() {
  if (::access("/dev/fuse", F_OK) != 0) {
    throw CliError("/dev/fuse", "is not there: this kernel or container has no FUSE",
                   "load the module fuse, or give the container --device /dev/fuse");
  }
  check_fusermount();
  const int fd = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    throw CliError("/dev/fuse", fmt::format("cannot be opened ({})", std::strerror(errno)),
                   "check its permissions, or give the container --device /dev/fuse");
  }
  ::close(fd);
}

// Without it an image that was opened for nothing would count as not unmounted.
class ClosesOnFailure {
 public:
  explicit ClosesOnFailure(MountEngine& engine) : engine_(&engine) {}
  ~ClosesOnFailure() {
    if (engine_ != nullptr) (void)engine_->close();
  }
  ClosesOnFailure(const ClosesOnFailure&) = delete;
  ClosesOnFailure& operator=(const ClosesOnFailure&) = delete;
  void serving() { engine_ = nullptr; }

 private:
  MountEngine* engine_;
};

int serve(const MountOptions& options, const EngineConfig& config, const std::string& mountpoint,
          Background& background) {
  MountEngine engine;
  engine.open(config);
  ClosesOnFailure guard(engine);
  FuseServer server(engine, {.source = config.source,
                             .mountpoint = mountpoint,
                             .allow_other = options.allow_other,
                             .read_only = options.read_only,
                             .kernel_cache_s = options.kernel_cache_s,
                             .threads = kThreads});
  if (!server.shows_stats()) {
    say(fmt::format("{}: has an entry {} of its own; the statistics are not shown there",
                    config.source, FuseServer::kStatsDirectoryName));
  }
  server.mount();
  const Unmounter unmounter(mountpoint);
  if (options.verbose && background.in_background()) say(fmt::format("{}: mounted", mountpoint));
  background.detach(options.stats);
  enter_sandbox(config.kind, ::geteuid() == 0);
  guard.serving();
  engine.start_daemon();
  if (options.verbose && !background.in_background()) say(fmt::format("{}: mounted", mountpoint));
  background.ready();
  const bool served = server.serve();
  engine.stop_daemon();
  // Unmounted last: who waits for the mount to go then finds everything stored.
  const std::string stats = options.stats ? server.stats_text() : "";
  server.let_go();
  const Status closed = engine.close();
  server.unmount();
  fmt::print(stderr, "{}", stats);
  if (!closed.ok()) {
    say(fmt::format("{}: not everything could be stored ({}); check it with e2fsck", config.source,
                    name_of(closed.error())));
    return kExitFailure;
  }
  if (!served) {
    say(fmt::format("{}: the connection to the kernel broke", mountpoint));
    return kExitFailure;
  }
  return 0;
}

}  // namespace

int mount_command(const MountOptions& options) {
  std::string source = options.source;
  std::string mountpoint = options.mountpoint;
  EngineConfig config;
  config.kind = check_source(source);
  check_mountpoint(mountpoint, source, config.kind);
  check_fuse();
  const Budget budget = budget_of(options);
  if (options.verbose) {
    say(fmt::format("RAM for all caches: {}",
                    budget.notes[0].substr(budget.notes[0].find(": ") + 2)));
  }
  config.source = source;
  config.read_only = options.read_only;
  config.ram_bytes = budget.ram_bytes;
  config.threads = kThreads;
  config.sync_interval_s = options.sync_interval_s;
  hide_memory();
  (void)::umask(0);
  Background background(options.foreground);
  try {
    return serve(options, config, mountpoint, background);
  } catch (const CliError& error) {
    background.failed(error.what(), error.exit_code());
    if (background.in_background()) return error.exit_code();
    throw;
  }
}

}  // namespace spillway
