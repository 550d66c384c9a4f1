// What is wrong with a scenario that reads well: names that nobody gave, stages that are set too
// late, numbers out of range.
#include <algorithm>
#include <map>
#include <set>

#include "script/parser.h"

namespace spillway {
namespace {

constexpr const char* kBuiltinPlaces[] = {"heap", "brk",  "stack", "stack_bottom",
                                          "sp",   "code", "data",  "bss"};

bool is_builtin(const std::string& name) {
  return std::any_of(std::begin(kBuiltinPlaces), std::end(kBuiltinPlaces),
                     [&](const char* word) { return name == word; });
}

bool is_stage(Verb verb) {
  return verb == Verb::title || verb == Verb::machine || verb == Verb::swap || verb == Verb::file ||
         verb == Verb::program || verb == Verb::disk;
}

struct Bounds {
  const char* key;
  u64 least;
  u64 most;
};
// Small enough to be drawn, large enough for a working set; the reasons for single limits are
// those of what they configure.
constexpr Bounds kMachineBounds[] = {
    {"frames", 16, 65536},  // the fewest with which a kernel boots and a process runs
    {"cpus", 1, 16},
    {"cluster", 0, 5},  // 2^5 pages; a request has 16 frames, and windows
                        // may be two
    {"min", 0, 65536},
    {"low", 0, 65536},
    {"high", 0, 65536},
    {"guard_gap", 0, 65536},
    {"ratio", 0, 1000},
    {"pool", 0, 65536},
    {"file_pages", 1, 1 << 20},
    {"seed", 0, ~u64{0}},
};

class Checker {
 public:
  explicit Checker(std::vector<Problem>* problems) : problems_(*problems) {}

  void run(const Scenario& scenario) {
    const std::vector<Statement>& all = scenario.statements;
    if (all.empty() || all[0].verb != Verb::title) {
      report(all.empty() ? Position{1, 1} : all[0].at, "the scenario has no title",
             "it begins with: title \"...\"");
    }
    for (const Statement& statement : all) check(statement, nullptr);
  }

 private:
  void report(Position at, std::string what, std::string allowed) {
    if (problems_.size() < kProblemsMax) {
      problems_.push_back({at, std::move(what), std::move(allowed)});
    }
  }

  void check(const Statement& s, const Statement* block) {
    check_stage(s, block);
    check_operands(signature_of(s.verb), s.operands, accepts_failure(s));
    if (s.verb == Verb::expect || s.verb == Verb::note) {
      check_operands(signature_of(s.quantity), s.subject, Strict::yes);
      check_note(s.value);
    }
    check_verb(s);
    for (const Statement& inner : s.body) check(inner, &s);
    define(s);
  }

  enum class Strict : u8 { no, yes };
  // A call that is to fail may name what does not exist.
  static Strict accepts_failure(const Statement& s) {
    const Signature& signature = signature_of(s.verb);
    for (std::size_t i = 0; i < signature.params.size(); ++i) {
      if (signature.params[i].key == "fails" && s.operands[i].given()) return Strict::no;
    }
    return Strict::yes;
  }

  void check_stage(const Statement& s, const Statement* block) {
    if (is_stage(s.verb) && block != nullptr) {
      return report(s.at, std::string(name_of(s.verb)) + " cannot stand in a block",
                    "it belongs before the first operation");
    }
    if (s.verb == Verb::step && block != nullptr) {
      return report(s.at, "a step cannot stand in a block", "steps follow one another");
    }
    if (is_stage(s.verb) && acting_) {
      return report(s.at, std::string(name_of(s.verb)) + " comes too late",
                    "it belongs before the first operation");
    }
    const bool once = s.verb == Verb::title || s.verb == Verb::machine;
    if (once && !seen_.insert(s.verb).second) {
      return report(s.at, std::string("a second ") + name_of(s.verb), "once is enough");
    }
    if (s.verb == Verb::machine && seen_.count(Verb::swap) + seen_.count(Verb::file) != 0) {
      report(s.at, "machine comes too late", "it belongs before swap and file");
    }
    seen_.insert(s.verb);
    if (!is_stage(s.verb) && s.verb != Verb::text) acting_ = true;
  }

