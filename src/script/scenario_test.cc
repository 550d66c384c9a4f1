// Goal: what is printed reads back the same, mistakes are told with line, column and what would be
// right, and no bytes at all can harm the parser. Method: statements drawn from the signatures
// themselves; a table of mistakes; mutations of a good file.
#include "script/scenario.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/prng.h"
#include "script/parser.h"

namespace spillway {
namespace {

constexpr const char* kSample = R"(title "A sample"   # with a remark
text "Everything that has a \"form\" of its own.\n"
machine frames=64 cpus=2 policy=linux24 cluster=3 min=4 low=8 high=12 strict_stack=on
swap 256 priority=-5
file "data" 10p pattern=7
program "prog" code=4p data=2p bss=0x3000
process A
mmap A buf 10p rw populate
write A buf+0x3p-8 "text\x00\xff"
step "A block" {
  repeat 3 {
    touch A buf+1p 4p write
    age
  }
  fork A B
  expect frame B buf+2p queue = active
  note f pfn A buf
  expect pfn B buf <= @f+1
  expect frame @f state != free
}
exec B "prog" "one" "two" fails=ENOMEM
mmap B f 3p r shared file="data" offset=1p open=r
fail files read_io nth=2 times=3
advance 30s
)";

std::vector<Problem> problems_of(std::string_view text) {
  std::vector<Problem> problems;
  parse_scenario(text, &problems);
  return problems;
}

std::string all_of(const std::vector<Problem>& problems) {
  std::string out;
  for (const Problem& problem : problems) out += describe(problem, "file") + "\n";
  return out;
}

TEST(Scenario, prints_what_reads_back_equal) {
  std::vector<Problem> problems;
  const Scenario first = parse_scenario(kSample, &problems);
  ASSERT_TRUE(problems.empty()) << all_of(problems);
  EXPECT_EQ(first.title, "A sample");
  const std::string printed = print_scenario(first);
  const Scenario second = parse_scenario(printed, &problems);
  ASSERT_TRUE(problems.empty()) << all_of(problems) << printed;
  EXPECT_EQ(first, second) << printed;
  EXPECT_EQ(print_scenario(second), printed);
  EXPECT_NE(printed.find("  repeat 3 {\n    touch A buf+1p 4p write\n"), std::string::npos);
  EXPECT_NE(printed.find("write A buf+0x3p-8 \"text\\x00\\xff\"\n"), std::string::npos) << printed;
}

// Draws operands that a signature allows, whatever they mean.
class Draw {
 public:
  explicit Draw(u64 seed) : prng_(seed) {}

  Statement statement() {
    Statement s;
    s.verb = static_cast<Verb>(prng_.below(kVerbCount));
    s.operands = operands(signature_of(s.verb));
    if (s.verb != Verb::expect && s.verb != Verb::note) return s;
    s.quantity = static_cast<Quantity>(prng_.below(kQuantityCount));
    s.subject = operands(signature_of(s.quantity));
    if (s.verb == Verb::note) return s;
    const ParamType answer = answer_of(s.quantity, s.subject);
    s.compare = static_cast<Compare>(prng_.below(answer == ParamType::number ? 6 : 2));
    s.value = answer == ParamType::number && prng_.one_in(4)
                  ? note()
                  : one(answer == ParamType::number ? ParamType::integer : answer);
    return s;
  }

 private:
  std::vector<Operand> operands(const Signature& signature) {
    std::vector<Operand> out;
    for (const Param& param : signature.params) {
      Operand o;
      if (param.mode == Param::Mode::rest) {
        o.kind = Operand::Kind::strings;
        for (u64 i = 0; i <= prng_.below(3); ++i) o.list.push_back(text());
      } else if (param.mode == Param::Mode::required || prng_.one_in(2)) {
        o = param.type == ParamType::choice
                ? word(param.choices[prng_.below(param.choices.size())].word)
                : one(param.type);
      }
      out.push_back(o);
    }
    return out;
  }

