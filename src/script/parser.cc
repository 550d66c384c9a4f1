// From lines to nested statements.
#include "script/parser.h"

#include <deque>

namespace spillway {
namespace {

class ScenarioParser {
 public:
  explicit ScenarioParser(std::vector<Problem>* problems) : problems_(*problems) {
    open_.push_back({&scenario_.statements, {}});
  }

  void line(std::string_view text, u32 number) {
    const std::vector<Token> tokens = lex_line(text);
    if (tokens[0].kind == Token::Kind::end) return;
    if (tokens[0].is("}")) return close(tokens, number);
    ParsedLine parsed = parse_line(tokens, number);
    if (!parsed.ok) {
      report(parsed.problem);
      // The block of a wrong line is read all the same: its end must not count as too many.
      if (!tokens.empty() && tokens.size() >= 2 && tokens[tokens.size() - 2].is("{")) {
        open({number, 1});
      }
      return;
    }
    Statement& statement = parsed.statement;
    const Position at = statement.at;
    if (statement.verb == Verb::title && scenario_.title.empty()) {
      scenario_.title = statement.operands[0].text;
    }
    open_.back().statements->push_back(std::move(statement));
    if (parsed.opens) open(at);
  }

  Scenario finish(u32 lines) {
    if (open_.size() > 1) {
      const Position at = open_.back().at;
      report({{lines, 1},
              "the block that begins in line " + std::to_string(at.line) + " does not end",
              "wanted: }"});
    }
    return std::move(scenario_);
  }

 private:
  struct Open {
    std::vector<Statement>* statements;
    Position at;
  };

  void open(Position at) {
    if (open_.size() > kNestingMax) {
      if (!too_deep_)
        report({at, "blocks are nested too deeply",
                "at most " + std::to_string(kNestingMax) + " levels"});
      too_deep_ = true;
    }
    // Of a wrong line there may be no statement to hang the block on.
    std::vector<Statement>& statements = *open_.back().statements;
    const bool fits = !statements.empty() && statements.back().at.line == at.line;
    discarded_.emplace_back();
    open_.push_back({fits && !too_deep_ ? &statements.back().body : &discarded_.back(), at});
  }

  void close(const std::vector<Token>& tokens, u32 number) {
    if (tokens[1].kind != Token::Kind::end) {
      report({{number, tokens[1].column},
              describe(tokens[1]) + " is not what belongs here",
              "wanted: the end of the line"});
    }
    if (open_.size() == 1) {
      report({{number, tokens[0].column}, "there is no block to end", "blocks begin with {"});
      return;
    }
    open_.pop_back();
  }

  void report(Problem problem) {
    if (problems_.size() < kProblemsMax) problems_.push_back(std::move(problem));
  }

  std::vector<Problem>& problems_;
  Scenario scenario_;
  std::vector<Open> open_;
  std::deque<std::vector<Statement>> discarded_;
  bool too_deep_ = false;
};

}  // namespace

Scenario parse_scenario(std::string_view text, std::vector<Problem>* problems) {
  problems->clear();
  if (text.size() > kScenarioBytesMax) {
    problems->push_back({{1, 1},
                         "the file is too large",
                         "at most " + std::to_string(kScenarioBytesMax) + " bytes"});
    return {};
  }
  ScenarioParser parser(problems);
  u32 number = 0;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    ++number;
    if (const u32 column = first_bad_utf8(line); column != 0) {
      if (problems->size() < kProblemsMax) {
        problems->push_back({{number, column}, "a byte that is not UTF-8", ""});
      }
    } else {
      parser.line(line, number);
    }
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
  }
  Scenario scenario = parser.finish(number);
  if (problems->empty()) check_scenario(scenario, problems);
  return scenario;
}

}  // namespace spillway