  void check_operands(const Signature& signature, const std::vector<Operand>& operands,
                      Strict strict) {
    for (std::size_t i = 0; i < operands.size(); ++i) {
      const Operand& o = operands[i];
      if (!o.given()) continue;
      switch (signature.params[i].type) {
        case ParamType::process: check_process(o); break;
        case ParamType::child:
          if (processes_.contains(o.text)) {
            report(o.at, "there is a process '" + o.text + "' already", "wanted: another name");
          }
          break;
        case ParamType::name:
          if (is_builtin(o.text)) {
            report(o.at, "'" + o.text + "' always means the same", "wanted: another name");
          }
          break;
        case ParamType::place: check_place(o); break;
        case ParamType::target:
          if (o.kind == Operand::Kind::note) {
            check_note(o);
          } else {
            check_process(o);
            check_place(o);
          }
          break;
        case ParamType::device: check_device(o); break;
        case ParamType::size:
          if (o.number.total() > (u64{1} << 48)) {
            report(o.at, "a size that is too large", "addresses have 48 bits");
          }
          break;
        default: break;
      }
      if (signature.params[i].key == "file" && strict == Strict::yes) check_file(o);
    }
  }

  void check_process(const Operand& o) {
    if (processes_.contains(o.text)) return;
    std::string known;
    for (const std::string& name : processes_) known += (known.empty() ? "" : ", ") + name;
    report(o.at, "there is no process '" + o.text + "'",
           known.empty() ? "make one with: process " + o.text : "there are: " + known);
  }

  void check_place(const Operand& o) {
    const std::string& base = o.place.base;
    if (base.empty() || is_builtin(base) || areas_.contains(base)) return;
    std::string known;
    for (const char* word : kBuiltinPlaces) known += std::string(known.empty() ? "" : ", ") + word;
    for (const std::string& name : areas_) known += ", " + name;
    report(o.at, "no area was named '" + base + "'", "there are: " + known);
  }

  void check_note(const Operand& o) {
    if (o.kind != Operand::Kind::note || notes_.contains(o.text)) return;
    report(o.at, "there is no note '" + o.text + "'", "make one with: note NAME QUANTITY");
  }

  void check_device(const Operand& o) {
    if (o.text == "files" && (!files_.empty() || makes_names_)) return;
    for (u64 i = 0; i < swaps_; ++i) {
      if (o.text == "swap" + std::to_string(i)) return;
    }
    for (u64 i = 0; i < disks_; ++i) {
      if (o.text == "disk" + std::to_string(i)) return;
    }
    std::string known = files_.empty() && !makes_names_ ? "" : "files";
    for (u64 i = 0; i < swaps_; ++i)
      known += (known.empty() ? "swap" : ", swap") + std::to_string(i);
    for (u64 i = 0; i < disks_; ++i)
      known += (known.empty() ? "disk" : ", disk") + std::to_string(i);
    report(o.at, "there is no device '" + o.text + "'",
           known.empty() ? "make one with: swap, file, or disk" : "there are: " + known);
  }

  // A device with a buffer cache.
  void check_disk(const Operand& o) {
    if (o.text.starts_with("disk")) return;
    report(o.at, "'" + o.text + "' is no disk", "make one with: disk");
  }

  void check_cache(const Operand& o) {
    if (caches_.contains(o.text)) return;
    report(o.at, "there is no cache " + quoted(o.text), "make one with: kcache");
  }

  void check_new_disk(const Statement& s) {
    check_bounds(s.operands[0], "the number of pages", 1, 65536);
    const Operand& block = operand(s, "block");
    const u64 size = block.given() ? block.number.total() : 1024;
    if (size < 512 || size > 4096 || (size & (size - 1)) != 0) {
      report(block.at, "blocks of that size are not possible", "wanted: 512, 1024, 2048 or 4096");
    }
    if (swaps_ + disks_ == kSwapsMax) {
      report(s.at, "too many devices", "at most " + std::to_string(kSwapsMax) + " swaps and disks");
    }
  }

  void check_new_cache(const Statement& s) {
    const Operand& name = s.operands[0];
    if (name.text.empty() || name.text.size() > 18) {
      report(name.at, "a cache's name has 1 to 18 bytes", "");
    }
    const u64 size = s.operands[1].number.total();
    if (accepts_failure(s) == Strict::yes && (size < 8 || size > 32 * kPageSize)) {
      report(s.operands[1].at, "objects of that size are not possible", "wanted: 8 to 32p");
    }
  }

