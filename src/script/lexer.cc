#include "script/lexer.h"

#include <array>

namespace spillway {
namespace {

constexpr std::string_view kBlanks = " \t\r";
// Two-character signs first: the longest one that fits is meant.
constexpr std::array<std::string_view, 12> kSigns = {"!=", "<=", ">=", "=", "<", ">",
                                                     "+",  "-",  "@",  "{", "}", "|"};

struct UnitRow {
  std::string_view suffix;
  Unit unit;
};
constexpr UnitRow kUnits[] = {{"p", Unit::pages}, {"k", Unit::kib}, {"m", Unit::mib},
                              {"g", Unit::gib},   {"ns", Unit::ns}, {"us", Unit::us},
                              {"ms", Unit::ms},   {"s", Unit::s}};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_word(char c) { return is_letter(c) || is_digit(c); }

i32 digit_of(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class LineLexer {
 public:
  explicit LineLexer(std::string_view line) : line_(line) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    do {
      tokens.push_back(next());
    } while (tokens.back().kind != Token::Kind::end);
    return tokens;
  }

 private:
  char peek(std::size_t ahead = 0) const {
    return at_ + ahead < line_.size() ? line_[at_ + ahead] : '\0';
  }
  bool done() const { return at_ >= line_.size(); }

  Token next() {
    Token token;
    const std::size_t before = at_;
    while (!done() && kBlanks.find(line_[at_]) != std::string_view::npos) ++at_;
    token.blank = at_ != before || at_ == 0;
    if (!done() && line_[at_] == '#') at_ = line_.size();
    token.column = static_cast<u32>(at_ + 1);
    if (done()) return token;
    const std::size_t start = at_;
    if (is_letter(peek())) {
      take_word(token);
    } else if (is_digit(peek())) {
      take_number(token);
    } else if (peek() == '"') {
      take_text(token);
    } else {
      take_sign(token);
    }
    token.source = line_.substr(start, at_ - start);
    return token;
  }

  void take_word(Token& token) {
    token.kind = Token::Kind::word;
    while (is_word(peek())) token.text += line_[at_++];
  }

  void bad(Token& token, const char* why) {
    token.kind = Token::Kind::bad;
    token.text = why;
  }

  void take_number(Token& token) {
    token.kind = Token::Kind::number;
    Number& number = token.number;
    u32 base = 10;
    if (peek() == '0' && (peek(1) == 'x' || peek(1) == 'X')) {
      base = 16;
      number.hex = true;
      at_ += 2;
    }
    bool fits = true;
    bool any = false;
    for (i32 digit = digit_of(peek()); digit >= 0 && static_cast<u32>(digit) < base;
         digit = digit_of(peek())) {
      const u64 value = static_cast<u64>(digit);
      if (number.value > (~u64{0} - value) / base) fits = false;
      number.value = number.value * base + value;
      any = true;
      ++at_;
    }
    std::string suffix;
    while (is_word(peek())) suffix += line_[at_++];
    if (!any) return bad(token, "a number without digits");
    if (!suffix.empty() && !take_unit(number, suffix)) {
      return bad(token, "a number with an unknown unit");
    }
    Number one = number;
    one.value = 1;
    if (!fits || number.value > ~u64{0} / one.total()) bad(token, "a number that is too large");
  }

  static bool take_unit(Number& number, const std::string& suffix) {
    for (const UnitRow& row : kUnits) {
      if (suffix != row.suffix) continue;
      number.unit = row.unit;
      return true;
    }
    return false;
  }

  void take_text(Token& token) {
    token.kind = Token::Kind::text;
    ++at_;
    while (!done() && peek() != '"') {
      if (peek() != '\\') {
        token.text += line_[at_++];
        continue;
      }
      ++at_;
      if (!take_escape(token.text)) return bad_escape(token);
    }
    if (done()) return bad(token, "a text without its closing quote");
    ++at_;
  }

  void bad_escape(Token& token) {
    at_ = line_.size();
    bad(token, "an unknown escape in a text: \\\\, \\\", \\n, \\t and \\xHH are known");
  }

  bool take_escape(std::string& out) {
    const char c = peek();
    if (done()) return false;
    ++at_;
    switch (c) {
      case '\\': out += '\\'; return true;
      case '"': out += '"'; return true;
      case 'n': out += '\n'; return true;
      case 't': out += '\t'; return true;
      case 'x': break;
      default: return false;
    }
    const i32 high = digit_of(peek());
    const i32 low = digit_of(peek(1));
    if (high < 0 || low < 0) return false;
    out += static_cast<char>(high * 16 + low);
    at_ += 2;
    return true;
  }

  void take_sign(Token& token) {
    for (const std::string_view sign : kSigns) {
      if (!line_.substr(at_).starts_with(sign)) continue;
      token.kind = Token::Kind::sign;
      token.text = sign;
      at_ += sign.size();
      return;
    }
    ++at_;
    bad(token, "a character that has no meaning here");
  }

  std::string_view line_;
  std::size_t at_ = 0;
};

}  // namespace

std::vector<Token> lex_line(std::string_view line) { return LineLexer(line).run(); }

u32 first_bad_utf8(std::string_view line) {
  for (std::size_t i = 0; i < line.size();) {
    const auto first = static_cast<unsigned char>(line[i]);
    std::size_t more = 0;
    u32 code = first;
    if (first >= 0xf0 && first < 0xf8) {
      more = 3;
      code = first & 0x07;
    } else if (first >= 0xe0 && first < 0xf0) {
      more = 2;
      code = first & 0x0f;
    } else if (first >= 0xc0 && first < 0xe0) {
      more = 1;
      code = first & 0x1f;
    } else if (first >= 0x80) {
      return static_cast<u32>(i + 1);
    }
    for (std::size_t k = 1; k <= more; ++k) {
      const auto next = i + k < line.size() ? static_cast<unsigned char>(line[i + k]) : 0U;
      if ((next & 0xc0) != 0x80) return static_cast<u32>(i + 1);
      code = code << 6 | (next & 0x3f);
    }
    constexpr u32 kSmallest[] = {0, 0x80, 0x800, 0x10000};
    if (code < kSmallest[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      return static_cast<u32>(i + 1);
    }
    i += more + 1;
  }
  return 0;
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::end: return "the end of the line";
    case Token::Kind::text: return "the text " + quoted(token.text);
    case Token::Kind::bad: {
      // Bytes that cannot be shown are written as escapes, without the quotes around them.
      const std::string shown = quoted(token.source);
      return "'" + shown.substr(1, shown.size() - 2) + "'";
    }
    case Token::Kind::word:
    case Token::Kind::number:
    case Token::Kind::sign: return "'" + token.source + "'";
  }
  return "?";
}

}  // namespace spillway
