// Files, segments and swap areas, performed and compared with the model.

#include <algorithm>
#include <cstring>

#include "driver.h"

namespace spillway::ksim {
namespace {

std::string path_of(u32 file) { return "f" + std::to_string(file); }

constexpr u32 kKeyBase = 0x5e60;  // of segment 0

}  // namespace

void Driver::create_file(const Op& op) {
  if (op.file >= kFirstProgram) return;
  const u64 pages = std::max<u64>(op.number, 1);
  const u64 size = std::min(op.newlen, pages * kPageSize);
  const bool exists = world_.files[op.file] != nullptr;
  const Status made = kernel_->create_file(path_of(op.file).c_str(), size, pages * kPageSize);
  if (!made.ok()) {
    if (made.error() == Error::exists && exists) return;
    if (made.error() == Error::no_space && !exists) return;  // how full the device is, is its own
    fail(std::string("create refused with ") + spillway::name_of(made.error()));
  }
  if (exists) fail("create succeeds although the file exists");
  ObjectPtr file = std::make_shared<Object>();
  file->kind = ObjectKind::file;
  file->number = op.file;
  file->size_bytes = size;
  file->capacity_pages = pages;
  world_.files[op.file] = file;
}

void Driver::open_file(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  Descriptor& d = proc.files[op.file];
  if (d.object != nullptr || !(op.has(FlagBit::read) || op.has(FlagBit::write))) return;
  const bool write = op.has(FlagBit::write);
  const bool truncates = op.has(FlagBit::truncate) && write;
  if (op.file >= kFirstProgram && (truncates || op.has(FlagBit::create))) return;
  u32 flags = !write ? kOpenRead : op.has(FlagBit::read) ? kOpenReadWrite : kOpenWrite;
  if (op.has(FlagBit::create)) flags |= kOpenCreate;
  if (op.has(FlagBit::exclusive)) flags |= kOpenExclusive;
  if (op.has(FlagBit::truncate)) flags |= kOpenTruncate;
  const ObjectPtr found = world_.files[op.file];
  Prediction p;
  if (found == nullptr) {
    p.refuse_if(!op.has(FlagBit::create), Error::no_entry);
    p.also(Error::no_space);
  } else {
    p.refuse_if(op.has(FlagBit::create) && op.has(FlagBit::exclusive), Error::exists);
    p.refuse_if(write && world_.areas_of(*found, true) != 0, Error::text_busy);
  }
  const Result<u64> fd =
      to_the_end("open", [&] { return kernel_->open(proc.pid, path_of(op.file).c_str(), flags); });
  note(fd);
  if (!fd.ok()) {
    if (p.allows(fd.error())) return;
    if (truncates && fd.error() == Error::io) {
      read_error_told(op);
      return;
    }
    if (truncates && resource_error_is_right(fd.error())) return;
    fail(std::string("open refused with ") + spillway::name_of(fd.error()) + ": " + print(op));
  }
  if (!p.success) fail("open succeeds where it must not: " + print(op));
  if (found == nullptr) {
    world_.files[op.file] = std::make_shared<Object>();
    world_.files[op.file]->kind = ObjectKind::file;
    world_.files[op.file]->number = op.file;
    world_.files[op.file]->capacity_pages = 256;
  }
  d = {static_cast<i32>(fd.value()), op.has(FlagBit::read), write, world_.files[op.file]};
  if (write) ++d.object->writers;
  if (truncates && d.object->size_bytes > 0) world_.truncate(*d.object, 0);
}

void Driver::truncate_file(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  Descriptor& d = proc.files[op.file];
  Prediction p;
  if (d.object == nullptr) {
    p.refuse(Error::bad_fd);
  } else {
    p.refuse_if(!d.write, Error::invalid);
    p.refuse_if(pages_for(op.number).v > d.object->capacity_pages, Error::file_too_big);
  }
  const Result<u64> result =
      to_the_end("ftruncate", [&] { return kernel_->ftruncate(proc.pid, d.fd, op.number); });
  note(result);
  if (!result.ok()) {
    if (p.allows(result.error()) || resource_error_is_right(result.error())) return;
    if (result.error() == Error::io) {
      read_error_told(op);
      return;
    }
    fail(std::string("ftruncate refused with ") + spillway::name_of(result.error()) + ": " +
         print(op));
  }
  if (!p.success) fail("ftruncate succeeds where it must not: " + print(op));
  world_.truncate(*d.object, op.number);
}

void Driver::run_file_op(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  if (op.file >= kFilesMax) return;
  Descriptor& d = proc.files[op.file];
  switch (op.kind) {
    case OpKind::open: open_file(slot, op); return;
    case OpKind::ftruncate:
      if (op.file < kFirstProgram) truncate_file(slot, op);
      return;
    case OpKind::close: {
      const bool open = d.object != nullptr;
      if (kernel_->close(proc.pid, d.fd).ok() != open) fail("close is wrong: " + print(op));
      world_.close(d);
      return;
    }
    case OpKind::unlink: {
      const Result<u64> result = kernel_->unlink(proc.pid, path_of(op.file).c_str());
      if (result.ok() != (world_.files[op.file] != nullptr)) fail("unlink is wrong: " + print(op));
      world_.files[op.file] = nullptr;
      return;
    }
    default: fail("not an operation on files: " + print(op));
  }
}

// Each try compares what came in it: others may write before the next one.
Driver::Step Driver::perform_pread(u32 slot, Waiting* w) {
  Proc& proc = *world_.at(slot);
  const Op& op = w->op;
  if (op.file >= kFilesMax) return Step::done;
  const Descriptor& d = proc.files[op.file];
  std::vector<u8> bytes(op.len, 0xA5);
  const u64 before = w->progress;
  const Result<u64> result =
      kernel_->pread(proc.pid, d.fd, bytes.data(), op.len, op.off, &w->progress);
  note(result);
  if (d.object == nullptr || !d.read) {
    if (result.ok() || result.error() != Error::bad_fd) fail("pread is wrong: " + print(op));
    return Step::done;
  }
  const Object& file = *d.object;
  const u64 after = w->progress;
  for (u64 at = op.off + before; at < op.off + after;) {
    const u64 n = std::min(kPageSize - (at & kPageMask), op.off + after - at);
    const PageBytes page = file.page(at / kPageSize);
    if (!page.matches(static_cast<u32>(at & kPageMask), &bytes[at - op.off], n)) {
      fail("wrong bytes: pread: at " + std::to_string(at) + " of " + print(op));
    }
    at += n;
  }
  if (result.ok()) {
    if (result.value() != after) fail("pread returns other than it did: " + print(op));
    const u64 whole = file.size_bytes > op.off ? std::min(op.len, file.size_bytes - op.off) : 0;
    if (after > whole && before <= whole) fail("pread reads behind the end: " + print(op));
    // An error after some bytes is not told.
    if (after < whole && fired(Failure::read_io) == 0 && !shortage_is_possible()) {
      fail("pread reads too little: " + print(op));
    }
    return Step::done;
  }
  if (result.error() == Error::wait) return Step::wait;
  if (result.error() == Error::io) {
    read_error_told(op);
  } else if (!resource_error_is_right(result.error())) {
    fail(std::string("pread refused with ") + spillway::name_of(result.error()) + ": " + print(op));
  }
  return Step::done;
}

Driver::Step Driver::perform_pwrite(u32 slot, Waiting* w) {
  Proc& proc = *world_.at(slot);
  const Op& op = w->op;
  if (op.file >= kFirstProgram || op.len == 0) return Step::done;
  const Descriptor& d = proc.files[op.file];
  std::vector<u8> bytes(op.len);
  u8 page[kPageSize];
  for (u64 done = 0; done < op.len;) {
    const u64 at = op.off + done;
    const u64 n = std::min(kPageSize - (at & kPageMask), op.len - done);
    make_page(op.fill, op.seed, at / kPageSize, page);
    std::memcpy(&bytes[done], page + (at & kPageMask), n);
    done += n;
  }
  const u64 before = w->progress;
  const Result<u64> result =
      kernel_->pwrite(proc.pid, d.fd, bytes.data(), op.len, op.off, &w->progress);
  note(result);
  if (d.object == nullptr || !d.write) {
    if (result.ok() || result.error() != Error::bad_fd) fail("pwrite is wrong: " + print(op));
    return Step::done;
  }
  Object& file = *d.object;
  const u64 limit = file.capacity_pages * kPageSize;
  const u64 after = w->progress;
  if (after > op.len || (after > 0 && op.off + after > limit)) {
    fail("pwrite writes too much: " + print(op));
  }
  if (after > before && op.off + after > file.size_bytes) {
    // What lay behind the end becomes part of the file as zeros.
    file.set_size(op.off + after);
  }
  for (u64 at = op.off + before; at < op.off + after;) {
    const u64 n = std::min(kPageSize - (at & kPageMask), op.off + after - at);
    file.store(at / kPageSize, static_cast<u32>(at & kPageMask), &bytes[at - op.off], n);
    at += n;
  }
  if (result.ok()) {
    if (result.value() != after) fail("pwrite returns other than it did: " + print(op));
    const u64 whole = op.off < limit ? std::min(op.len, limit - op.off) : 0;
    if (after < whole && fired(Failure::read_io) == 0 && !shortage_is_possible()) {
      fail("pwrite writes too little: " + print(op));
    }
    return Step::done;
  }
  if (result.error() == Error::wait) return Step::wait;
  if (result.error() == Error::no_space && op.off >= limit) return Step::done;
  if (result.error() == Error::io) {
    read_error_told(op);
  } else if (!resource_error_is_right(result.error())) {
    fail(std::string("pwrite refused with ") + spillway::name_of(result.error()) + ": " +
         print(op));
  }
  return Step::done;
}

// fsync or msync said that a write had failed: each failure is told once.
void Driver::check_sync_error(const Op& op, Error error) {
  if (error == Error::again && shortage_is_possible()) return;
  const u64 failed =
      fired_on({Failure::write_io, Failure::write_torn, Failure::write_no_space}, 0, 0);
  if (error != Error::io && error != Error::no_space) {
    fail(std::string(name_of(op.kind)) + " refused with " + spillway::name_of(error) + ": " +
         print(op));
  }
  if (++write_errors_told_ > failed) {
    fail(std::string(name_of(op.kind)) + " tells of more failures than happened: " + print(op));
  }
}

Driver::Step Driver::perform_fsync(u32 slot, Waiting* w) {
  Proc& proc = *world_.at(slot);
  const Op& op = w->op;
  if (op.file >= kFilesMax) return Step::done;
  const Descriptor& d = proc.files[op.file];
  const Result<u64> result = kernel_->fsync(proc.pid, d.fd);
  note(result);
  if (d.object == nullptr) {
    if (result.ok() || result.error() != Error::bad_fd) fail("fsync is wrong: " + print(op));
    return Step::done;
  }
  if (!result.ok()) {
    if (result.error() == Error::wait) return Step::wait;
    check_sync_error(op, result.error());
    return Step::done;
  }
  check_on_device(*d.object, {0, d.object->size_pages()}, op);
  return Step::done;
}

// What was synced is on the device. A page that nobody has written need not be there.
void Driver::check_on_device(const Object& object, PageRange pages, const Op& op) {
  std::vector<FileView> files(64);
  const u32 count = kernel_->files(files.data(), static_cast<u32>(files.size()));
  const u32 id = mapping_id_of(object);
  for (u32 i = 0; i < std::min<u32>(count, static_cast<u32>(files.size())); ++i) {
    if (id == 0 || files[i].mapping != id) continue;
    for (u64 index = pages.first; index < std::min(pages.end, object.size_pages()); ++index) {
      const PageBytes page = object.page(index);
      const u64 valid = std::min(kPageSize, object.size_bytes - index * kPageSize);
      if (page.is_zero()) continue;
      const u8* stored = sim_.block(0).stored(files[i].first_block + index);
      if (stored != nullptr && std::memcmp(stored, page.bytes->data(), valid) == 0) continue;
      fail("not durable: a page was synced and is not on the device: page " +
           std::to_string(index) + " of file " + std::to_string(object.number) + ", " + print(op));
    }
  }
}

void Driver::run_segment_op(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  if (op.kind == OpKind::shmdt) {
    detach(slot, op);
    return;
  }
  if (op.segment >= kSegmentsMax) return;
  const ObjectPtr segment = world_.segments[op.segment];
  switch (op.kind) {
    case OpKind::shmget: {
      const bool there = segment != nullptr && !segment->dest;
      const u64 pages = pages_for(op.len).v;
      Prediction p;
      if (there) {
        p.refuse_if(op.len > segment->size_bytes, Error::invalid);
      } else {
        p.refuse_if(op.len < 1 || op.len > setup_.kernel().shm_max_bytes, Error::invalid);
        if (p.success) p.refuse_if(commit_refuses(context(proc), pages), Error::no_memory);
      }
      const Result<u64> id = kernel_->shmget(proc.pid, kKeyBase + op.segment, op.len, kIpcCreate);
      note(id);
      if (!id.ok()) {
        check_error(op, p, id.error());
        return;
      }
      if (!p.success) fail("shmget succeeds where it must not: " + print(op));
      if (there) {
        if (id.value() != segment->shm_id) fail("shmget finds another segment: " + print(op));
        return;
      }
      ObjectPtr made = std::make_shared<Object>();
      made->kind = ObjectKind::segment;
      made->number = op.segment;
      made->size_bytes = op.len;
      made->committed = pages;
      made->shm_id = static_cast<u32>(id.value());
      world_.segments[op.segment] = made;
      return;
    }
    case OpKind::shmat: attach(slot, op); return;
    case OpKind::shmctl: {
      const u32 id = segment == nullptr ? 0 : segment->shm_id;
      const u32 command = static_cast<u32>(op.number);
      const bool known = command == kIpcRmid || command == kShmLock || command == kShmUnlock;
      const Result<u64> result = kernel_->shmctl(proc.pid, id, command);
      if (result.ok() != (segment != nullptr && known)) fail("shmctl is wrong: " + print(op));
      if (!result.ok()) return;
      if (command == kIpcRmid) segment->dest = true;
      if (command == kShmLock) segment->locked = true;
      if (command == kShmUnlock) segment->locked = false;
      return;
    }
    default: fail("not an operation on segments: " + print(op));
  }
}

void Driver::attach(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  Space& space = *proc.space;
  const ObjectPtr segment = world_.segments[op.segment];
  const Context c = context(proc);
  const bool round = op.has(FlagBit::round);
  const u64 at = round ? op.at & ~kPageMask : op.at;
  Prediction p;
  p.refuse_if((op.at & kPageMask) != 0 && !round, Error::invalid);
  p.refuse_if(segment == nullptr, Error::invalid);
  if (segment != nullptr && p.success) {
    const u64 pages = segment->size_pages();
    const PageRange place{at / kPageSize, at / kPageSize + pages};
    if (at != 0) {
      p.refuse_if(!space.is_free(place) || at > top() - pages * kPageSize, Error::invalid);
      p.refuse_if(at < kMinAddress, Error::perm);
    }
    p.refuse_if(space.total_vm() + pages > space.limits.as, Error::no_memory);
    const bool locks_too_much = space.locked_vm() + pages > space.limits.memlock;
    p.refuse_if(space.lock_future && locks_too_much, Error::again);
    if (setup_.map_count_max < 1000) p.also(Error::no_memory);
  }
  const u32 flags = (op.has(FlagBit::readonly) ? kShmRdonly : 0) | (round ? kShmRnd : 0);
  const Result<u64> result = to_the_end("shmat", [&] {
    return kernel_->shmat(proc.pid, segment == nullptr ? 0 : segment->shm_id, op.at, flags);
  });
  note(result);
  if (!result.ok()) {
    check_error(op, p, result.error());
    return;
  }
  if (!p.success) fail("shmat succeeds where it must not: " + print(op));
  ModelArea a;
  const u64 first = result.value() / kPageSize;
  a.range = {first, first + segment->size_pages()};
  if ((at != 0 && result.value() != at) || !space.is_free(a.range)) {
    fail("shmat chooses a wrong place: " + print(op));
  }
  a.prot = op.has(FlagBit::readonly) ? Prot::read : Prot::read_write;
  if (op.has(FlagBit::readonly)) a.may = Prot::read_exec;
  a.locked = space.lock_future;
  a.shared = a.may_share = true;
  a.object = segment;
  space.map(a);
  if (a.locked) bring_in(&space, a.range);
}

// The segment attached at the address, perhaps in pieces by now.
void Driver::detach(u32 slot, const Op& op) {
  Proc& proc = *world_.at(slot);
  const u64 base = op.at / kPageSize;
  const Object* segment = nullptr;
  std::vector<PageRange> pieces;
  if ((op.at & kPageMask) == 0) {
    for (const ModelArea& a : proc.space->areas_in({base, kVpnEnd.v})) {
      if (a.object == nullptr || a.object->kind != ObjectKind::segment) continue;
      if (a.range.first < base || a.pgoff != a.range.first - base) continue;
      if (segment != nullptr && segment != a.object.get()) continue;
      segment = a.object.get();
      pieces.push_back(a.range);
    }
  }
  const Result<u64> result = to_the_end("shmdt", [&] { return kernel_->shmdt(proc.pid, op.at); });
  note(result);
  if (result.ok() != (segment != nullptr)) fail("shmdt is wrong: " + print(op));
  if (!result.ok()) return;
  for (const PageRange piece : pieces) proc.space->unmap(piece);
}

void Driver::forget_removed_segments() {
  for (ObjectPtr& s : world_.segments) {
    if (s != nullptr && s->dest && world_.areas_of(*s, false) == 0) s = nullptr;
  }
}

void Driver::swap_on(const Op& op) {
  if (op.device >= setup_.devices() || op.device == 0) return;
  const i32 priority = static_cast<i32>(op.number) - 1;
  const Result<u64> result =
      to_the_end("swapon", [&] { return kernel_->swapon(op.device, priority); });
  note(result);
  if (result.ok() && swap_on_[op.device]) fail("swapon succeeds although the area is on");
  if (!result.ok()) {
    if (result.error() == Error::busy && swap_on_[op.device]) return;
    if (result.error() == Error::io) {
      read_error_told(op);
      return;
    }
    // A damaged header is none.
    if (result.error() == Error::invalid && damaged() != 0) return;
    if (resource_error_is_right(result.error())) return;
    fail(std::string("swapon refused with ") + spillway::name_of(result.error()));
  }
  swap_on_[op.device] = true;
}

// Whether there may be too little memory for what lies in an area that goes off: what is in memory
// and has a slot there stays until it was served.
bool Driver::swapoff_lacks_memory() const {
  constexpr u64 kSlack = 80;
  return shortage_is_possible() || demand() + kSlack > std::min(supply(), setup_.frames);
}

Driver::Step Driver::try_swapoff() {
  const u32 device = *swapoff_;
  swapoff_short_ = swapoff_short_ || swapoff_lacks_memory();
  const u64 limit = kernel_->meminfo().commit_limit;
  const Result<u64> result = kernel_->swapoff(device);
  note(result);
  if (!result.ok() && result.error() == Error::wait) return Step::wait;
  const bool short_of_memory = swapoff_short_ || swapoff_lacks_memory();
  swapoff_short_ = false;
  swapoff_.reset();
  if (result.ok()) {
    if (!swap_on_[device]) fail("swapoff succeeds although the area is off");
    swap_on_[device] = false;
    return Step::done;
  }
  if (result.error() == Error::invalid && !swap_on_[device]) return Step::done;
  if (result.error() == Error::io && (fired(Failure::read_io) != 0 || damaged() != 0)) {
    return Step::done;
  }
  if (result.error() == Error::no_memory && short_of_memory) return Step::done;
  // Without the area more would be promised than may be.
  const u64 sizes[] = {0, setup_.swap1, setup_.swap2, setup_.swap3};
  const bool promised = setup_.overcommit == 2 && world_.committed() + sizes[device] - 1 > limit;
  if (result.error() == Error::no_memory && promised) return Step::done;
  fail(std::string("swapoff refused with ") + spillway::name_of(result.error()));
}

}  // namespace spillway::ksim