  void check_file(const Operand& o) {
    // What a path from the root names, the run will show.
    if (files_.contains(o.text) || (makes_names_ && o.text.starts_with('/'))) return;
    report(o.at, "there is no file " + quoted(o.text), "make one with: file, program, or make");
  }

  void check_bounds(const Operand& o, const std::string& key, u64 least, u64 most) {
    if (!o.given() || (o.number.value >= least && o.number.value <= most)) return;
    report(o.at, key + " is out of range",
           "wanted: " + std::to_string(least) + " to " + std::to_string(most));
  }

  void check_verb(const Statement& s) {
    switch (s.verb) {
      case Verb::machine:
        for (const Bounds& b : kMachineBounds)
          check_bounds(operand(s, b.key), b.key, b.least, b.most);
        check_watermarks(s);
        break;
      case Verb::swap:
        check_bounds(s.operands[0], "the number of slots", 1, 1 << 20);
        if (swaps_ + disks_ == kSwapsMax) {
          report(s.at, "too many swap areas", "at most " + std::to_string(kSwapsMax));
        }
        break;
      case Verb::file:
      case Verb::program: check_new_file(s); break;
      case Verb::repeat: check_bounds(s.operands[0], "the number of times", 1, 1'000'000); break;
      case Verb::run:
      case Verb::age: check_bounds(operand(s, "times"), "times", 1, 1'000'000); break;
      case Verb::cpu:
        if (s.operands[1].number.value >= cpus_) {
          report(s.operands[1].at, "there is no such CPU",
                 "they count from 0; machine cpus=" + std::to_string(cpus_));
        }
        break;
      case Verb::mmap: check_mmap(s); break;
      case Verb::disk: check_new_disk(s); break;
      case Verb::bread:
      case Verb::bdirty:
      case Verb::bforget:
        check_disk(s.operands[0]);
        check_bounds(operand(s, "count"), "count", 1, 65536);
        break;
      case Verb::make: check_make(s); [[fallthrough]];
      case Verb::lookup:
      case Verb::chmod:
      case Verb::rename:
      case Verb::remove:
        check_bounds(operand(s, "count"), "count", 1, 65536);
        check_bounds(operand(s, "first"), "first", 0, 1'000'000);
        break;
      case Verb::sync: check_disk(s.operands[0]); break;
      case Verb::kcache: check_new_cache(s); break;
      case Verb::kalloc:
      case Verb::kfree:
        check_cache(s.operands[0]);
        check_bounds(operand(s, "count"), "count", 1, 65536);
        break;
      case Verb::vmalloc:
        if (s.operands[0].text.empty()) report(s.operands[0].at, "an area needs a name", "");
        break;
      case Verb::vfree:
      case Verb::vwrite:
      case Verb::vread:
        if (!vareas_.contains(s.operands[0].text)) {
          report(s.operands[0].at, "there is no area " + quoted(s.operands[0].text),
                 "make one with: vmalloc");
        }
        break;
      case Verb::kshrink:
      case Verb::kdestroy: check_cache(s.operands[0]); break;
      case Verb::bdflush:
        check_bounds(operand(s, "nfract"), "nfract", 0, 100);
        check_bounds(operand(s, "nfract_sync"), "nfract_sync", 0, 100);
        check_bounds(operand(s, "ndirty"), "ndirty", 1, 65536);
        break;
      case Verb::exec:
        if (accepts_failure(s) == Strict::yes) {
          Operand path = s.operands[1];
          path.text = path.list[0];
          check_file(path);
        }
        break;
      case Verb::pread:
      case Verb::pwrite:
      case Verb::ftruncate:
      case Verb::fsync:
      case Verb::unlink:
        if (accepts_failure(s) == Strict::yes) check_file(s.operands[1]);
        break;
      case Verb::mincore: check_bits(operand(s, "expect")); break;
      case Verb::shmat:
      case Verb::shmctl: check_segment(s.operands[1]); break;
      case Verb::fail: check_bounds(operand(s, "nth"), "nth", 1, 1'000'000); break;
      case Verb::expect:
      case Verb::note:
        if (s.quantity == Quantity::segment) check_segment(s.subject[0]);
        if (s.quantity == Quantity::file_info) check_file(s.subject[0]);
        if (s.quantity == Quantity::disk_info || s.quantity == Quantity::block) {
          // The device of the files has buffers when there are directories on it.
          if (s.subject[0].text != "files" || !makes_names_) check_disk(s.subject[0]);
        }
        break;
      default: break;
    }
  }

