// `--name value` options for the small programs of this folder.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace programs {

// One argument list, read option by option. Ends the program with exit code 2 and one line on a
// name that nobody asked for (see finish) or a value that is not a number.
class Options {
 public:
  Options(int count, char** values) : count_(count), values_(values) {}

  const char* text(const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < count_; i += 2) {
      if (std::strcmp(values_[i], name) == 0) {
        ++used_;
        return values_[i + 1];
      }
    }
    return otherwise;
  }

  std::uint64_t number(const char* name, std::uint64_t otherwise) {
    const char* value = text(name, nullptr);
    if (value == nullptr) {
      return otherwise;
    }
    char* end = nullptr;
    const std::uint64_t result = std::strtoull(value, &end, 10);
    if (end == value || *end != '\0') {
      std::fprintf(stderr, "%s: %s wants a number, not '%s'\n", values_[0], name, value);
      std::exit(2);
    }
    return result;
  }

  // Call after the last text() or number(): every argument must have been asked for.
  void finish(const char* usage) const {
    if (count_ % 2 == 0 || used_ != (count_ - 1) / 2) {
      std::fprintf(stderr, "usage: %s %s\n", values_[0], usage);
      std::exit(2);
    }
  }

 private:
  int count_;
  char** values_;
  int used_ = 0;
};

}  // namespace programs
