#include "scenario/command.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/assert.h"
#include "scenario/document.h"
#include "scenario/library.h"
#include "scenario/sim_hardware.h"
#include "scenario/text_view.h"

namespace spillway {
namespace {

int complain(const std::string& text) {
  fmt::print(stderr, "spillway: scenario: {}\n", text);
  return kScenarioBad;
}

void write_out(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::optional<std::string> read_file(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return std::nullopt;
  return text.str();
}

struct Source {
  std::string name;  // for messages
  std::string text;
};

// A file if it looks like one; else a scenario of the user's folder; else one of those shipped.
std::optional<Source> find_source(const ScenarioOptions& options) {
  const std::string& name = options.name;
  const bool is_path = name.find('/') != std::string::npos || name.ends_with(".spw");
  if (is_path) {
    if (auto text = read_file(name)) return Source{name, *std::move(text)};
    return std::nullopt;
  }
  if (!options.folder.empty()) {
    const std::string path = options.folder + "/" + name + ".spw";
    if (auto text = read_file(path)) return Source{path, *std::move(text)};
  }
  for (const EmbeddedFile& file : shipped_scenarios()) {
    if (file.name == name) return Source{name + ".spw", std::string(file.text)};
  }
  return std::nullopt;
}

std::string title_of(std::string_view text) {
  std::vector<Problem> problems;
  const Scenario scenario = parse_scenario(text, &problems);
  return scenario.title;
}

int list_command(const ScenarioOptions& options) {
  std::vector<std::pair<std::string, std::string>> rows;
  for (const EmbeddedFile& file : shipped_scenarios()) {
    rows.emplace_back(std::string(file.name), title_of(file.text));
  }
  std::error_code error;
  if (!options.folder.empty()) {
    for (const auto& entry : std::filesystem::directory_iterator(options.folder, error)) {
      if (entry.path().extension() != ".spw") continue;
      const auto text = read_file(entry.path().string());
      if (text) rows.emplace_back(entry.path().stem().string(), title_of(*text));
    }
    if (error) return complain(fmt::format("{}: {}", options.folder, error.message()));
  }
  std::sort(rows.begin(), rows.end());
  std::size_t width = 0;
  for (const auto& [name, title] : rows) width = std::max(width, name.size());
  std::string out;
  for (const auto& [name, title] : rows) out += fmt::format("{:<{}}  {}\n", name, width, title);
  write_out(out);
  return kScenarioGood;
}

bool wants_colour(ColourChoice choice) {
  if (choice != ColourChoice::automatic) return choice == ColourChoice::always;
  const char* no_colour = std::getenv("NO_COLOR");
  if (no_colour != nullptr && no_colour[0] != '\0') return false;
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) == 1 && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

std::size_t text_width() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 60) return 96;
  return std::min<std::size_t>(size.ws_col, 120);
}

// One key, without waiting for the end of a line where there is a terminal. False: q, or no more
// keys can come.
bool wait_for_key() {
  write_out("-- a key for the next step, q to stop --");
  int key = 0;
  termios before{};
  if (::tcgetattr(STDIN_FILENO, &before) == 0) {
    termios raw = before;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    unsigned char byte = 'q';
    key = ::read(STDIN_FILENO, &byte, 1) == 1 ? byte : 'q';
    ::tcsetattr(STDIN_FILENO, TCSANOW, &before);
    write_out("\r\x1b[K");
  } else {
    std::string line;
    const int first = std::getchar();
    key = first;
    for (int c = first; c != EOF && c != '\n'; c = std::getchar()) {
    }
    if (first == EOF) key = 'q';
    write_out("\n");
  }
  return key != 'q';
}

// A failed assertion is a broken invariant too. What was written so far stays readable.
void on_panic(const PanicInfo& info) {
  std::fflush(stdout);
  fmt::print(stderr, "spillway: an invariant is broken: {}:{}: {}", info.file, info.line,
             info.expression);
  if (info.has_values) fmt::print(stderr, " ({} and {})", info.left, info.right);
  fmt::print(stderr, "; please report it with the scenario\n");
  std::_Exit(kScenarioInvariant);
}

// Hands each step to all who want it.
class Listeners final : public RunListener {
 public:
  void add(RunListener* listener) { all_.push_back(listener); }
  void begin(const Scenario& scenario, const Stage& stage, const Picture& picture) override {
    for (RunListener* l : all_) l->begin(scenario, stage, picture);
  }
  bool step(const StepRecord& record, const Picture& before, const Picture& after) override {
    bool on = true;
    for (RunListener* l : all_) on = l->step(record, before, after) && on;
    return on;
  }

 private:
  std::vector<RunListener*> all_;
};

int exit_code_of(RunEnd end) {
  switch (end) {
    case RunEnd::good: return kScenarioGood;
    case RunEnd::expectation: return kScenarioUnmet;
    case RunEnd::scenario: return kScenarioBad;
    case RunEnd::invariant: return kScenarioInvariant;
  }
  return kScenarioInvariant;
}

int run_scenario(const ScenarioOptions& options, const Source& source) {
  std::vector<Problem> problems;
  const Scenario scenario = parse_scenario(source.text, &problems);
  if (!problems.empty()) {
    for (const Problem& problem : problems) {
      fmt::print(stderr, "{}\n", describe(problem, source.name));
    }
    return kScenarioBad;
  }
  // Opened before the run, so that a mistyped path is told at once.
  std::ofstream html;
  if (!options.html.empty()) {
    html.open(options.html, std::ios::binary | std::ios::trunc);
    if (!html) return complain(fmt::format("{} cannot be written", options.html));
  }
  const TextStyle style{.colour = wants_colour(options.colour), .width = text_width()};
  TextView text(style, write_out, options.step ? wait_for_key : std::function<bool()>());
  Document document(html.is_open() ? Document::Pictures::yes : Document::Pictures::no);
  Listeners listeners;
  listeners.add(&document);
  if (!options.json && !options.quiet) listeners.add(&text);
  set_panic_hook(on_panic);
  SimHardware hardware;
  Runner runner(scenario, hardware, listeners, {.seed = options.seed, .policy = options.policy});
  const RunResult result = runner.run();
  const int code = exit_code_of(result.end);
  const nlohmann::json json = document.finish(result, source.name, code);
  if (html.is_open()) {
    html << html_page(json);
    html.close();
    if (!html) return complain(fmt::format("{} cannot be written", options.html));
  }
  if (options.json) {
    write_out(json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  if (result.end != RunEnd::good) {
    fmt::print(stderr, "{}\n", describe(result, source.name));
  } else if (!options.json && !options.quiet) {
    write_out(fmt::format("\n{} steps, {} operations, {} expectations: all hold.\n", result.steps,
                          result.operations, result.expectations));
  }
  return code;
}

}  // namespace

int scenario_command(const ScenarioOptions& options) {
  if (options.action == ScenarioAction::list) return list_command(options);
  const auto source = find_source(options);
  if (!source) {
    return complain(
        fmt::format("{}: there is no such scenario; see 'spillway scenario list', or "
                    "give the path of a file",
                    options.name));
  }
  if (options.action == ScenarioAction::show) {
    write_out(source->text);
    return kScenarioGood;
  }
  return run_scenario(options, *source);
}

}  // namespace spillway
