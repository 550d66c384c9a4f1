// From tokens to one typed statement, along the signature of its verb.
#include <algorithm>

#include "script/parser.h"

namespace spillway {
namespace {

std::string list_words(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

std::vector<std::string> words_of(const Param& param) {
  std::vector<std::string> out;
  for (const Choice& choice : param.choices) out.push_back(choice.word);
  return out;
}

bool is_size(Unit unit) {
  return unit == Unit::none || unit == Unit::pages || unit == Unit::kib || unit == Unit::mib ||
         unit == Unit::gib;
}

class LineParser {
 public:
  LineParser(const std::vector<Token>& tokens, u32 line) : tokens_(tokens), line_(line) {}

  ParsedLine run() {
    ParsedLine out;
    Statement& statement = out.statement;
    parse_statement(statement);
    if (ok_ && signature_of(statement.verb).has_body) {
      if (peek().is("{")) {
        take();
        out.opens = true;
      } else {
        expected("{");
      }
    }
    if (ok_ && peek().kind != Token::Kind::end) unexpected(statement);
    out.ok = ok_;
    out.problem = problem_;
    return out;
  }

 private:
  const Token& peek(std::size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  const Token& take() {
    const Token& token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  Position here() const { return {line_, peek().column}; }

  void fail(Position at, std::string what, std::string allowed) {
    if (!ok_) return;
    ok_ = false;
    problem_ = {at, std::move(what), std::move(allowed)};
  }
  // What stands here is not what is wanted.
  void expected(const std::string& wanted) {
    if (peek().kind == Token::Kind::bad) {
      return fail(here(), peek().text + ", " + describe(peek()), "wanted: " + wanted);
    }
    fail(here(), describe(peek()) + " is not what belongs here", "wanted: " + wanted);
  }
  void unexpected(const Statement& statement) {
    if (peek().kind == Token::Kind::bad) return expected("the end of the line");
    const bool asks = statement.verb == Verb::expect || statement.verb == Verb::note;
    const std::string usage =
        asks ? std::string(name_of(statement.quantity)) + " " + usage_of(statement.quantity)
             : std::string(name_of(statement.verb)) + " " + usage_of(statement.verb);
    fail(here(), describe(peek()) + " does not belong here", "usage: " + usage);
  }

  void parse_statement(Statement& statement) {
    statement.at = here();
    if (peek().kind != Token::Kind::word) return expected("an operation, such as write or expect");
    const auto verb = verb_named(peek().text);
    if (!verb) {
      std::vector<std::string> names;
      for (u32 i = 0; i < kVerbCount; ++i) names.emplace_back(name_of(static_cast<Verb>(i)));
      return fail(here(), describe(peek()) + " is no operation", "there are: " + list_words(names));
    }
    take();
    statement.verb = *verb;
    parse_params(signature_of(*verb), &statement.operands);
    if (*verb == Verb::expect || *verb == Verb::note) parse_quantity(statement);
    if (*verb == Verb::expect) parse_comparison(statement);
  }

  void parse_quantity(Statement& statement) {
    if (!ok_) return;
    const auto quantity =
        peek().kind == Token::Kind::word ? quantity_named(peek().text) : std::nullopt;
    if (!quantity) {
      std::vector<std::string> names;
      for (u32 i = 0; i < kQuantityCount; ++i) {
        names.emplace_back(name_of(static_cast<Quantity>(i)));
      }
      return fail(here(), describe(peek()) + " cannot be asked for",
                  "there are: " + list_words(names));
    }
    take();
    statement.quantity = *quantity;
    parse_params(signature_of(*quantity), &statement.subject);
  }

  void parse_comparison(Statement& statement) {
    if (!ok_) return;
    bool found = false;
    for (u32 i = 0; i <= static_cast<u32>(Compare::greater_equal); ++i) {
      const auto compare = static_cast<Compare>(i);
      if (!peek().is(name_of(compare))) continue;
      statement.compare = compare;
      found = true;
    }
    if (!found) return expected("a comparison: =, !=, <, <=, > or >=");
    const Position sign = here();
    take();
    const ParamType answer = answer_of(statement.quantity, statement.subject);
    const bool ordered =
        statement.compare != Compare::equal && statement.compare != Compare::not_equal;
    if (ordered && answer != ParamType::number) {
      return fail(sign, "only numbers are more or less", "wanted: = or !=");
    }
    if (peek().is("@") && answer == ParamType::number) {
      parse_note(statement.value);
    } else if (answer == ParamType::number) {
      parse_number(statement.value, "a number such as 7, 3p or -1, or @NOTE");
    } else {
      parse_operand(answer, statement.value);
    }
  }

  void parse_params(const Signature& signature, std::vector<Operand>* operands) {
    operands->assign(signature.params.size(), Operand{});
    for (std::size_t i = 0; i < signature.params.size() && ok_; ++i) {
      const Param& param = signature.params[i];
      if (param.mode == Param::Mode::required) {
        if (param.type == ParamType::choice) {
          parse_choice(param, (*operands)[i]);
        } else {
          parse_operand(param.type, (*operands)[i]);
        }
      } else if (param.mode == Param::Mode::rest) {
        parse_rest((*operands)[i]);
      }
    }
    while (ok_ && parse_optional(signature, operands)) {
    }
  }

  // An option or an optional word, in any order. False: the next token is neither.
  bool parse_optional(const Signature& signature, std::vector<Operand>* operands) {
    if (peek().kind != Token::Kind::word) return false;
    const bool option = peek(1).is("=") && !peek(1).blank;
    for (std::size_t i = 0; i < signature.params.size(); ++i) {
      const Param& param = signature.params[i];
      Operand& operand = (*operands)[i];
      const bool fits = option ? param.mode == Param::Mode::option && param.key == peek().text
                               : param.mode == Param::Mode::word && is_choice(param, peek().text);
      if (!fits) continue;
      if (operand.given()) {
        fail(here(),
             describe(peek()) + " comes a second time, or contradicts " + print_operand(operand),
             "once is enough");
        return false;
      }
      if (!option) {
        parse_choice(param, operand);
        return true;
      }
      take();
      take();
      if (param.type == ParamType::choice) {
        parse_choice(param, operand);
      } else {
        parse_operand(param.type, operand);
      }
      return true;
    }
    return false;
  }

  static bool is_choice(const Param& param, const std::string& word) {
    return std::any_of(param.choices.begin(), param.choices.end(),
                       [&](const Choice& choice) { return choice.word == word; });
  }

  void parse_choice(const Param& param, Operand& operand) {
    if (peek().kind != Token::Kind::word || !is_choice(param, peek().text)) {
      return expected(list_words(words_of(param)));
    }
    parse_word(operand);
  }

  void parse_word(Operand& operand) {
    operand.at = here();
    operand.kind = Operand::Kind::word;
    operand.text = take().text;
  }

  void parse_rest(Operand& operand) {
    operand.at = here();
    if (peek().kind != Token::Kind::text) return expected(describe(ParamType::text));
    operand.kind = Operand::Kind::strings;
    while (peek().kind == Token::Kind::text) operand.list.push_back(take().text);
  }

  void parse_operand(ParamType type, Operand& operand) {
    operand.at = here();
    switch (type) {
      case ParamType::text: return parse_text(operand, describe(type));
      case ParamType::process:
      case ParamType::child:
      case ParamType::name:
      case ParamType::segment:
      case ParamType::device:
        if (peek().kind != Token::Kind::word) return expected(describe(type));
        return parse_word(operand);
      case ParamType::place: return parse_place(operand);
      case ParamType::target: return parse_target(operand);
      case ParamType::size: return parse_sized(operand, describe(type));
      case ParamType::number: return parse_plain(operand, describe(type));
      case ParamType::integer: return parse_integer(operand);
      case ParamType::limit:
        if (peek().text == "unlimited") return parse_word(operand);
        return parse_sized(operand, describe(type));
      case ParamType::data: return parse_data(operand);
      case ParamType::prot: return parse_prot(operand);
      case ParamType::time: return parse_time(operand);
      case ParamType::toggle:
      case ParamType::yesno:
      case ParamType::signal:
      case ParamType::error:
      case ParamType::queue:
      case ParamType::state:
      case ParamType::owner:
      case ParamType::kind:
      case ParamType::counter: return parse_known(type, operand);
      case ParamType::choice: break;
    }
    expected("nothing");
  }

  void parse_text(Operand& operand, const std::string& wanted) {
    if (peek().kind != Token::Kind::text) return expected(wanted);
    operand.kind = Operand::Kind::text;
    operand.text = take().text;
  }

  void parse_known(ParamType type, Operand& operand) {
    const std::vector<std::string> words = spillway::words_of(type);
    if (peek().kind != Token::Kind::word ||
        std::find(words.begin(), words.end(), peek().text) == words.end()) {
      return expected(describe(type));
    }
    parse_word(operand);
  }

  // A number with any unit, and perhaps a sign.
  void parse_number(Operand& operand, const std::string& wanted) {
    operand.at = here();
    const bool negative = peek().is("-") && peek(1).kind == Token::Kind::number && !peek(1).blank;
    if (negative) take();
    if (peek().kind != Token::Kind::number) return expected(wanted);
    operand.kind = Operand::Kind::number;
    operand.number = take().number;
    // There is one zero only, so that printing and reading agree.
    operand.number.negative = negative && operand.number.value != 0;
    if (operand.number.total() > static_cast<u64>(~u64{0} >> 1)) {
      fail(operand.at, "a number that is too large", "wanted: " + wanted);
    }
  }

  void parse_integer(Operand& operand) {
    const std::string wanted = describe(ParamType::integer);
    parse_number(operand, wanted);
    if (ok_ && operand.number.unit != Unit::none) {
      fail(operand.at, "a plain number has no unit", "wanted: " + wanted);
    }
    if (ok_ && operand.number.value > 0x7fffffff) {
      fail(operand.at, "a number that is too large", "wanted: " + wanted);
    }
  }

  void parse_plain(Operand& operand, const std::string& wanted) {
    if (peek().kind != Token::Kind::number) return expected(wanted);
    operand.kind = Operand::Kind::number;
    operand.number = take().number;
    if (operand.number.unit != Unit::none) {
      fail(operand.at, "a plain number has no unit", "wanted: " + wanted);
    }
  }

  void parse_sized(Operand& operand, const std::string& wanted) {
    if (peek().kind != Token::Kind::number) return expected(wanted);
    operand.kind = Operand::Kind::number;
    operand.number = take().number;
    if (!is_size(operand.number.unit)) {
      fail(operand.at, "a time is no size", "wanted: " + wanted);
    }
  }

  void parse_time(Operand& operand) {
    const std::string wanted = describe(ParamType::time);
    if (peek().kind != Token::Kind::number) return expected(wanted);
    operand.kind = Operand::Kind::number;
    operand.number = take().number;
    const Unit unit = operand.number.unit;
    if (is_size(unit)) fail(operand.at, "a time has a unit of time", "wanted: " + wanted);
  }

  void parse_data(Operand& operand) {
    const std::string wanted = describe(ParamType::data);
    if (peek().kind == Token::Kind::text) return parse_text(operand, wanted);
    parse_plain(operand, wanted);
    if (ok_ && operand.number.value > 0xff) {
      fail(operand.at, "a byte is 0 to 255", "wanted: " + wanted);
    }
  }

  void parse_prot(Operand& operand) {
    static constexpr const char* kProts[] = {"none", "r", "w", "x", "rw", "rx", "wx", "rwx"};
    const bool known = peek().kind == Token::Kind::word &&
                       std::any_of(std::begin(kProts), std::end(kProts),
                                   [&](const char* prot) { return peek().text == prot; });
    if (!known) return expected(describe(ParamType::prot));
    parse_word(operand);
  }

  void parse_place(Operand& operand) {
    operand.at = here();
    operand.kind = Operand::Kind::place;
    parse_place_into(operand.place);
  }

  void parse_place_into(Place& place) {
    const std::string wanted = describe(ParamType::place);
    if (peek().kind == Token::Kind::word) {
      place.base = take().text;
    } else if (peek().kind == Token::Kind::number && peek().number.unit == Unit::none) {
      place.address = take().number.value;
    } else {
      return expected(wanted);
    }
    while ((peek().is("+") || peek().is("-")) && !peek().blank) {
      const bool negative = take().is("-");
      if (peek().kind != Token::Kind::number || peek().blank || !is_size(peek().number.unit)) {
        return expected("an offset such as 3p or 8");
      }
      Number offset = take().number;
      offset.negative = negative;
      if (offset.total() > (u64{1} << 48)) {
        return fail(here(), "an offset that is too large", "addresses have 48 bits");
      }
      place.offsets.push_back(offset);
    }
  }

  void parse_note(Operand& operand) {
    operand.at = here();
    take();
    if (peek().kind != Token::Kind::word || peek().blank) return expected("the name of a note");
    operand.kind = Operand::Kind::note;
    operand.text = take().text;
    if ((!peek().is("+") && !peek().is("-")) || peek().blank) return;
    const bool negative = take().is("-");
    if (peek().kind != Token::Kind::number || peek().blank) return expected("a number such as 7");
    operand.number = take().number;
    operand.number.negative = negative;
    // Adding nothing is not printed, so it is not kept either.
    if (operand.number.value == 0) operand.number = Number{};
    if (operand.number.total() > static_cast<u64>(~u64{0} >> 1)) {
      fail(operand.at, "a number that is too large", "");
    }
  }

  void parse_target(Operand& operand) {
    operand.at = here();
    if (peek().is("@")) return parse_note(operand);
    if (peek().kind != Token::Kind::word) return expected(describe(ParamType::target));
    operand.kind = Operand::Kind::target;
    operand.text = take().text;
    parse_place_into(operand.place);
  }

  const std::vector<Token>& tokens_;
  const u32 line_;
  std::size_t at_ = 0;
  bool ok_ = true;
  Problem problem_;
};

}  // namespace

ParsedLine parse_line(const std::vector<Token>& tokens, u32 line) {
  return LineParser(tokens, line).run();
}

}  // namespace spillway
