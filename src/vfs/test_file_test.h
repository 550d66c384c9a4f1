// A file for tests of higher rooms.
#pragma once

#include <gtest/gtest.h>

#include "vfs/vfs.h"

namespace spillway {

// A file of `pages` pages of zeros in the root directory, held, with room for `capacity_pages`
// (0: for no more).
inline Inode* make_test_file(Vfs& vfs, const char* name, u64 pages, u64 capacity_pages = 0) {
  NewInode made;
  made.capacity_pages = capacity_pages != 0 ? capacity_pages : pages;
  Inode* inode = vfs.create(vfs.root(), Name::of(name), made).value();
  EXPECT_TRUE(vfs.set_size(*inode, pages * kPageSize).ok());
  return inode;
}

}  // namespace spillway
