// The table that a bare LD_PRELOAD with SPILLWAY_STATS=1 prints at the end.
#pragma once

#include "machine_host/ledger.h"

namespace spillway {

void print_stats(const Ledger& ledger);

}  // namespace spillway
