// What the operations of FuseServer have in common.
#pragma once

#include <cerrno>
#include <exception>

#include "mount/fuse_server.h"

namespace spillway {

inline FuseServer& server_of(fuse_req_t req) {
  return *static_cast<FuseServer*>(fuse_req_userdata(req));
}

inline OpenFile& open_file(const fuse_file_info* info) {
  return *reinterpret_cast<OpenFile*>(info->fh);
}

// Runs an operation; what throws (memory of the standard library) becomes ENOMEM.
template <class Body>
void guarded(fuse_req_t req, Body body) {
  try {
    body(server_of(req));
  } catch (const std::exception&) {
    (void)fuse_reply_err(req, ENOMEM);
  }
}

template <class T>
int error_number(const Result<T>& result) {
  return result.ok() ? 0 : errno_of(result.error());
}

// call(inode) with the inode of `id` held, under the engine lock, until it need not wait.
template <class Call>
auto with_inode(FuseServer& server, fuse_ino_t id, Call call)
    -> decltype(call(std::declval<Inode&>())) {
  return server.engine().run([&]() -> decltype(call(std::declval<Inode&>())) {
    const Result<Inode*> inode = server.ids().get(id);
    if (!inode.ok()) return inode.error();
    const auto result = call(*inode.value());
    server.vfs().put(*inode.value());
    return result;
  });
}

// The operations, for the table in fuse_server.cc.
void add_name_operations(fuse_lowlevel_ops& table);
void add_data_operations(fuse_lowlevel_ops& table);

}  // namespace spillway
