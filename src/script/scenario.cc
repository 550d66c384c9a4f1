// Printing scenarios, and the arithmetic of their numbers.
#include "script/scenario.h"

#include "script/lexer.h"
#include "script/verbs.h"

namespace spillway {
namespace {

struct UnitText {
  const char* suffix;
  u64 factor;
};
UnitText unit_text(Unit unit) {
  switch (unit) {
    case Unit::none: return {"", 1};
    case Unit::pages: return {"p", kPageSize};
    case Unit::kib: return {"k", u64{1} << 10};
    case Unit::mib: return {"m", u64{1} << 20};
    case Unit::gib: return {"g", u64{1} << 30};
    case Unit::ns: return {"ns", 1};
    case Unit::us: return {"us", 1'000};
    case Unit::ms: return {"ms", 1'000'000};
    case Unit::s: return {"s", 1'000'000'000};
  }
  return {"", 1};
}

constexpr char kDigits[] = "0123456789abcdef";

std::string hex(u64 value) {
  std::string out;
  do {
    out.insert(out.begin(), kDigits[value & 15]);
    value >>= 4;
  } while (value != 0);
  return "0x" + out;
}

std::string print_number(const Number& number) {
  return (number.hex ? hex(number.value) : std::to_string(number.value)) +
         unit_text(number.unit).suffix;
}

std::string print_place(const Place& place) {
  std::string out = place.base.empty() ? hex(place.address) : place.base;
  for (const Number& offset : place.offsets) {
    out += (offset.negative ? "-" : "+") + print_number(offset);
  }
  return out;
}

void append_operands(const Signature& signature, const std::vector<Operand>& operands,
                     std::string* out) {
  for (std::size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i].given()) continue;
    *out += ' ';
    if (signature.params[i].mode == Param::Mode::option) *out += signature.params[i].key + "=";
    *out += print_operand(operands[i]);
  }
}

void append_statements(const std::vector<Statement>& statements, u32 depth, std::string* out) {
  for (const Statement& statement : statements) {
    *out += std::string(depth * std::size_t{2}, ' ') + print_statement(statement) + "\n";
    if (!signature_of(statement.verb).has_body) continue;
    append_statements(statement.body, depth + 1, out);
    *out += std::string(depth * std::size_t{2}, ' ') + "}\n";
  }
}

}  // namespace

u64 Number::total() const { return value * unit_text(unit).factor; }
u64 Number::pages() const {
  const u64 bytes = total();
  return bytes / kPageSize + (bytes % kPageSize != 0 ? 1 : 0);
}

const char* name_of(Compare compare) {
  switch (compare) {
    case Compare::equal: return "=";
    case Compare::not_equal: return "!=";
    case Compare::less: return "<";
    case Compare::less_equal: return "<=";
    case Compare::greater: return ">";
    case Compare::greater_equal: return ">=";
  }
  return "?";
}

bool holds(Compare compare, i64 left, i64 right) {
  switch (compare) {
    case Compare::equal: return left == right;
    case Compare::not_equal: return left != right;
    case Compare::less: return left < right;
    case Compare::less_equal: return left <= right;
    case Compare::greater: return left > right;
    case Compare::greater_equal: return left >= right;
  }
  return false;
}

bool Statement::operator==(const Statement& o) const {
  return verb == o.verb && operands == o.operands && quantity == o.quantity &&
         subject == o.subject && compare == o.compare && value == o.value && body == o.body;
}

std::string describe(const Problem& problem, std::string_view name) {
  std::string out = std::string(name) + ":" + std::to_string(problem.at.line) + ":" +
                    std::to_string(problem.at.column) + ": " + problem.what;
  if (!problem.allowed.empty()) out += "; " + problem.allowed;
  return out;
}

std::string quoted(std::string_view text) {
  // Bytes that make no sense as UTF-8 would be refused when read again.
  const bool escape_high = first_bad_utf8(text) != 0;
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += std::string("\\") + c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f || (byte >= 0x80 && escape_high)) {
      out += std::string("\\x") + kDigits[byte >> 4] + kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string print_operand(const Operand& operand) {
  switch (operand.kind) {
    case Operand::Kind::absent: return "";
    case Operand::Kind::word: return operand.text;
    case Operand::Kind::text: return quoted(operand.text);
    case Operand::Kind::number:
      return (operand.number.negative ? "-" : "") + print_number(operand.number);
    case Operand::Kind::place: return print_place(operand.place);
    case Operand::Kind::target: return operand.text + " " + print_place(operand.place);
    case Operand::Kind::note: {
      std::string out = "@" + operand.text;
      if (operand.number.value != 0) {
        out += (operand.number.negative ? "-" : "+") + print_number(operand.number);
      }
      return out;
    }
    case Operand::Kind::strings: {
      std::string out;
      for (const std::string& text : operand.list) {
        out += (out.empty() ? "" : " ") + quoted(text);
      }
      return out;
    }
  }
  return "";
}

std::string print_statement(const Statement& statement) {
  std::string out = name_of(statement.verb);
  append_operands(signature_of(statement.verb), statement.operands, &out);
  if (statement.verb == Verb::expect || statement.verb == Verb::note) {
    out += std::string(" ") + name_of(statement.quantity);
    append_operands(signature_of(statement.quantity), statement.subject, &out);
  }
  if (statement.verb == Verb::expect) {
    out += std::string(" ") + name_of(statement.compare) + " " + print_operand(statement.value);
  }
  if (signature_of(statement.verb).has_body) out += " {";
  return out;
}

std::string print_scenario(const Scenario& scenario) {
  std::string out;
  append_statements(scenario.statements, 0, &out);
  return out;
}

}  // namespace spillway
