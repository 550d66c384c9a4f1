// PageTransfers: pages of mappings on their way from and to a block device, for those that are the
// Backing of such mappings (the buffer cache, file systems on a device).
//
// A fixed pool of requests. A read of several pages that fails is repeated page by page, so that
// only those pages fail that are bad. Counts pages (pgpgin, pgpgout) and failed requests
// (io_error). Tells the page cache of each page, after bytes behind the end of the file have become
// zeros. A mapping with a transfer in flight must stay until Owner::transfer_ended.
//
// Invariant: each request is free or in flight.
// Cost: O(1) a page; collides() and validate() O(kMax). Thread safety: the engine lock.
#pragma once

#include "pagecache/page_cache.h"

namespace spillway {

class PageTransfers final : public IoSink {
 public:
  static constexpr u32 kMax = 64;  // in flight

  class Owner {
   public:
    // A write ended; the page cache is told after this call. `note` is what write() was given.
    virtual void page_written(Mapping& mapping, u32 index, u32 note, Status status) = 0;
    // The page cache knows of all pages of one transfer.
    virtual void transfer_ended(Mapping& mapping) { (void)mapping; }

   protected:
    ~Owner() = default;
  };

  // All of them outlive this. Nothing is in flight.
  void init(Machine& machine, PageCache& cache, const Observer& observer, BlockDevice& device,
            Owner& owner);

  // Whether so many transfers can be started now. Each read() and write() needs room for one.
  bool room_for(u32 transfers) const { return transfers <= kMax - in_flight_; }
  // Pages [index, index+count) of the mapping, count <= kIoFramesMax, from consecutive pages of the
  // device, the first of which is `block`.
  void read(Mapping& mapping, u32 index, u64 block, const Pfn* frames, u32 count);
  // One page, in `frame`.
  void write(Mapping& mapping, u32 index, u64 block, Pfn frame, u32 note = 0);
  // Counts a page that its owner has transferred by other means.
  void count(IoOp op, Status status);

  // Whether a transfer in flight touches one of these pages of the device, and one of the two
  // writes.
  bool collides(IoOp op, u64 block, u64 count) const;
  u32 in_flight() const { return in_flight_; }
  u64 pages_read() const { return pages_read_; }
  u64 pages_written() const { return pages_written_; }
  bool validate() const;
  u32& debug_in_flight() { return in_flight_; }

  void io_done(IoRequest& io, Status status) override;

 private:
  struct Request {
    IoRequest io;
    Mapping* mapping = nullptr;
    u32 index = 0;  // of the first page
    u32 total = 0;  // pages; 0: the request is free
    u32 at = 0;     // when page by page: the one in flight
    bool single = false;
    u32 note = 0;
    Pfn frames[kIoFramesMax];
    Request* next_free = nullptr;
  };

  void start(IoOp op, Mapping& mapping, u32 index, u64 block, const Pfn* frames, u32 count,
             u32 note);
  void put(Request& request);
  void page_was_read(const Request& request, u32 i, Status status);
  void read_ended(Request& request, Status status);
  void write_ended(Request& request, Status status);

  Machine* machine_ = nullptr;
  PageCache* cache_ = nullptr;
  const Observer* observer_ = nullptr;
  BlockDevice* device_ = nullptr;
  Owner* owner_ = nullptr;
  Request requests_[kMax];
  Request* free_ = nullptr;
  u32 in_flight_ = 0;
  u64 pages_read_ = 0;
  u64 pages_written_ = 0;
};

// Zeros from the end of the file on, in the bytes of its page `index`: of none before the last one,
// of all behind it.
void zero_behind_end(u8* page, u64 index, u64 size_bytes);

}  // namespace spillway
