#include "cli/sizes.h"

#include <fmt/format.h>

#include <cmath>

#include "base/parse_size.h"
#include "cli/exit_codes.h"

namespace spillway {

u64 size_of(const Setting& setting, u64 whole, const std::string& whole_name) {
  const Result<u64> parsed = parse_size(setting.text.c_str(), whole);
  if (parsed.ok()) return parsed.value();
  if (parsed.error() == Error::no_space) {
    throw CliError(fmt::format("{} {}", setting.origin, setting.text),
                   "is more than the 16 EiB that 64 bits can hold", "give a smaller size");
  }
  throw CliError(
      fmt::format("{} '{}'", setting.origin, setting.text), "is not a size",
      fmt::format("write 512M, 1.5G, 96Mi, 500MB, plain bytes, or 50% of {}", whole_name));
}

std::string show_size(u64 bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  unsigned unit = 0;
  // 1023.95 and more would print as 1024.0 of the smaller unit.
  while (value >= 1023.95 && unit < 6) {
    value /= 1024;
    ++unit;
  }
  const bool whole = std::llround(value * 10) % 10 == 0;
  return whole ? fmt::format("{:.0f} {}", value, kUnits[unit])
               : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string show_count(u64 n) {
  std::string digits = std::to_string(n);
  for (std::size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

}  // namespace spillway
