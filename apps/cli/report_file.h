// The file of --report: proven writable before the program starts, and complete or absent after.
#pragma once

#include <string>

#include "base/types.h"

namespace spillway {

class ReportFile {
 public:
  // Resolves links and proves that `path` can be written, leaving nothing behind.
  // Throws CliError naming `origin` and the path.
  ReportFile(const std::string& origin, const std::string& path);

  // Writes `text` to a neighbour and renames it into place. A pipe or device is written directly,
  // and so is what stdout or stderr lead to. Throws CliError.
  void write(const std::string& text) const;

 private:
  enum class Place : u8 { file, descriptor, device };

  [[noreturn]] void fail(const char* what, int error) const;
  void replace(const std::string& text) const;

  std::string thing_;
  std::string path_;
  Place place_ = Place::file;
  int fd_ = -1;  // of `descriptor`
};

}  // namespace spillway
