#include "preload/stats_table.h"

#include "machine_host/stop.h"

namespace spillway {

void print_stats(const Ledger& ledger) {
  const Counters total = ledger_total(ledger);
  constexpr Counter kShown[] = {Counter::pgfault,         Counter::pgmajfault,
                                Counter::pgsoftfault,     Counter::pswpin,
                                Counter::pswpout,         Counter::swap_bytes_in,
                                Counter::swap_bytes_out,  Counter::disk_write_bytes,
                                Counter::disk_read_bytes, Counter::workingset_refault,
                                Counter::move_retry,      Counter::move_eexist,
                                Counter::wait_ns,         Counter::frames_online_max};
  for (Counter c : kShown) {
    Message line;
    line.text(name_of(c)).text(" ").number(total[c]);
    line.print();
  }
}

}  // namespace spillway
