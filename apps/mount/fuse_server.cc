#include "mount/fuse_server.h"

#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <ctime>

#include "cli/exit_codes.h"
#include "mount/fuse_calls.h"
#include "mount/stats_text.h"

namespace spillway {
namespace {

// One request carries so much data at most.
constexpr u32 kTransferMax = u32{1} << 20;
// Of the budget, how much inodes may take that stay only because the kernel remembers them.
constexpr u64 kHeldShare = 8;
constexpr u64 kInodeBytes = 640;
constexpr u32 kTrimMax = 1024;

void init(void*, fuse_conn_info* connection) {
  connection->max_write = kTransferMax;
  connection->max_readahead = kTransferMax;
  // Pages are copied into frames; moving them in by splice would need frames to be given away.
  connection->want &=
      ~static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
  // The kernel takes set-user-ID bits away by setattr, where the permissions are checked too.
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_ATOMIC_O_TRUNC |
                                             FUSE_CAP_WRITEBACK_CACHE);
  connection->want |= connection->capable & static_cast<unsigned>(FUSE_CAP_PARALLEL_DIROPS);
  connection->time_gran = 1;
}

timespec timespec_of(const FileTime& t) {
  return {static_cast<time_t>(t.seconds), static_cast<long>(t.nanoseconds)};
}

}  // namespace

FuseServer::FuseServer(MountEngine& engine, const ServerConfig& config)
    : engine_(engine),
      config_(config),
      ids_(engine.vfs(), engine.config().ram_bytes / kHeldShare / kInodeBytes) {
  // A real entry of our name is never hidden.
  const Result<Inode*> real = engine_.run([&]() -> Result<Inode*> {
    return vfs().lookup(vfs().root(), Name::of(kStatsDirectoryName));
  });
  shows_stats_ = !real.ok() && real.error() == Error::no_entry;
  if (real.ok()) engine_.with_lock([&] { vfs().put(*real.value()); });
}

FuseServer::~FuseServer() {
  if (session_ == nullptr) return;
  unmount();
  fuse_remove_signal_handlers(session_);
  fuse_session_destroy(session_);
}

void FuseServer::mount() {
  std::string options = "default_permissions,subtype=spillway,fsname=";
  for (const char c : config_.source) {
    if (c == ',' || c == '\\') options += '\\';
    options += c;
  }
  if (config_.allow_other) options += ",allow_other";
  if (config_.read_only) options += ",ro";
  std::string program = "spillway";
  std::string flag = "-o";
  char* words[] = {program.data(), flag.data(), options.data(), nullptr};
  fuse_args arguments = FUSE_ARGS_INIT(3, words);
  fuse_lowlevel_ops table{};
  table.init = init;
  add_name_operations(table);
  add_data_operations(table);
  session_ = fuse_session_new(&arguments, &table, sizeof table, this);
  fuse_opt_free_args(&arguments);
  if (session_ == nullptr || fuse_set_signal_handlers(session_) != 0) {
    throw CliError("mount", "FUSE cannot be set up", "install the package fuse3");
  }
  if (fuse_session_mount(session_, config_.mountpoint.c_str()) != 0) {
    throw CliError(fmt::format("mount {}", config_.mountpoint), "FUSE refused the mount",
                   ::geteuid() == 0
                       ? "check that /dev/fuse can be opened"
                       : "check that /dev/fuse can be opened and fusermount3 is installed, "
                         "set-user-ID root");
  }
  mounted_ = true;
  engine_.set_chore(&FuseServer::chore, this);
}

bool FuseServer::serve() {
  fuse_loop_config* loop = fuse_loop_cfg_create();
  fuse_loop_cfg_set_clone_fd(loop, 0);
  fuse_loop_cfg_set_max_threads(loop, config_.threads);
  fuse_loop_cfg_set_idle_threads(loop, config_.threads);
  const int result = fuse_session_loop_mt(session_, loop);
  fuse_loop_cfg_destroy(loop);
  // A positive number is the signal that asked for the end.
  return result >= 0;
}

void FuseServer::unmount() {
  if (!mounted_) return;
  mounted_ = false;
  fuse_session_unmount(session_);
}

void FuseServer::let_go() {
  engine_.with_lock([&] {
    for (OpenFile* file : open_files_) {
      if (file->inode != nullptr) vfs().put(*file->inode);
      delete file;
    }
    open_files_.clear();
    ids_.forget_all();
  });
}

// Where inodes stay in use for the kernel's sake, it is asked to forget the oldest when they are
// too many. Runs in the daemon, without the engine lock: the kernel may want an answer of ours
// first.
void FuseServer::trim_names() {
  std::vector<NodeIds::OldName> names;
  engine_.with_lock([&] { names = ids_.old_names(kTrimMax); });
  for (const NodeIds::OldName& old : names) {
    (void)fuse_lowlevel_notify_inval_entry(session_, old.parent, old.name.c_str(), old.name.size());
  }
}

std::string FuseServer::stats_text() {
  std::string text;
  engine_.with_lock([&] { text = stats_text_of(engine_, ids_); });
  return text;
}

struct stat FuseServer::stat_of(const Inode& inode) const {
  struct stat out {};
  const InodeAttributes& attr = inode.attr;
  out.st_ino = inode.number;
  out.st_mode = attr.mode;
  out.st_nlink = attr.nlink;
  out.st_uid = attr.uid;
  out.st_gid = attr.gid;
  out.st_rdev = attr.rdev;
  out.st_size = static_cast<off_t>(inode.mapping.size_bytes);
  out.st_blksize = static_cast<blksize_t>(kPageSize);
  out.st_blocks = static_cast<blkcnt_t>(attr.sectors);
  out.st_atim = timespec_of(attr.atime);
  out.st_mtim = timespec_of(attr.mtime);
  out.st_ctim = timespec_of(attr.ctime);
  return out;
}

struct stat FuseServer::stat_of_stats(fuse_ino_t id) const {
  struct stat out {};
  out.st_ino = id;
  out.st_mode = id == kStatsDirectory ? S_IFDIR | 0500 : S_IFREG | 0400;
  out.st_nlink = id == kStatsDirectory ? 2 : 1;
  out.st_uid = ::geteuid();
  out.st_gid = ::getegid();
  return out;
}

bool FuseServer::is_stats_directory(fuse_ino_t parent, const char* name) const {
  return shows_stats_ && parent == FUSE_ROOT_ID && std::strcmp(name, kStatsDirectoryName) == 0;
}

}  // namespace spillway
