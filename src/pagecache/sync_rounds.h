// SyncRounds: how a sync ends although what it writes becomes dirty again all the time (Linux marks
// pages with PAGECACHE_TAG_TOWRITE first).
//
// A sync marks what is dirty when it begins; the marks go with the writes that follow, and what
// becomes dirty later has none. The marks of one mapping make a round: it goes on as long as there
// is one. A sync that comes while a round goes on waits for the end of it, because marks that it
// added would hold the syncs before it, and takes part in the next one. So each sync ends after
// two rounds at most, however many others there are, and every round has its end: only syncs that
// came before it began may add marks.
//
// Calls do not sleep but are repeated, so who repeats them keeps a SyncTicket: fresh at first, kept
// over Error::wait. With a fresh ticket at each repetition a sync stores what it should as well,
// but begins anew each time, and can be held. Thread safety: the engine lock.
#pragma once

#include "base/result.h"

namespace spillway {

// How far one sync has got. Fresh again after its end.
struct SyncTicket {
  u32 of = 0;             // what is synced; 0: it has not begun
  u32 round = 0;          // in which it came, or in which it takes part
  bool in_round = false;  // the latter
};

// For calls that sync several things one after the other. `done`: how many, as the call counts.
struct SyncProgress {
  SyncTicket ticket;
  u64 done = 0;
};

class SyncRounds {
 public:
  enum class Turn : u8 {
    waits,   // for the end of a round
    enters,  // takes part in the round that goes on, or begins one if none does
    over,    // its round has ended
  };

  // What is next for the sync with this ticket. `of`: a number of what is synced, not 0. `going`:
  // whether a round goes on.
  Turn turn(SyncTicket& ticket, u32 of, bool going) const {
    if (ticket.of != of) ticket = {of, round_, false};
    if (going && ticket.round == round_) return Turn::waits;
    return ticket.in_round ? Turn::over : Turn::enters;
  }
  void begin() { ++round_; }
  void enter(SyncTicket& ticket) const {
    ticket.round = round_;
    ticket.in_round = true;
  }
  // Number of the round that goes on or was the last one; 0: there was none.
  u32 round() const { return round_; }

  // Something that the present round marked could not be written.
  void failed(Error error) {
    if (failed_ != round_ || error_ == Error::again) error_ = error;
    failed_ = round_;
  }
  // Whether all that the ticket's sync marked was written. Each sync of a round in which something
  // failed is told, and one that asks late also of failures in the rounds since.
  Status outcome(const SyncTicket& ticket) const {
    if (failed_ == 0 || static_cast<i32>(failed_ - ticket.round) < 0) return kOk;
    return error_;
  }

 private:
  u32 round_ = 0;
  u32 failed_ = 0;  // the last round in which something failed
  Error error_ = Error::io;
};

}  // namespace spillway
