#include "workload/walk_log.h"

#include <cstdio>
#include <cstring>

namespace spillway {

std::string WalkLog::format(const char* text, u64 a, u64 b, u64 c) {
  std::string out;
  while (*text != '\0') {
    const char which = text[0] == '{' ? text[1] : '\0';
    if (which < 'a' || which > 'c') {
      out += *text++;
      continue;
    }
    const u64 value = which == 'a' ? a : which == 'b' ? b : c;
    if (text[2] == '}') {
      out += std::to_string(value);
      text += 3;
    } else if (std::strncmp(text + 2, ":x}", 3) == 0) {
      char number[24];
      std::snprintf(number, sizeof number, "0x%llx", static_cast<unsigned long long>(value));
      out += number;
      text += 5;
    } else if (std::strncmp(text + 2, ":s}", 3) == 0) {
      out += value == 0 ? "" : reinterpret_cast<const char*>(value);
      text += 5;
    } else {
      out += *text++;
    }
  }
  return out;
}

void WalkLog::add(WalkItem item, std::string shape) {
  if (items_.size() == kItemsMax) {
    ++dropped_;
    return;
  }
  shapes_.push_back(std::to_string(item.depth) + item.function + shape + "\n");
  items_.push_back(std::move(item));
}

// One more of what was told already, at the present depth.
void WalkLog::count_more() {
  if (!items_.empty() && items_.back().kind == WalkItem::Kind::more &&
      items_.back().depth == depth()) {
    ++items_.back().count;
    return;
  }
  add({WalkItem::Kind::more, depth(), "", "", 1}, "more");
}

void WalkLog::enter(const char* function, const char* text, u64 a, u64 b, u64 c) {
  ++calls_[function];
  Caller caller;
  caller.first = items_.size();
  add({WalkItem::Kind::call, depth(), function, format(text, a, b, c), 0}, text);
  callers_.push_back(std::move(caller));
}

void WalkLog::leave() {
  if (callers_.size() == 1) return;
  const std::size_t first = callers_.back().first;
  callers_.pop_back();
  std::string way;
  for (std::size_t i = first; i < shapes_.size(); ++i) way += shapes_[i];
  // A way that did not fit any more is none.
  if (way.empty() || callers_.back().ways.insert(way).second) return;
  items_.resize(first);
  shapes_.resize(first);
  count_more();
}

void WalkLog::step(const char* text, u64 a, u64 b, u64 c) {
  if (callers_.back().steps[text]++ >= kStepsMax) return count_more();
  add({WalkItem::Kind::step, depth(), "", format(text, a, b, c), 0}, text);
}

void WalkLog::remark(const std::string& text) {
  // Between calls that were only counted a remark would stand alone.
  if (!items_.empty() && items_.back().kind == WalkItem::Kind::more) return;
  if (!items_.empty() && items_.back().text == text) return;
  add({WalkItem::Kind::remark, 0, "", text, 0}, text);
}

std::vector<WalkItem> WalkLog::take() {
  if (dropped_ != 0) {
    items_.push_back({WalkItem::Kind::remark, 0, "",
                      std::to_string(dropped_) + " more calls and decisions are not kept", 0});
  }
  std::vector<WalkItem> out = std::move(items_);
  items_.clear();
  shapes_.clear();
  callers_.assign(1, Caller{});
  dropped_ = 0;
  return out;
}

u64 WalkLog::calls(const std::string& function) const {
  const auto found = calls_.find(function);
  return found == calls_.end() ? 0 : found->second;
}

}  // namespace spillway
