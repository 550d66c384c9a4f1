// FuseServer: operations on what is open: files' bytes and directories' entries.
#include <algorithm>
#include <cstring>
#include <vector>

#include "mount/fuse_calls.h"

namespace spillway {
namespace {

// The kernel asks for one listing in pieces of at most this.
constexpr std::size_t kListingMax = std::size_t{1} << 20;

Result<Inode*> hold_for_open(FuseServer& server, fuse_ino_t id) {
  return server.engine().run([&] { return server.ids().get(id); });
}

// Hands `file` to the kernel with the answer; takes it back if nobody waits for that any more.
void reply_open(fuse_req_t req, FuseServer& server, fuse_file_info* info,
                std::unique_ptr<OpenFile> file) {
  info->fh = reinterpret_cast<u64>(file.get());
  // Known before the kernel may use it, and close it, on another thread.
  server.engine().with_lock([&] { server.opened(*file); });
  if (fuse_reply_open(req, info) != -ENOENT) {
    (void)file.release();
  } else {
    server.engine().with_lock([&] {
      server.closed(*file);
      if (file->inode != nullptr) server.vfs().put(*file->inode);
    });
  }
}

void op_open(fuse_req_t req, fuse_ino_t id, fuse_file_info* info) {
  guarded(req, [&](FuseServer& server) {
    auto file = std::make_unique<OpenFile>();
    if (id == FuseServer::kStatsFile) {
      if ((info->flags & O_ACCMODE) != O_RDONLY) return (void)fuse_reply_err(req, EACCES);
      file->text = server.stats_text();
      info->direct_io = 1;  // its length is known only now
      return reply_open(req, server, info, std::move(file));
    }
    const Result<Inode*> inode = hold_for_open(server, id);
    if (!inode.ok()) return (void)fuse_reply_err(req, errno_of(inode.error()));
    file->inode = inode.value();
    info->keep_cache = server.keeps_pages();
    reply_open(req, server, info, std::move(file));
  });
}

void op_opendir(fuse_req_t req, fuse_ino_t id, fuse_file_info* info) {
  guarded(req, [&](FuseServer& server) {
    auto file = std::make_unique<OpenFile>();
    if (id != FuseServer::kStatsDirectory) {
      const Result<Inode*> inode = hold_for_open(server, id);
      if (!inode.ok()) return (void)fuse_reply_err(req, errno_of(inode.error()));
      file->inode = inode.value();
    }
    reply_open(req, server, info, std::move(file));
  });
}

void op_release(fuse_req_t req, fuse_ino_t, fuse_file_info* info) {
  const std::unique_ptr<OpenFile> file(&open_file(info));
  FuseServer& server = server_of(req);
  server.engine().with_lock([&] {
    server.closed(*file);
    if (file->inode != nullptr) server.vfs().put(*file->inode);
  });
  (void)fuse_reply_err(req, 0);
}

// Each of libfuse's threads has a buffer, so that reads need not allocate.
std::vector<char>& thread_buffer(std::size_t bytes) {
  thread_local std::vector<char> buffer;
  if (buffer.size() < bytes) buffer.resize(bytes);
  return buffer;
}

void op_read(fuse_req_t req, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info* info) {
  guarded(req, [&](FuseServer& server) {
    OpenFile& file = open_file(info);
    const u64 at = static_cast<u64>(offset);
    if (file.inode == nullptr) {
      const std::size_t from = std::min<std::size_t>(at, file.text.size());
      const std::size_t bytes = std::min(size, file.text.size() - from);
      return (void)fuse_reply_buf(req, file.text.data() + from, bytes);
    }
    std::vector<char>& buffer = thread_buffer(size);
    u64 done = 0;
    const Result<u64> got = server.engine().run([&] {
      return server.vfs().read(*file.inode, file.readahead, at,
                               reinterpret_cast<u8*>(buffer.data()), size, &done);
    });
    if (!got.ok()) return (void)fuse_reply_err(req, errno_of(got.error()));
    (void)fuse_reply_buf(req, buffer.data(), got.value());
  });
}

void op_write(fuse_req_t req, fuse_ino_t, const char* data, std::size_t size, off_t offset,
              fuse_file_info* info) {
  guarded(req, [&](FuseServer& server) {
    OpenFile& file = open_file(info);
    if (file.inode == nullptr) return (void)fuse_reply_err(req, EPERM);
    u64 done = 0;
    Result<u64> put = server.engine().run([&] {
      return server.vfs().write(*file.inode, static_cast<u64>(offset),
                                reinterpret_cast<const u8*>(data), size, &done);
    });
    if (put.ok() && put.value() < size && info->writepage != 0) {
      // Pages that a program has stored into: for them the kernel takes a short answer for success.
      const u64 rest = put.value();
      done = 0;
      put = server.engine().run([&] {
        return server.vfs().write(*file.inode, static_cast<u64>(offset) + rest,
                                  reinterpret_cast<const u8*>(data) + rest, size - rest, &done);
      });
      if (put.ok()) put = put.value() == size - rest ? Result<u64>(size) : Error::no_space;
    }
    if (!put.ok()) return (void)fuse_reply_err(req, errno_of(put.error()));
    (void)fuse_reply_write(req, put.value());
    server.engine().balance_dirty();
  });
}

void op_flush(fuse_req_t req, fuse_ino_t, fuse_file_info*) { (void)fuse_reply_err(req, 0); }

void op_fsync(fuse_req_t req, fuse_ino_t, int, fuse_file_info* info) {
  guarded(req, [&](FuseServer& server) {
    OpenFile& file = open_file(info);
    if (file.inode == nullptr || server.read_only()) return (void)fuse_reply_err(req, 0);
    (void)fuse_reply_err(req, error_number(server.engine().fsync(*file.inode)));
  });
}

// Entries that fit into an answer of `room` bytes.
class Listing final : public DirectorySink {
 public:
  Listing(std::size_t room, bool plus) : room_(room), plus_(plus) {}
  bool entry(Name name, u64 number, u32 type, u64 next) override {
    std::string text(name.text, name.length);
    const std::size_t bytes =
        plus_ ? fuse_add_direntry_plus(nullptr, nullptr, 0, text.c_str(), nullptr, 0)
              : fuse_add_direntry(nullptr, nullptr, 0, text.c_str(), nullptr, 0);
    if (used_ + bytes > room_) return false;
    used_ += bytes;
    entries.push_back({std::move(text), number, type, next});
    return true;
  }
  void restart() {
    entries.clear();
    used_ = 0;
  }
  std::vector<ListedEntry> entries;

