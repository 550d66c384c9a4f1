// Going into the background: the parent waits until the child has mounted or failed, and ends with
// the child's exit code.
#pragma once

#include <string>

namespace spillway {

class Background {
 public:
  // Forks, unless `foreground`. Only the child comes back; the parent prints what the child reports
  // and exits. Throws CliError.
  explicit Background(bool foreground);
  ~Background();
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  // Lets go of the folder and the standard streams that the child was started with, but for stderr
  // if it is to print statistics at the end. Before the sandbox, which allows neither.
  void detach(bool keep_stderr);
  // The child serves: the parent exits with 0.
  void ready();
  // The child could not: the parent prints `line` and exits with `code`.
  void failed(const std::string& line, int code);
  bool in_background() const { return in_background_; }

 private:
  bool in_background_ = false;
  int pipe_ = -1;
};

// Unmounts when this process has ended, however it ended: only root may do that itself, and the
// sandbox does not let fusermount3 be started. A helper process that waits for our end does it.
class Unmounter {
 public:
  explicit Unmounter(const std::string& mountpoint);
  ~Unmounter();
  Unmounter(const Unmounter&) = delete;
  Unmounter& operator=(const Unmounter&) = delete;

 private:
  int pipe_ = -1;  // its end tells the helper
};

}  // namespace spillway
