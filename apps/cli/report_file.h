// The file of --report: proven writable before the program starts, and complete or absent after.
#pragma once

#include <string>

namespace spillway {

class ReportFile {
 public:
  // Resolves links and proves that `path` can be written, leaving nothing behind.
  // Throws CliError naming `origin` and the path.
  ReportFile(const std::string& origin, const std::string& path);

  // Writes `text` to a neighbour and renames it into place; a pipe or device is written directly.
  // Throws CliError.
  void write(const std::string& text) const;

 private:
  [[noreturn]] void fail(const char* what, int error) const;

  std::string thing_;
  std::string path_;
  bool regular_ = true;
};

}  // namespace spillway