  void check_watermarks(const Statement& s) {
    const Operand& min = operand(s, "min");
    const Operand& low = operand(s, "low");
    const Operand& high = operand(s, "high");
    if (!min.given() && !low.given() && !high.given()) return;
    if (min.given() && low.given() && high.given() && min.number.value > 0 &&
        min.number.value <= low.number.value && low.number.value <= high.number.value) {
      return;
    }
    report(s.at, "the watermarks do not fit together",
           "wanted: 1 <= min <= low <= high, all three");
  }

  void check_new_file(const Statement& s) {
    const Operand& name = s.operands[0];
    if (name.text.empty() || name.text.size() > 63) {
      report(name.at, "a file's name has 1 to 63 bytes", "");
    }
    if (files_.contains(name.text)) {
      report(name.at, "there is a file " + quoted(name.text) + " already", "wanted: another name");
    }
    for (const Operand& o : s.operands) {
      if (o.kind == Operand::Kind::number && o.number.pages() > kFilePagesMax) {
        report(o.at, "a file that is too large",
               "at most " + std::to_string(kFilePagesMax) + " pages");
      }
    }
  }

  void check_make(const Statement& s) {
    const Operand& size = operand(s, "size");
    if (!size.given()) return;
    if (s.operands[1].text == "directory") report(size.at, "a directory has no size", "");
    const Operand& count = operand(s, "count");
    const u64 files = count.given() ? count.number.value : 1;
    if (size.number.pages() > kFilePagesMax || files * size.number.pages() > kFilePagesMax) {
      report(size.at, "files that are too large",
             "at most " + std::to_string(kFilePagesMax) + " pages in all");
    }
  }

  void check_mmap(const Statement& s) {
    const bool file = operand(s, "file").given();
    for (const char* key : {"offset", "open"}) {
      const Operand& o = operand(s, key);
      if (o.given() && !file) {
        report(o.at, std::string(key) + "= without a file", "add: file=\"...\"");
      }
    }
    const Operand& fixed = operand(s, "fixed");
    if (fixed.given() && !operand(s, "at").given()) {
      report(fixed.at, fixed.text + " without an address", "add: at=PLACE");
    }
  }

  void check_bits(const Operand& o) {
    if (!o.given() || o.text.find_first_not_of("01") == std::string::npos) return;
    report(o.at, "a vector is made of 0 and 1", "for example expect=\"110\"");
  }

  void check_segment(const Operand& o) {
    if (segments_.contains(o.text)) return;
    report(o.at, "there is no segment '" + o.text + "'", "make one with: shmget");
  }

  // Names that hold from here on.
  void define(const Statement& s) {
    const Signature& signature = signature_of(s.verb);
    for (std::size_t i = 0; i < s.operands.size(); ++i) {
      if (!s.operands[i].given()) continue;
      const std::string& name = s.operands[i].text;
      if (signature.params[i].type == ParamType::child) processes_.insert(name);
      if (signature.params[i].type == ParamType::segment) segments_.insert(name);
      if (signature.params[i].type == ParamType::name) {
        (s.verb == Verb::note ? notes_ : areas_).insert(name);
      }
    }
    if (s.verb == Verb::make) makes_names_ = true;
    if (s.verb == Verb::swap) ++swaps_;
    if (s.verb == Verb::disk) ++disks_;
    if (s.verb == Verb::vmalloc) vareas_.insert(s.operands[0].text);
    if (s.verb == Verb::kcache) caches_.insert(s.operands[0].text);
    if (s.verb == Verb::file || s.verb == Verb::program) files_.insert(s.operands[0].text);
    if (s.verb == Verb::machine && operand(s, "cpus").given()) {
      cpus_ = operand(s, "cpus").number.value;
    }
  }

  // A machine has eight plain devices; one holds the files.
  static constexpr u64 kSwapsMax = 7;
  static constexpr u64 kFilePagesMax = 65536;

  std::vector<Problem>& problems_;
  std::set<Verb> seen_;
  std::set<std::string> processes_, areas_, segments_, notes_, files_, caches_, vareas_;
  u64 swaps_ = 0;
  u64 disks_ = 0;
  u64 cpus_ = 1;
  bool makes_names_ = false;
  bool acting_ = false;
};

}  // namespace

void check_scenario(const Scenario& scenario, std::vector<Problem>* problems) {
  Checker(problems).run(scenario);
}

}  // namespace spillway