  std::string text() {
    std::string out;
    for (u64 i = prng_.below(8); i > 0; --i) out += static_cast<char>(prng_.below(256));
    return prng_.one_in(2) ? "plain ä" : out;
  }
  static Operand word(const std::string& text) {
    Operand o;
    o.kind = Operand::Kind::word;
    o.text = text;
    return o;
  }
  Operand named() { return word(prng_.one_in(2) ? "A" : "buf_2"); }
  Operand number(u64 most, Unit from, Unit to) {
    Operand o;
    o.kind = Operand::Kind::number;
    o.number.value = prng_.below(most + 1);
    o.number.hex = prng_.one_in(3);
    o.number.unit = static_cast<Unit>(prng_.between(static_cast<u64>(from), static_cast<u64>(to)));
    return o;
  }
  Operand place() {
    Operand o;
    o.kind = Operand::Kind::place;
    if (prng_.one_in(3)) {
      o.place.address = prng_.next();
    } else {
      o.place.base = named().text;
    }
    for (u64 i = prng_.below(3); i > 0; --i) {
      o.place.offsets.push_back(number(1000, Unit::none, Unit::gib).number);
      o.place.offsets.back().negative = prng_.one_in(2);
    }
    return o;
  }
  Operand note() {
    Operand o = prng_.one_in(2) ? number(9, Unit::none, Unit::none) : Operand{};
    if (o.number.value == 0) o.number = Number{};
    o.number.negative = o.number.value != 0 && prng_.one_in(2);
    o.kind = Operand::Kind::note;
    o.text = "n";
    return o;
  }
  Operand one(ParamType type) {
    const std::vector<std::string> words = words_of(type);
    if (!words.empty()) return word(words[prng_.below(words.size())]);
    switch (type) {
      case ParamType::text: return quoted_text();
      case ParamType::place: return place();
      case ParamType::target: {
        if (prng_.one_in(3)) return note();
        Operand o = place();
        o.kind = Operand::Kind::target;
        o.text = "A";
        return o;
      }
      case ParamType::size: return number(1000, Unit::none, Unit::gib);
      case ParamType::limit:
        return prng_.one_in(2) ? word("unlimited") : number(99, Unit::none, Unit::gib);
      case ParamType::number: return number(1000, Unit::none, Unit::none);
      case ParamType::integer: {
        Operand o = number(1000, Unit::none, Unit::none);
        o.number.negative = o.number.value != 0 && prng_.one_in(2);
        return o;
      }
      case ParamType::data:
        return prng_.one_in(2) ? quoted_text() : number(255, Unit::none, Unit::none);
      case ParamType::prot: return word("rw");
      case ParamType::time: return number(1000, Unit::ns, Unit::s);
      default: return named();
    }
  }
  Operand quoted_text() {
    Operand o;
    o.kind = Operand::Kind::text;
    o.text = text();
    return o;
  }