 private:
  std::size_t room_;
  std::size_t used_ = 0;
  bool plus_;
};

// Keeps the first entries of a directory.
class Beginning final : public DirectorySink {
 public:
  static constexpr std::size_t kEntriesMax = std::size_t{1} << 16;
  explicit Beginning(std::vector<ListedEntry>& entries) : entries_(entries) { entries_.clear(); }
  bool entry(Name name, u64 number, u32 type, u64 next) override {
    if (entries_.size() == kEntriesMax) return false;
    entries_.push_back({std::string(name.text, name.length), number, type, next});
    return true;
  }

 private:
  std::vector<ListedEntry>& entries_;
};

Status list_from(FuseServer& server, OpenFile& file, u64 position, Listing& listing) {
  listing.restart();
  if (server.engine().image() == nullptr) {
    return server.vfs().read_directory(*file.inode, position, listing);
  }
  // Positions in an image are offsets: they grow.
  if (position == 0) {
    Beginning beginning(file.listed);
    SPW_TRY(server.vfs().read_directory(*file.inode, 0, beginning));
  }
  auto at = std::upper_bound(file.listed.begin(), file.listed.end(), position,
                             [](u64 p, const ListedEntry& e) { return p < e.next; });
  for (; at != file.listed.end(); ++at) {
    const Name name{at->name.data(), static_cast<u32>(at->name.size())};
    if (!listing.entry(name, at->number, at->type, at->next)) return kOk;
  }
  // All of it was kept, or what follows is longer than that.
  if (file.listed.size() < Beginning::kEntriesMax) return kOk;
  return server.vfs().read_directory(*file.inode, std::max(position, file.listed.back().next),
                                     listing);
}

Status list(FuseServer& server, OpenFile& file, off_t position, Listing& listing) {
  if (file.inode == nullptr) return kOk;  // nothing shows the statistics
  return server.engine().run(
      [&] { return list_from(server, file, static_cast<u64>(position), listing); });
}

void op_readdir(fuse_req_t req, fuse_ino_t, std::size_t size, off_t position,
                fuse_file_info* info) {
  guarded(req, [&](FuseServer& server) {
    size = std::min(size, kListingMax);
    Listing listing(size, false);
    const Status status = list(server, open_file(info), position, listing);
    if (!status.ok()) return (void)fuse_reply_err(req, errno_of(status.error()));
    std::vector<char>& buffer = thread_buffer(size);
    std::size_t used = 0;
    for (const ListedEntry& entry : listing.entries) {
      struct stat about {};
      about.st_ino = entry.number;
      about.st_mode = entry.type;
      used += fuse_add_direntry(req, buffer.data() + used, size - used, entry.name.c_str(), &about,
                                static_cast<off_t>(entry.next));
    }
    (void)fuse_reply_buf(req, buffer.data(), used);
  });
}

// What the kernel is told of one entry; an entry that cannot be looked up is listed all the same.
fuse_entry_param describe(FuseServer& server, Inode& directory, fuse_ino_t id,
                          const ListedEntry& entry) {
  fuse_entry_param out{};
  out.attr.st_ino = entry.number;
  out.attr.st_mode = entry.type;
  const Name name = Name::of(entry.name.c_str());
  if (name.is_dot() || name.is_dot_dot()) return out;
  (void)server.engine().run([&]() -> Status {
    const Result<Inode*> found = server.vfs().lookup(directory, name);
    if (!found.ok()) return found.error();
    Inode& inode = *found.value();
    out.ino = server.ids().id_of(inode);
    out.generation = inode.attr.generation;
    out.attr = server.stat_of(inode);
    out.attr_timeout = out.entry_timeout = server.timeout();
    server.ids().announce(inode, id, name);
    return kOk;
  });
  return out;
}

void op_readdirplus(fuse_req_t req, fuse_ino_t id, std::size_t size, off_t position,
                    fuse_file_info* info) {
  guarded(req, [&](FuseServer& server) {
    OpenFile& file = open_file(info);
    size = std::min(size, kListingMax);
    Listing listing(size, true);
    const Status status = list(server, file, position, listing);
    if (!status.ok()) return (void)fuse_reply_err(req, errno_of(status.error()));
    std::vector<char>& buffer = thread_buffer(size);
    std::size_t used = 0;
    std::vector<fuse_ino_t> told;
    for (const ListedEntry& entry : listing.entries) {
      const fuse_entry_param about = describe(server, *file.inode, id, entry);
      if (about.ino != 0) told.push_back(about.ino);
      used += fuse_add_direntry_plus(req, buffer.data() + used, size - used, entry.name.c_str(),
                                     &about, static_cast<off_t>(entry.next));
    }
    if (fuse_reply_buf(req, buffer.data(), used) == -ENOENT) {
      server.engine().with_lock([&] {
        for (const fuse_ino_t one : told) server.ids().forget(one, 1);
      });
    }
  });
}

}  // namespace

void add_data_operations(fuse_lowlevel_ops& table) {
  table.open = op_open;
  table.release = op_release;
  table.read = op_read;
  table.write = op_write;
  table.flush = op_flush;
  table.fsync = op_fsync;
  table.opendir = op_opendir;
  table.releasedir = op_release;
  table.fsyncdir = op_fsync;
  table.readdir = op_readdir;
  table.readdirplus = op_readdirplus;
}

}  // namespace spillway
