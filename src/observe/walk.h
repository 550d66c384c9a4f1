// The walk: what the memory manager did, told in the words of Linux's sources. While a WalkSink is
// attached, rooms report the functions that they enter and what each decided and why; scenarios
// print it. Without a sink a report costs one test of a pointer.
//
// Texts are literals with up to three values. In a text, {a}, {b}, {c} stand for the values:
// {a:x} prints an address in hexadecimal, {a} a decimal number, {a:s} a C string literal.
#pragma once

#include "base/types.h"

namespace spillway {

class WalkSink {
 public:
  // A function was entered; its arguments are in the text. leave() follows in stack order.
  virtual void enter(const char* function, const char* text, u64 a, u64 b, u64 c) = 0;
  virtual void leave() = 0;
  // The function entered last came to a decision.
  virtual void step(const char* text, u64 a, u64 b, u64 c) = 0;

 protected:
  ~WalkSink() = default;
};

inline u64 walk_string(const char* literal) { return reinterpret_cast<u64>(literal); }

// The stay in one function.
class WalkScope {
 public:
  WalkScope(WalkSink* sink, const char* function, const char* text = "", u64 a = 0, u64 b = 0,
            u64 c = 0)
      : sink_(sink) {
    if (sink_ != nullptr) sink_->enter(function, text, a, b, c);
  }
  ~WalkScope() {
    if (sink_ != nullptr) sink_->leave();
  }
  WalkScope(const WalkScope&) = delete;
  WalkScope& operator=(const WalkScope&) = delete;

 private:
  WalkSink* sink_;
};

}  // namespace spillway
