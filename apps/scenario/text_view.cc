#include "scenario/text_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

namespace spillway {
namespace {

constexpr const char* kBold = "1";
constexpr const char* kDim = "2";
constexpr const char* kRed = "31";
constexpr const char* kGreen = "32";
constexpr const char* kYellow = "33";
constexpr const char* kCyan = "36";

constexpr std::size_t kGroupWidth = 15;

// "+3" or "-2" where both are numbers; else nothing.
std::string difference(const Field& field) {
  const auto is_number = [](const std::string& text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  };
  if (!is_number(field.before) || !is_number(field.after)) return "";
  if (field.before.size() > 18 || field.after.size() > 18) return "";
  return fmt::format("{:+}", std::stoll(field.after) - std::stoll(field.before));
}

// A change without its numbers.
std::string shape_of(const Change& change) {
  std::string out(1, static_cast<char>('0' + static_cast<int>(change.kind)));
  for (const Field& field : change.fields) {
    for (const char c : field.name + "|" + field.before + "|" + field.after + "|") {
      const bool digit = c >= '0' && c <= '9';
      if (!digit || out.back() != '0') out += digit ? '0' : c;
    }
  }
  return out;
}

std::string field_text(const Change& change, const Field& field) {
  if (change.kind == Change::Kind::fresh || field.before.empty()) {
    return field.name + " " + field.after;
  }
  if (change.kind == Change::Kind::gone || field.after.empty()) {
    return field.name + " " + field.before + (change.kind == Change::Kind::gone ? "" : " gone");
  }
  return field.name + " " + field.before + " -> " + field.after;
}

}  // namespace

const char* name_of(Policy policy) {
  switch (policy) {
    case Policy::three_queue: return "three_queue";
    case Policy::linux24: return "linux24";
    case Policy::two_list: return "two_list";
  }
  return "?";
}

std::string machine_text(const Stage& stage) {
  std::string out = fmt::format("{} frames, {} CPU{}, policy {}", stage.frames.v, stage.cpus,
                                stage.cpus == 1 ? "" : "s", name_of(stage.kernel.mm.policy));
  const Config& mm = stage.kernel.mm;
  if (mm.watermark_high.v != 0) {
    out += fmt::format(", watermarks {} {} {}", mm.watermark_min.v, mm.watermark_low.v,
                       mm.watermark_high.v);
  }
  for (std::size_t i = 0; i < stage.swap_pages.size(); ++i) {
    out += fmt::format(", swap{} of {} slots", i, stage.swap_pages[i] - 1);
  }
  return out;
}

TextView::TextView(const TextStyle& style, std::function<void(const std::string&)> write,
                   std::function<bool()> pause)
    : style_(style), write_(std::move(write)), pause_(std::move(pause)) {}

std::string TextView::paint(const char* code, const std::string& text) const {
  return style_.colour && !text.empty() ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : text;
}

std::string TextView::wrapped(const std::string& text, std::size_t indent,
                              std::size_t column) const {
  std::string out;
  std::istringstream words(text);
  bool first = true;
  for (std::string word; words >> word; first = false) {
    if (!first && column + 1 + word.size() > style_.width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (!first) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

void TextView::begin(const Scenario& scenario, const Stage& stage, const Picture&) {
  write_(paint(kBold, scenario.title) + "\n" + paint(kDim, machine_text(stage)) + "\n");
}

bool TextView::step(const StepRecord& record, const Picture&, const Picture&) {
  std::string out = "\n";
  std::istringstream paragraphs(record.narrative);
  for (std::string paragraph; std::getline(paragraphs, paragraph);) {
    out += wrapped(paragraph, 0, 0) + "\n\n";
  }
  // A step without a name is called like its operation; saying that once is enough.
  const bool alone = !record.operations.empty() && record.operations[0].text == record.title;
  if (!alone) out += paint(kBold, fmt::format("{}. {}", record.number, record.title)) + "\n";
  for (const OperationRecord& operation : record.operations) {
    const bool first = &operation == record.operations.data();
    if (alone && first) out += paint(kBold, fmt::format("{}.", record.number));
    out += operation_text(operation);
  }
  out += changes_text(record.changes);
  write_(out);
  return pause_ == nullptr || pause_();
}

std::string TextView::operation_text(const OperationRecord& operation) const {
  std::string out = operation.failed        ? "  " + paint(kRed, "does not hold: ") + operation.text
                    : operation.expectation ? "  " + paint(kGreen, "holds: ") + operation.text
                                            : "  " + paint(kBold, operation.text);
  if (operation.times > 1) out += paint(kDim, fmt::format("   {} times", operation.times));
  if (!operation.result.empty() && (operation.failed || !operation.expectation)) {
    out += "  -> " + paint(kYellow, operation.result);
  }
  return out + "\n" + walk_text(operation.walk);
}

std::string TextView::walk_text(const std::vector<WalkItem>& walk) const {
  std::string out;
  for (const WalkItem& item : walk) {
    const std::size_t indent = 6 + 2 * std::size_t{item.depth};
    out += std::string(indent, ' ');
    switch (item.kind) {
      case WalkItem::Kind::call:
        out += paint(kCyan, item.function);
        if (!item.text.empty()) {
          out += "  " + wrapped(item.text, indent + 4, indent + item.function.size() + 2);
        }
        break;
      case WalkItem::Kind::step: out += "- " + wrapped(item.text, indent + 2, indent + 2); break;
      case WalkItem::Kind::remark: out += paint(kDim, "(" + item.text + ")"); break;
      case WalkItem::Kind::more:
        out += paint(kDim, fmt::format("... {} more like {}", item.count,
                                       item.count == 1 ? "one above" : "those above"));
        break;
    }
    out += "\n";
  }
  return out;
}

std::string TextView::one_change(const Change& change, std::size_t subject_width) const {
  const bool fresh = change.kind == Change::Kind::fresh;
  const bool gone = change.kind == Change::Kind::gone;
  // A frame that was freed and an entry that was replaced lose all that they had.
  const bool replaced = !fresh && !gone && !change.fields.empty() &&
                        (change.fields[0].name == "state" || change.fields[0].name == "entry");
  std::string fields;
  for (const Field& field : change.fields) {
    if (replaced && field.after.empty()) continue;
    // What a new thing does not have need not be told.
    if (change.kind != Change::Kind::changed && (field.after == "0" || field.after == "none" ||
                                                 field.before == "0" || field.before == "none")) {
      continue;
    }
    fields += (fields.empty() ? "" : ", ") + field_text(change, field);
  }
  const std::size_t column = 4 + kGroupWidth + 2 + subject_width + 2;
  const char* colour = fresh ? kGreen : gone ? kRed : kYellow;
  return paint(colour, fresh  ? "+ "
                       : gone ? "- "
                              : "~ ") +
         fmt::format("{:<{}}", change.subject, subject_width) + "  " +
         paint(gone ? kDim : "0", wrapped(fields, column, column)) + "\n";
}

// Numbers that all subjects have: one line, "pgfault +1, pgalloc +2".
std::string TextView::line_of_group(FactGroup group,
                                    const std::vector<const Change*>& changes) const {
  std::string text;
  for (const Change* change : changes) {
    for (const Field& field : change->fields) {
      text += text.empty() ? "" : ", ";
      if (group == FactGroup::counters) {
        const std::string by = difference(field);
        text += change->subject + " " + (by.empty() ? field.after : by);
      } else if (group == FactGroup::devices) {
        text += change->subject + " " + field.name + " " + difference(field);
      } else if (group == FactGroup::queues) {
        text += change->subject + " " + field.before + " -> " + field.after;
      } else {
        text += field.name + " " + field.before + " -> " + field.after;
      }
    }
  }
  return wrapped(text, 4 + kGroupWidth, 4 + kGroupWidth) + "\n";
}

std::string TextView::changes_text(const std::vector<Change>& changes) const {
  std::string out;
  for (u32 i = 0; i < kFactGroupCount; ++i) {
    const auto group = static_cast<FactGroup>(i);
    std::vector<const Change*> of_group;
    std::size_t subject_width = 0;
    for (const Change& change : changes) {
      if (change.group != group) continue;
      of_group.push_back(&change);
      if (of_group.size() <= style_.changes_max) {
        subject_width = std::max(subject_width, change.subject.size());
      }
    }
    if (of_group.empty()) continue;
    const std::string head =
        "    " + paint(kDim, fmt::format("{:<{}}", name_of(group), kGroupWidth));
    if (group == FactGroup::counters || group == FactGroup::memory || group == FactGroup::devices ||
        group == FactGroup::queues) {
      out += head + line_of_group(group, of_group);
      continue;
    }
    // Of changes that differ in numbers only the first tells how they are.
    std::size_t lines = 0;
    const std::string indent(4 + kGroupWidth, ' ');
    for (std::size_t k = 0; k < of_group.size();) {
      std::size_t end = k + 1;
      while (end < of_group.size() && shape_of(*of_group[end]) == shape_of(*of_group[k])) ++end;
      if (lines == style_.changes_max) {
        out += indent + paint(kDim, fmt::format("... {} more", of_group.size() - k)) + "\n";
        break;
      }
      out += (lines++ == 0 ? head : indent) + one_change(*of_group[k], subject_width);
      // Two alike cost no more room than the words that fold them.
      if (end - k == 2) {
        out += indent + one_change(*of_group[k + 1], subject_width);
      } else if (end - k > 2) {
        out += indent +
               paint(kDim, fmt::format("  ... {} more like it, up to {}", end - k - 1,
                                       of_group[end - 1]->subject)) +
               "\n";
      }
      k = end;
    }
  }
  return out;
}

}  // namespace spillway
