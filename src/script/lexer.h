// The lexer of scenario files: one line becomes tokens. It knows words, numbers with units, texts
// between quotes, and signs; a `#` outside a text begins a comment. Never fails on any bytes: what
// it does not know becomes a token of kind `bad` that says why.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "script/scenario.h"

namespace spillway {

struct Token {
  enum class Kind : u8 { word, number, text, sign, end, bad };
  Kind kind = Kind::end;
  std::string text;    // the word, the sign, the contents of a text, or what is wrong
  std::string source;  // as it stands in the file, for messages
  Number number;       // never negative
  bool blank = false;  // blanks, or the beginning of the line, stand before it
  u32 column = 0;

  bool is(std::string_view sign) const { return kind == Kind::sign && text == sign; }
};

// The tokens of a line, the last of kind `end`.
std::vector<Token> lex_line(std::string_view line);
// The first byte that is not UTF-8, as a column from 1; 0 = all is well.
u32 first_bad_utf8(std::string_view line);
// "'foo'", or "the end of the line".
std::string describe(const Token& token);

}  // namespace spillway
