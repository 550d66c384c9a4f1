// Settings that are sizes: where they came from, their value, and how they are shown.
#pragma once

#include <string>

#include "base/types.h"

namespace spillway {

// A setting as the user wrote it. `origin` is what to name in an error: `--ram` or `SPILLWAY_RAM`;
// it is empty when the setting was not given.
struct Setting {
  std::string text;
  std::string origin;

  bool given() const { return !origin.empty(); }
};

// The bytes that `setting` stands for; percentages are taken of `whole`, which `whole_name` tells
// in words. Throws CliError naming the setting and the units when it is not a size.
u64 size_of(const Setting& setting, u64 whole, const std::string& whole_name);

// `512 MiB`, `1.5 GiB`, `300 B`: at most one decimal, powers of 1024.
std::string show_size(u64 bytes);

// `1,234,567`.
std::string show_count(u64 n);

}  // namespace spillway
