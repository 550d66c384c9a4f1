// The parser's two halves, for each other: parse_scenario (scenario.h) is what others call.
#pragma once

#include "script/lexer.h"
#include "script/verbs.h"

namespace spillway {

// One line without its block: a statement, or what is wrong. `opens` tells whether it ends with an
// opening brace.
struct ParsedLine {
  Statement statement;
  bool opens = false;
  bool ok = true;
  Problem problem;
};
ParsedLine parse_line(const std::vector<Token>& tokens, u32 line);

// Whether names are known before they are used, stages are set before anything happens, and so
// on: what can be told without running.
void check_scenario(const Scenario& scenario, std::vector<Problem>* problems);

}  // namespace spillway
