#include "mount/image.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "cli/exit_codes.h"

namespace spillway {

MountedImage::MountedImage(ArenaMachine& arena, const std::string& path, bool read_only)
    : arena_(arena), path_(path), read_only_(read_only) {
  const Result<u32> device = arena_.add_device(
      path.c_str(), read_only ? DeviceAccess::read_only : DeviceAccess::read_write);
  if (!device.ok()) {
    const std::string thing = fmt::format("mount {}", path);
    switch (device.error()) {
      case Error::busy:
        throw CliError(thing, "is in use by another process that serves it", "unmount it there");
      case Error::access:
      case Error::perm:
      case Error::read_only:
        throw CliError(thing, "may not be written", "mount it with --read-only");
      case Error::invalid: throw CliError(thing, "is empty", "give an ext2, ext3 or ext4 image");
      default:
        throw CliError(thing, fmt::format("cannot be opened ({})", name_of(device.error())),
                       "check the path and its permissions");
    }
  }
  device_ = device.value();
  probe();
}

void MountedImage::probe() {
  const std::string thing = fmt::format("mount {}", path_);
  u8 bytes[ExtProbe::kBytes] = {};
  const int fd = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  const ssize_t got =
      fd < 0 ? -1 : ::pread(fd, bytes, sizeof bytes, static_cast<off_t>(ExtProbe::kOffset));
  if (fd >= 0) ::close(fd);
  if (got < 0) throw CliError(thing, "cannot be read", "check the device");
  const u64 size = arena_.device(device_).size_bytes();
  const Status status = ExtFs::probe(bytes, size, &probe_);
  const char* const why = probe_.why;
  if (status.ok() && probe_.recovery) {
    // Not for reading either: what lies in the journal only would be missing.
    throw CliError(thing, "its journal needs recovery: it was not unmounted",
                   "run e2fsck -fy on it first");
  }
  if (status.ok()) return;
  switch (status.error()) {
    case Error::invalid:
      throw CliError(thing, "is no ext2, ext3 or ext4 image", "make one with mke2fs");
    case Error::not_supported:
      throw CliError(thing, fmt::format("has a feature that is not supported: {}", why),
                     "mount it with a kernel that knows it");
    default:
      throw CliError(thing, fmt::format("its superblock contradicts itself: {}", why),
                     "repair it with e2fsck");
  }
}

void MountedImage::open(SystemImpl& system) {
  Machine& machine = arena_.machine();
  BlockDevice& device = arena_.device(device_);
  const std::string thing = fmt::format("mount {}", path_);
  if (!buffers_
           .init(machine, system.cache, system.allocator, system.frames, system.observer, device,
                 probe_.block_size)
           .ok()) {
    throw CliError("mount --ram", "there is not enough memory for the tables of the buffer cache",
                   "give more with --ram");
  }
  const ExtParts parts{.machine = machine,
                       .cache = system.cache,
                       .allocator = system.allocator,
                       .frames = system.frames,
                       .buffers = buffers_,
                       .device = device,
                       .host = *this,
                       .device_bytes = arena_.device(device_).size_bytes()};
  const Status status = fs_.open(parts, read_only_ ? ExtMode::read_only : ExtMode::read_write);
  if (!status.ok()) {
    const std::string why = fs_.why();
    if (status.error() == Error::read_only) {
      if (probe_.read_only) {
        throw CliError(thing, fmt::format("has a feature that can only be read: {}", why),
                       "mount it with --read-only");
      }
      throw CliError(thing, fmt::format("cannot be written: {}", why),
                     "repair it with e2fsck -fy, or mount it with --read-only");
    }
    throw CliError(thing,
                   fmt::format("cannot be mounted: {}",
                               why.empty() ? std::string(name_of(status.error())) : why),
                   "check it with e2fsck -fn");
  }
  open_ = true;
  system.flusher.add(buffers_);
}

u32 MountedImage::complete() {
  const u32 ended = arena_.run_completions();
  return ended + (open_ ? fs_.deliver() : 0);
}

Status MountedImage::close() {
  if (!open_) return kOk;
  Status status = fs_.close();
  open_ = false;
  Status dropped = buffers_.close();
  while (!dropped.ok() && dropped.error() == Error::wait && complete() != 0) {
    dropped = buffers_.close();
  }
  if (status.ok()) status = dropped;
  const Status durable = sync_device();
  return status.ok() ? durable : status;
}

}  // namespace spillway
