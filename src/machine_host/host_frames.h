// The arena: one mapping of as many pages as the whole budget, registered with userfaultfd, so
// that no page can appear in it but by bring_online. Frame N's home is its Nth page.
//
// Thread safety: the engine lock.
#pragma once

#include "machine/frames.h"
#include "machine_host/ledger.h"

namespace spillway {

class HostFrames final : public Frames {
 public:
  // Maps the arena for `count` frames. Quota comes from `ledger`, held by `self`.
  Status prepare(PageCount count, Ledger& ledger, LedgerProcess& self);
  // Puts the arena under `uffd`; 0 or a negative errno. Again in a forked child.
  i64 register_with(int uffd);
  void set_process(LedgerProcess& self) { self_ = &self; }
  void unprepare();

  // Obtains `count` frames of quota for the start of the engine, waiting up to `timeout_ns` for
  // other processes of the tree to give some back; false: they did not.
  bool wait_for_quota(PageCount count, u64 timeout_ns);

  PageCount acquire_quota(PageCount want) override;
  void release_quota(PageCount count) override;
  PageCount quota_wanted_back() override;
  Status bring_online(Pfn first, PageCount count) override;
  void take_offline(Pfn first, PageCount count) override;

  u64 home(Pfn pfn) const { return reinterpret_cast<u64>(bytes(pfn)); }
  u64 start() const { return reinterpret_cast<u64>(base_); }
  u64 length() const { return count_.bytes(); }
  // Puts zeros where nothing is; for frames whose page was dropped elsewhere.
  Status fill_with_zeros(u64 start, u64 bytes);

 private:
  Ledger* ledger_ = nullptr;
  LedgerProcess* self_ = nullptr;
  int uffd_ = -1;
  u64 granted_ahead_ = 0;  // by wait_for_quota, not yet asked for
  u64 zeros_ = 0;          // a read-only mapping of zero pages to copy from
  // What quota_wanted_back last saw: most faults need only this comparison.
  u32 need_seen_ = 0;
  bool need_open_ = false;
};

}  // namespace spillway
