#include "cli/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

namespace spillway {
namespace {

constexpr const char* kDoctorSchema = "spillway.doctor/1";
constexpr std::size_t kTextColumn = 30;
constexpr std::size_t kWidth = 96;

const char* name_of(CheckStatus status) {
  switch (status) {
    case CheckStatus::ok: return "ok";
    case CheckStatus::unused: return "-";
    case CheckStatus::warn: return "warn";
    case CheckStatus::missing: return "missing";
  }
  return "unknown";
}

// Words of `text` from `indent` on; the first line begins behind what is already there.
std::string column(const std::string& text, std::size_t indent) {
  std::string out;
  std::size_t at = indent;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (at > indent && at + 1 + word.size() > kWidth) {
      out += "\n" + std::string(indent, ' ');
      at = indent;
    } else if (at > indent) {
      out += ' ';
      ++at;
    }
    out += word;
    at += word.size();
  }
  return out + "\n";
}

}  // namespace

bool will_run(const std::vector<Check>& checks) {
  return std::none_of(checks.begin(), checks.end(),
                      [](const Check& check) { return check.status == CheckStatus::missing; });
}

std::string doctor_text(const std::vector<Check>& checks) {
  std::string out;
  for (const Check& check : checks) {
    out += fmt::format("{:<9}{:<21}", name_of(check.status), check.title) +
           column(check.text, kTextColumn);
    if (!check.remedy.empty()) {
      out += std::string(kTextColumn, ' ') + "-> " + column(check.remedy, kTextColumn + 3);
    }
  }
  const auto warnings = std::count_if(checks.begin(), checks.end(), [](const Check& check) {
    return check.status == CheckStatus::warn;
  });
  out += "\n";
  if (!will_run(checks)) {
    out += "'spillway run' will not work here: see what is missing above.\n";
  } else if (warnings > 0) {
    out += fmt::format("'spillway run' will work here; {} remark{} above.\n", warnings,
                       warnings == 1 ? "" : "s");
  } else {
    out += "'spillway run' will work here.\n";
  }
  return out;
}

std::string doctor_json(const std::vector<Check>& checks) {
  nlohmann::ordered_json report;
  report["schema"] = kDoctorSchema;
  report["run_will_work"] = will_run(checks);
  report["checks"] = nlohmann::ordered_json::array();
  for (const Check& check : checks) {
    nlohmann::ordered_json item;
    item["id"] = check.id;
    item["status"] = name_of(check.status);
    item["text"] = check.text;
    if (!check.remedy.empty()) item["remedy"] = check.remedy;
    report["checks"].push_back(item);
  }
  return report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

int doctor_command(const DoctorOptions& options) {
  std::vector<Check> checks;
  check_uffd(checks);
  check_engine(checks);
  check_limits(checks);
  check_swap(options.swap_dir, checks);
  fmt::print("{}", options.json ? doctor_json(checks) : doctor_text(checks));
  return will_run(checks) ? 0 : 1;
}

}  // namespace spillway
