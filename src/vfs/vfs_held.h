// Vfs::Held: a dentry reference that ends with its scope. For the files of Vfs only.
#pragma once

#include "vfs/vfs.h"

namespace spillway {

class Vfs::Held {
 public:
  enum Taken : u8 { kTaken };
  Held(DentryCache& cache, Dentry& dentry) : cache_(cache), dentry_(&dentry) { cache.get(dentry); }
  // Takes over a reference that the caller holds.
  Held(DentryCache& cache, Dentry* dentry, Taken) : cache_(cache), dentry_(dentry) {}
  ~Held() {
    if (dentry_ != nullptr) cache_.put(*dentry_);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  Dentry& operator*() const { return *dentry_; }
  Dentry* operator->() const { return dentry_; }
  // Gives the reference to the caller.
  Dentry* release() {
    Dentry* dentry = dentry_;
    dentry_ = nullptr;
    return dentry;
  }
  void replace(Dentry& by) {
    cache_.get(by);
    cache_.put(*dentry_);
    dentry_ = &by;
  }

 private:
  DentryCache& cache_;
  Dentry* dentry_;
};

}  // namespace spillway
