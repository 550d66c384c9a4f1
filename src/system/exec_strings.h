// Where exec takes its arguments from: lists of the host, or the memory of the program that calls.
// Thread safety: the engine lock.
#pragma once

#include "system/user_memory.h"

namespace spillway {

enum class ExecList : u8 { arguments, environment };

class ExecStrings {
 public:
  static constexpr u32 kMax = 1024;  // of one list

  // too_big: more than kMax. Errors of the caller's memory as copy_from_user.
  virtual Result<u32> count(ExecList list) = 0;
  // Bytes of string i with its zero byte; too_big beyond `max`.
  virtual Result<u64> length(ExecList list, u32 i, u64 max) = 0;
  // Bytes [from, from + n) of it.
  virtual Status copy(ExecList list, u32 i, u64 from, u8* out, u64 n) = 0;

 protected:
  ~ExecStrings() = default;
};

// Null-terminated lists of the caller's own memory.
class HostStrings final : public ExecStrings {
 public:
  HostStrings(const char* const* argv, const char* const* envp) : lists_{argv, envp} {}
  Result<u32> count(ExecList list) override;
  Result<u64> length(ExecList list, u32 i, u64 max) override;
  Status copy(ExecList list, u32 i, u64 from, u8* out, u64 n) override;

 private:
  const char* const* list(ExecList l) const { return lists_[static_cast<u32>(l)]; }
  const char* const* lists_[2];
};

// Null-terminated lists of 64-bit addresses in a space, as a program hands them to execve.
class UserStrings final : public ExecStrings {
 public:
  UserStrings(SystemImpl& sys, AddressSpace& space, VirtAddr argv, VirtAddr envp)
      : sys_(sys), space_(space), lists_{argv, envp} {}
  Result<u32> count(ExecList list) override;
  Result<u64> length(ExecList list, u32 i, u64 max) override;
  Status copy(ExecList list, u32 i, u64 from, u8* out, u64 n) override;

 private:
  Result<VirtAddr> address(ExecList list, u32 i);
  SystemImpl& sys_;
  AddressSpace& space_;
  VirtAddr lists_[2];
};

}  // namespace spillway
