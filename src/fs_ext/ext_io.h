// ExtIo: the I/O manager of libext2fs over the buffer cache. Everything that the library reads or
// writes are blocks of the cache; its own cache of the device is not used.
//
// The library is synchronous. What only reads is called with Waits::no: when a block is not there
// yet, its read is started and the library's call ends with kExtWait, which becomes Error::wait;
// the caller's next try finds it. What changes blocks cannot be repeated halfway and is called with
// Waits::yes: the manager makes the host end I/O until the block is there.
//
// The library believes the numbers of blocks that it finds in an image. What a lie can do is
// bounded here: blocks of the zones are not written as anything else, and a tree that goes in
// circles ends when more blocks were asked for than the image can be made of.
//
// While a change is open (open_change), blocks that are written are kept aside, and reads find them
// there; ExtFs::commit moves them to the buffer cache in an order that a kill may interrupt.
// Thread safety: the engine lock.
#pragma once

#include <ext2fs/ext2fs.h>

#include <map>

#include "fs_ext/ext_zones.h"
#include "vfs/buffer_cache.h"

namespace spillway {

// What the driver needs of the program that it runs in.
class ExtHost {
 public:
  // Ends at least one I/O in flight (a simulated machine: advances to its end). False: there was
  // none. Called only from calls of the driver that change the file system.
  virtual bool complete_io() = 0;
  // Makes durable what was written to the device by requests that have ended.
  virtual Status sync_device() = 0;

 protected:
  ~ExtHost() = default;
};

// Codes of our own, far from those of the library.
inline constexpr errcode_t kExtWait = 0x5350'0001;
inline constexpr errcode_t kExtBeyond = 0x5350'0002;

// What the library's codes mean. corrupt for whatever says that the image makes no sense.
Error error_of_ext(errcode_t code);
inline Status status_of_ext(errcode_t code) { return code == 0 ? kOk : Status(error_of_ext(code)); }

class ExtIo {
 public:
  enum class Waits : u8 { no, yes };
  // Rounds without any I/O to wait for before a block is given up (no memory comes free).
  static constexpr u32 kIdleRoundsMax = 64;
  // Blocks that the library may read and write in one call, for each block of the image and as a
  // start. Giving free a file of extents of one block each takes about ten per block.
  static constexpr u64 kStepsPerBlock = 64;
  static constexpr u64 kStepsMin = 4096;

  void init(BufferCache& buffers, ExtHost& host, u64 device_bytes) {
    buffers_ = &buffers;
    host_ = &host;
    bytes_ = device_bytes;
    kept_.clear();
    zones_ = nullptr;
    steps_max_ = ~u64{0};
  }
  // From now on the limits hold. `zones` outlives the file system that was opened.
  void guard(const ExtZones& zones, u64 blocks) {
    zones_ = &zones;
    steps_max_ = kStepsMin + blocks * kStepsPerBlock;
  }
  // The one block of the zones that may be written.
  void announce(u64 block) { announced_ = block; }
  // Superblock, descriptors and bitmaps may be written.
  class Flush {
   public:
    explicit Flush(ExtIo& io) : io_(io) { io.flushing_ = true; }
    ~Flush() { io_.flushing_ = false; }
    Flush(const Flush&) = delete;
    Flush& operator=(const Flush&) = delete;

   private:
    ExtIo& io_;
  };
  // Opens the file system on this device.
  errcode_t open(int flags, ext2_filsys* fs);

  // The block, held. wait only while Waits::no.
  Result<Buffer*> bread(u64 block);
  // bread, for somebody who changes it: not being written.
  Result<Buffer*> bread_to_write(u64 block);
  // Everything dirty is written.
  Status sync();
  // The block is going to be something else: what the cache knows of it is dropped.
  void forget(u64 block);

  // --- Blocks kept aside.
  struct Kept {
    u8 bytes[kPageSize];
  };
  void open_change() { ++changes_open_; }
  // Whether it was the outermost one.
  bool close_change() { return --changes_open_ == 0; }
  const std::map<u64, Kept>& kept() const { return kept_; }
  bool keeps(u64 block) const { return !kept_.empty() && kept_.contains(block); }
  // What is kept of the block is not to be written any more.
  void drop_kept(u64 block) { kept_.erase(block); }
  // Moves it to the buffer cache. no_memory, io: it is still kept.
  Status move_kept(u64 block);
  // The block is on the device as the buffer cache has it.
  Status write_block(u64 block);

  Waits waits() const { return waits_; }
  class Mode {
   public:
    Mode(ExtIo& io, Waits waits) : io_(io), before_(io.waits_) {
      io.waits_ = waits;
      if (io.modes_++ == 0) io.steps_ = 0;
    }
    ~Mode() {
      io_.waits_ = before_;
      --io_.modes_;
    }
    Mode(const Mode&) = delete;
    Mode& operator=(const Mode&) = delete;

   private:
    ExtIo& io_;
    const Waits before_;
  };

  // [at, at + bytes) of the device.
  errcode_t read(u64 at, u64 bytes, u8* out);
  errcode_t write(u64 at, u64 bytes, const u8* data);

 private:
  template <class Call>
  auto repeat(Call call) -> decltype(call());
  errcode_t keep(u64 block, u64 in, u64 part, const u8* data);
  bool inside(u64 at, u64 bytes) const { return at <= bytes_ && bytes <= bytes_ - at; }
  bool may_write(u64 block) const {
    return zones_ == nullptr || flushing_ || block == announced_ || !zones_->touch(block, 1);
  }

  BufferCache* buffers_ = nullptr;
  ExtHost* host_ = nullptr;
  u64 bytes_ = 0;
  Waits waits_ = Waits::yes;
  u32 changes_open_ = 0;
  std::map<u64, Kept> kept_;
  u32 modes_ = 0;  // scopes in force
  const ExtZones* zones_ = nullptr;
  u64 announced_ = ~u64{0};
  bool flushing_ = false;
  u64 steps_ = 0;  // of the call at work
  u64 steps_max_ = ~u64{0};
};

}  // namespace spillway
