#include "sim_case.h"

#include <cstdlib>
#include <sstream>

namespace spillway::sim {
namespace {

struct SetupField {
  const char* name;
  u64 Setup::*member;
};
constexpr SetupField kSetupFields[] = {
#define X(id, value, text) {#id, &Setup::id},
    SPW_SIM_SETUP(X)
#undef X
};

bool parse_setup_word(const std::string& word, Setup* setup) {
  const std::size_t equals = word.find('=');
  if (equals == std::string::npos) return false;
  for (const SetupField& field : kSetupFields) {
    if (word.substr(0, equals) != field.name) continue;
    char* end = nullptr;
    setup->*field.member = std::strtoull(word.c_str() + equals + 1, &end, 0);
    return *end == '\0';
  }
  return false;
}

}  // namespace

SimConfig Setup::machine() const {
  SimConfig c;
  c.seed = seed;
  c.frames = PageCount(frames);
  c.budget = PageCount(budget);
  c.cpus = static_cast<u32>(cpus);
  c.features = Features{.accessed_bit = accessed_bit != 0,
                        .dirty_bit = dirty_bit != 0,
                        .frame_bytes_while_mapped = bytes_while_mapped != 0,
                        .zero_page = zero_page != 0};
  c.disk_pages = PageCount(disk_pages);
  c.disk_latency_min_ns = latency_min_ns;
  c.disk_latency_max_ns = latency_max_ns;
  c.busy_one_in = static_cast<u32>(busy_one_in);
  c.quota_short_one_in = static_cast<u32>(quota_short_one_in);
  return c;
}

Config Setup::system() const {
  Config c;
  c.pool_max = PageCount(pool_max);
  c.slots_max = slots_max;
  c.commit_max = PageCount(commit_max);
  c.readahead_min = static_cast<u32>(readahead_min);
  c.readahead_max = static_cast<u32>(readahead_max);
  c.fresh_around_max = static_cast<u32>(fresh_around);
  c.mlock_max = PageCount(mlock_max);
  return c;
}

std::string print(const Setup& setup) {
  const Setup defaults;
  std::string text = "setup";
  for (const SetupField& field : kSetupFields) {
    if (setup.*field.member == defaults.*field.member) continue;
    text += std::string(" ") + field.name + "=" + std::to_string(setup.*field.member);
  }
  return text;
}

std::string print(const SimCase& c) {
  std::string text = print(c.setup) + "\n";
  for (const Op& op : c.ops) text += print(op) + "\n";
  return text;
}

std::optional<SimCase> parse_case(const std::string& text, std::string* problem) {
  SimCase c;
  std::istringstream lines(text);
  u32 number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    line = line.substr(0, line.find('#'));
    const std::string where = "line " + std::to_string(number) + ": ";
    std::istringstream words(line);
    std::string word;
    if (!(words >> word)) continue;
    if (word == "setup") {
      while (words >> word) {
        if (parse_setup_word(word, &c.setup)) continue;
        *problem = where + "cannot read '" + word + "'";
        return std::nullopt;
      }
      continue;
    }
    const std::optional<Op> op = parse_op(line, problem);
    if (!op.has_value()) {
      *problem = where + *problem;
      return std::nullopt;
    }
    if (by_task(op->kind) && op->task >= c.setup.tasks) {
      *problem = where + "there is no such task";
      return std::nullopt;
    }
    c.ops.push_back(*op);
  }
  return c;
}

}  // namespace spillway::sim