  Prng prng_;
};

TEST(Scenario, any_statement_prints_and_parses) {
  for (u64 seed = 1; seed <= 20000; ++seed) {
    const Statement drawn = Draw(seed).statement();
    const std::string line = print_statement(drawn);
    const ParsedLine parsed = parse_line(lex_line(line), 1);
    ASSERT_TRUE(parsed.ok) << "seed " << seed << ": " << line << "\n"
                           << describe(parsed.problem, "line");
    ASSERT_EQ(parsed.statement, drawn) << "seed " << seed << ": " << line << "\n"
                                       << print_statement(parsed.statement);
    ASSERT_EQ(print_statement(parsed.statement), line) << "seed " << seed;
  }
}

struct Mistake {
  const char* text;     // after a title in line 1
  const char* problem;  // how its description begins
};
constexpr Mistake kMistakes[] = {
    // Lexer.
    {"process A\nwrite A stack-1 0xZZ", "3:17: a number without digits, '0xZZ'; wanted: a byte"},
    {"swap 3q", "2:6: a number with an unknown unit, '3q'; wanted: a number"},
    {"swap 99999999999999999999", "2:6: a number that is too large, "},
    {"file \"data\" 99999999999999999g", "2:13: a number that is too large, "},
    {"text \"no end", "2:6: a text without its closing quote, "},
    {"text \"\\q\"", "2:6: an unknown escape in a text"},
    {"text \"\\x4\"", "2:6: an unknown escape in a text"},
    {"process A ;", "2:11: a character that has no meaning here, ';'"},
    {"text \"\xff\"", "2:7: a byte that is not UTF-8"},
    // Statements.
    {"proces A", "2:1: 'proces' is no operation; there are: title, text, machine, "},
    {"3", "2:1: '3' is not what belongs here; wanted: an operation"},
    {"process",
     "2:8: the end of the line is not what belongs here; wanted: a name for the process"},
    {"process A B", "2:11: 'B' does not belong here; usage: process CHILD"},
    {"machine frames=64 frames=65", "2:19: 'frames' comes a second time"},
    {"machine frames", "2:9: 'frames' does not belong here; usage: machine [frames=NUMBER]"},
    {"machine policy=lru", "2:16: 'lru' is not what belongs here; wanted: linux24, two_list, "},
    {"machine frames=64p", "2:16: a plain number has no unit; wanted: a number such as 7"},
    {"machine strict_stack=yes", "2:22: 'yes' is not what belongs here; wanted: on or off"},
    {"process A\nmmap A b 3p rw private shared", "3:24: 'shared' comes a second time, or contra"},
    {"process A\nmmap A b 3s rw", "3:10: a time is no size; wanted: a size"},
    {"process A\nmmap A b 3p wr", "3:13: 'wr' is not what belongs here; wanted: none, or letters"},
    {"process A\nread A stack- 1", "3:15: '1' is not what belongs here; wanted: an offset"},
    {"process A\nread A stack -1", "3:14: '-' does not belong here; usage: read PROCESS PLACE"},
    {"process A\nwrite A stack-1 256", "3:17: a byte is 0 to 255"},
    {"process A\nread A stack signal=SEGV", "3:21: 'SEGV' is not what belongs here; wanted: a sig"},
    {"process A\nmunmap A 0 1p fails=EVERY", "3:21: 'EVERY' is not what belongs here; wanted: an "},
    {"advance 5", "2:9: a time has a unit of time; wanted: a time"},
    {"process A\nexec A 3", "3:8: '3' is not what belongs here; wanted: a text"},
    // Expectations.
    {"expect fre = 3", "2:8: 'fre' cannot be asked for; there are: rss, "},
    {"expect free", "2:12: the end of the line is not what belongs here; wanted: a comparison"},
    {"expect free = many", "2:15: 'many' is not what belongs here; wanted: a number"},
    {"expect counter pgfalt = 1", "2:16: 'pgfalt' is not what belongs here; wanted: a counter"},
    {"process A\nexpect alive A > yes", "3:16: only numbers are more or less; wanted: = or !="},
    {"process A\nexpect entry A stack-1 = gone", "3:26: 'gone' is not what belongs here; wanted: "},
    {"expect free = @n", "2:15: there is no note 'n'"},
    {"expect frame @n age = 1", "2:14: there is no note 'n'"},
    // Blocks.
    {"step \"x\"", "2:9: the end of the line is not what belongs here; wanted: {"},
    {"step \"x\" {", "2:1: the block that begins in line 2 does not end; wanted: }"},
    {"}", "2:1: there is no block to end; blocks begin with {"},
    {"step \"x\" {\n} process A", "3:3: 'process' is not what belongs here; wanted: the end"},
    {"step \"x\" {\nstep \"y\" {\n}\n}", "3:1: a step cannot stand in a block"},
    {"repeat 0 {\n}", "2:8: the number of times is out of range; wanted: 1 to "},
    // Names and stages.
    {"read A stack-1", "2:6: there is no process 'A'; make one with: process A"},
    {"process A\nprocess A", "3:9: there is a process 'A' already"},
    {"process A\nread A buf", "3:8: no area was named 'buf'; there are: heap, "},
    {"process A\nmmap A heap 1p rw", "3:8: 'heap' always means the same"},
    {"process A\nmachine frames=64", "3:1: machine comes too late; it belongs before"},
    {"swap 8\nmachine frames=64", "3:1: machine comes too late; it belongs before"},
    {"machine frames=64\nmachine cpus=2", "3:1: a second machine"},
    {"title \"again\"", "2:1: a second title"},
    {"machine frames=4", "2:16: frames is out of range; wanted: 16 to 65536"},
    {"machine min=8 low=4 high=12", "2:1: the watermarks do not fit together"},
    {"swapoff swap0", "2:9: there is no device 'swap0'; make one with: swap, file, or disk"},
    {"process A\nmmap A f 1p r file=\"x\"", "3:20: there is no file \"x\"; make one with"},
    {"process A\nmmap A f 1p r offset=1p", "3:22: offset= without a file"},
    {"process A\nmmap A f 1p r fixed", "3:15: fixed without an address; add: at=PLACE"},
    {"process A\ncpu A 1", "3:7: there is no such CPU"},
    {"process A\nmincore A stack-1p 1p expect=\"12\"", "3:30: a vector is made of 0 and 1"},
    {"process A\nshmat A seg s", "3:9: there is no segment 'seg'"},
    {"file \"a\" 1p\nfile \"a\" 1p", "3:6: there is a file \"a\" already"},
    {"disk 8 block=100", "2:14: blocks of that size are not possible; wanted: 512"},
    {"disk 0", "2:6: the number of pages is out of range; wanted: 1 to 65536"},
    {"disk 8\nbread disk1 0", "3:7: there is no device 'disk1'; there are: disk0"},
    {"swap 8\nbread swap0 0", "3:7: 'swap0' is no disk; make one with: disk"},
    {"swap 8\nexpect block swap0 0 dirty = yes", "3:14: 'swap0' is no disk"},
    {"disk 8\nbdirty disk0 0 1 count=0", "3:24: count is out of range"},
    {"make \"/a\" directory size=1p", "2:26: a directory has no size"},
    {"make \"/f%\" file size=2p count=40000",
     "2:22: files that are too large; at most 65536 pages in all"},
    {"vread \"a\" 0", "2:7: there is no area \"a\"; make one with: vmalloc"},
    {"bdflush nfract=101", "2:16: nfract is out of range; wanted: 0 to 100"},
    {"kalloc \"x\"", "2:8: there is no cache \"x\"; make one with: kcache"},
    {"kcache \"x\" 4", "2:12: objects of that size are not possible; wanted: 8 to 32p"},
    {"kcache \"a name that is too long\" 64", "2:8: a cache's name has 1 to 18 bytes"},
};

TEST(Scenario, mistakes_have_line_column_and_remedy) {
  for (const Mistake& mistake : kMistakes) {
    const auto problems = problems_of("title \"t\"\n" + std::string(mistake.text) + "\n");
    ASSERT_FALSE(problems.empty()) << mistake.text;
    const std::string text = describe(problems[0], "f");
    EXPECT_EQ(text.substr(0, 2 + std::string_view(mistake.problem).size()),
              "f:" + std::string(mistake.problem))
        << mistake.text << "\n"
        << all_of(problems);
  }
  EXPECT_EQ(all_of(problems_of("process A\n")),
            "file:1:1: the scenario has no title; it begins with: title \"...\"\n");
}

TEST(Scenario, every_mistake_is_told_up_to_a_limit) {
  const auto problems = problems_of("title \"t\"\nfoo\nbar {\n  baz\n}\nprocess A\n");
  EXPECT_EQ(problems.size(), 3U) << all_of(problems);
  std::string many = "title \"t\"\n";
  for (int i = 0; i < 100; ++i) many += "foo\n";
  EXPECT_EQ(problems_of(many).size(), kProblemsMax);
}

TEST(Scenario, depth_and_size_are_limited) {
  std::string deep = "title \"t\"\n";
  for (int i = 0; i < 5000; ++i) deep += "repeat 2 {\n";
  for (int i = 0; i < 5000; ++i) deep += "}\n";
  const auto problems = problems_of(deep);
  ASSERT_EQ(problems.size(), 1U) << all_of(problems);
  EXPECT_EQ(problems[0].what, "blocks are nested too deeply");
  EXPECT_EQ(problems[0].at.line, 2 + kNestingMax);
  const std::string large(kScenarioBytesMax + 1, '\n');
  EXPECT_EQ(problems_of(large)[0].what, "the file is too large");
}

// Whatever the bytes: a tree that prints and reads back, or problems.
void try_bytes(const std::string& text, u64 seed) {
  std::vector<Problem> problems;
  const Scenario scenario = parse_scenario(text, &problems);
  if (!problems.empty()) {
    for (const Problem& problem : problems) {
      ASSERT_GT(problem.at.line, 0U) << seed;
      ASSERT_GT(problem.at.column, 0U) << seed;
      ASSERT_EQ(first_bad_utf8(describe(problem, "f")), 0U) << seed;
    }
    return;
  }
  const Scenario again = parse_scenario(print_scenario(scenario), &problems);
  ASSERT_TRUE(problems.empty()) << seed << ": " << all_of(problems);
  ASSERT_EQ(scenario, again) << seed;
}

TEST(Scenario, random_bytes_and_mutations_do_no_harm) {
  for (u64 seed = 1; seed <= 3000; ++seed) {
    Prng prng(seed);
    std::string text = kSample;
    if (prng.one_in(4)) {
      text.clear();
      for (u64 i = prng.below(200); i > 0; --i) text += static_cast<char>(prng.below(256));
    }
    for (u64 i = prng.between(1, 6); i > 0 && !text.empty(); --i) {
      const std::size_t at = prng.below(text.size());
      const std::size_t count = prng.between(1, 12);
      switch (prng.below(4)) {
        case 0: text[at] = static_cast<char>(prng.below(256)); break;
        case 1: text.erase(at, count); break;
        case 2: text.insert(at, text.substr(prng.below(text.size()), count)); break;
        default: text[at] = "{}=+-@\"\\# \n0x"[prng.below(13)]; break;
      }
    }
    try_bytes(text, seed);
  }
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Scenario, corpus_of_the_fuzzer_and_shipped_files) {
  u64 files = 0;
  for (const char* folder : {"/tests/fuzz/scenario", "/scenarios"}) {
    const std::string path = std::string(SPW_SOURCE_DIR) + folder;
    if (!std::filesystem::exists(path)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      try_bytes(read_file(entry.path().string()), ++files);
    }
  }
  EXPECT_GE(files, 3U);
}

TEST(ScenarioDocument, every_signature_is_explained) {
  const std::string text = read_file(SPW_SOURCE_DIR "/docs/scenario-language.md");
  ASSERT_FALSE(text.empty()) << "docs/scenario-language.md is missing";
  const auto expect_line = [&](std::string_view name, std::string usage, const char* help) {
    // A bar inside a cell of a table is escaped.
    for (std::size_t at = 0; (at = usage.find('|', at)) != std::string::npos; at += 2) {
      usage.insert(at, 1, '\\');
    }
    const std::string row =
        "| `" + std::string(name) + (usage.empty() ? "" : " ") + usage + "` | " + help + " |";
    EXPECT_NE(text.find(row), std::string::npos) << "docs/scenario-language.md needs:\n" << row;
  };
  for (u32 i = 0; i < kVerbCount; ++i) {
    const auto verb = static_cast<Verb>(i);
    expect_line(name_of(verb), usage_of(verb), help_of(verb));
  }
  for (u32 i = 0; i < kQuantityCount; ++i) {
    const auto quantity = static_cast<Quantity>(i);
    expect_line(name_of(quantity), usage_of(quantity), help_of(quantity));
  }
}

}  // namespace
}  // namespace spillway
