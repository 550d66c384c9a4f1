// What a system call must answer, told from a model alone: success, or one of some errors. Where
// several things are wrong with a request, any of their errors is right.
#pragma once

#include "base/result.h"

namespace spillway::harness {

struct Prediction {
  bool success = true;
  u32 errors = 0;  // bit e: Error e is right

  void refuse(Error e) {
    success = false;
    also(e);
  }
  void refuse_if(bool wrong, Error e) {
    if (wrong) refuse(e);
  }
  // Success stays possible.
  void also(Error e) { errors |= 1U << static_cast<u32>(e); }
  bool allows(Error e) const { return (errors >> static_cast<u32>(e) & 1) != 0; }
};

}  // namespace spillway::harness
