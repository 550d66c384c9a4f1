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

void WalkLog::add(WalkItem item, const char* shape) {
  shape_ += static_cast<char>('0' + static_cast<int>(item.kind));
  shape_ += std::to_string(item.depth) + item.function + shape + "\n";
  if (group_.size() + items_.size() < kItemsMax) {
    group_.push_back(std::move(item));
  } else {
    ++dropped_;
  }
}

void WalkLog::enter(const char* function, const char* text, u64 a, u64 b, u64 c) {
  ++calls_[function];
  add({WalkItem::Kind::call, depth_, function, format(text, a, b, c), 0}, text);
  ++depth_;
}

void WalkLog::leave() {
  if (depth_ > 0) --depth_;
}

void WalkLog::step(const char* text, u64 a, u64 b, u64 c) {
  add({WalkItem::Kind::step, depth_, "", format(text, a, b, c), 0}, text);
}

void WalkLog::remark(const std::string& text) {
  add({WalkItem::Kind::remark, 0, "", text, 0}, text.c_str());
}

void WalkLog::begin() {
  // What came between two groups is kept as it is.
  items_.insert(items_.end(), group_.begin(), group_.end());
  group_.clear();
  shape_.clear();
}

void WalkLog::end() {
  const bool known = !shape_.empty() && shapes_[shape_]++ != 0;
  if (!known) {
    items_.insert(items_.end(), group_.begin(), group_.end());
  } else if (!items_.empty() && items_.back().kind == WalkItem::Kind::more) {
    ++items_.back().count;
  } else {
    items_.push_back({WalkItem::Kind::more, 0, "", "", 1});
  }
  group_.clear();
  shape_.clear();
}

std::vector<WalkItem> WalkLog::take() {
  begin();
  if (dropped_ != 0) {
    items_.push_back({WalkItem::Kind::remark, 0, "",
                      std::to_string(dropped_) + " more calls and decisions are not kept", 0});
  }
  std::vector<WalkItem> out = std::move(items_);
  items_.clear();
  shapes_.clear();
  dropped_ = 0;
  depth_ = 0;
  return out;
}

u64 WalkLog::calls(const std::string& function) const {
  const auto found = calls_.find(function);
  return found == calls_.end() ? 0 : found->second;
}

}  // namespace spillway
