// HostSide: the kernel beneath. Process 0 is a fresh `spw_diff_actor`, the others are its forks.
// They do system calls and accesses one at a time, when asked over their channel, so that the
// runner may look at /proc meanwhile.
#pragma once

#include <sys/types.h>

#include <array>

#include "side.h"
#include "wire.h"

namespace spillway::diff {

class HostSide final : public Side {
 public:
  // Throws SideBroken where the host forbids what is needed.
  HostSide(const Setup& setup, const std::string& actor_path);
  ~HostSide() override;
  HostSide(const HostSide&) = delete;
  HostSide& operator=(const HostSide&) = delete;

  Answer perform(const Op& op) override;
  std::vector<AreaLine> areas(u32 process) override;
  u64 object_of_file(u32 file) override { return files_[file].inode; }
  std::vector<u8> file_bytes(u32 file) override;
  u64 file_size(u32 file) override;
  const char* name() const override { return "kernel"; }
  bool refuses_whole() const override { return false; }

  // Pages of address space that process 0 had at the start.
  u64 pages_at_start() const { return pages_at_start_; }

 private:
  struct File {
    int fd = -1;
    u64 inode = 0;
  };

  void make_files(const Setup& setup);
  void start(const std::string& actor_path);
  void pin(const Setup& setup);
  void set_limit(int resource, u64 bytes);
  void wait_for_reply(u32 process);
  void request(u32 process);
  i64 call(u32 process, i64 number, u64 a = 0, u64 b = 0, u64 c = 0, u64 d = 0, u64 e = 0,
           u64 f = 0);
  void must(i64 result, const char* what);
  Answer system_call(const Op& op);
  Answer access(const Op& op);
  Answer fetch(const Op& op);
  Answer transfer(const Op& op);
  Answer fork_to(const Op& op);
  Answer end(u32 process);
  void read_proc(u32 process, const char* file);
  [[noreturn]] void broken(const std::string& text) const;

  Wire* wire_ = nullptr;
  int channel_fd_ = -1;
  std::array<File, kFilesCount> files_;
  std::array<int, kOpenFiles> opens_{-1, -1, -1, -1, -1};
  std::array<pid_t, kProcessesMax> pids_{};
  std::array<int, kProcessesMax> pidfds_{-1, -1, -1, -1};
  u64 pages_at_start_ = 0;
  std::string proc_text_;
};

// Why the kernel beneath cannot be compared with; empty if it can.
std::string host_objection();

}  // namespace spillway::diff
