// Images for tests: made by mke2fs, the same for the same options every time, and judged by e2fsck.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "base/types.h"

namespace spillway {

// A file of a name of its own that goes with its object.
class TempPath {
 public:
  TempPath() {
    char path[] = "/tmp/spw_ext_XXXXXX";
    const int fd = ::mkstemp(path);
    EXPECT_GE(fd, 0);
    if (fd >= 0) ::close(fd);
    path_ = path;
  }
  ~TempPath() { ::unlink(path_.c_str()); }
  TempPath(const TempPath&) = delete;
  TempPath& operator=(const TempPath&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct CommandEnd {
  int code = -1;
  std::string output;
};
inline CommandEnd run_command(const std::string& command) {
  CommandEnd end;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return end;
  char buffer[4096];
  for (size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) != 0;) {
    end.output.append(buffer, n);
  }
  const int status = ::pclose(pipe);
  end.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return end;
}

using Image = std::string;

inline Image read_file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  Image image(static_cast<u64>(in.tellg()), '\0');
  in.seekg(0).read(image.data(), static_cast<long>(image.size()));
  return image;
}
inline void write_file_bytes(const std::string& path, const Image& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<long>(bytes.size()));
}

// The same image for the same options, every time: fixed UUID, hash seed and time.
inline Image make_image(const std::string& options, u64 kib, const std::string& more = "") {
  const TempPath file;
  const CommandEnd made = run_command(
      "PATH=$PATH:/sbin:/usr/sbin E2FSPROGS_FAKE_TIME=1700000000 mke2fs -q -F "
      "-U 6bd1a7a2-0f0e-4a56-9cf3-0123456789ab "
      "-E hash_seed=11111111-2222-3333-4444-555555555555 " +
      options + " " + more + " " + file.path() + " " + std::to_string(kib) + "k");
  EXPECT_EQ(made.code, 0) << made.output;
  return read_file_bytes(file.path());
}

// e2fsck's exit code: 0 clean, 1 repaired (-y), 4 errors left (-n).
inline CommandEnd e2fsck(const Image& image, const char* how, Image* repaired = nullptr) {
  const TempPath file;
  write_file_bytes(file.path(), image);
  CommandEnd end =
      run_command("PATH=$PATH:/sbin:/usr/sbin e2fsck -f " + std::string(how) + " " + file.path());
  if (repaired != nullptr) *repaired = read_file_bytes(file.path());
  return end;
}

}  // namespace spillway
