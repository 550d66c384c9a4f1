#include "op.h"

namespace spillway::sim {
namespace {

using harness::Word;
constexpr auto kHex = harness::NumberField<Op>::as_hex;
constexpr auto kDecimal = harness::NumberField<Op>::as_decimal;

constexpr harness::OpSpec kSpecs[] = {
#define X(id, fields, text) {#id, fields},
    SPW_SIM_OPS(X)
#undef X
};

constexpr Word kFlags[] = {
    {"fixed", kFlagFixed},      {"noreplace", kFlagNoreplace}, {"noreserve", kFlagNoreserve},
    {"locked", kFlagLocked},    {"populate", kFlagPopulate},   {"foreign", kFlagForeign},
    {"may_move", kFlagMayMove},
};
constexpr Word kAdvices[] = {
    {"normal", 0},   {"random", 1}, {"sequential", 2}, {"willneed", 3},
    {"dontneed", 4}, {"free", 8},   {"cold", 20},      {"pageout", 21},
};

constexpr harness::NumberField<Op> kNumbers[] = {
    {'a', "at", kHex, &Op::at},           {'l', "len", kHex, &Op::len},
    {'b', "to", kHex, &Op::to},           {'m', "newlen", kHex, &Op::newlen},
    {'s', "seed", kDecimal, &Op::seed},   {'n', "n", kDecimal, &Op::number},
    {'x', "times", kDecimal, &Op::times}, {'c', "cpu", kDecimal, nullptr, &Op::cpu},
};

}  // namespace

const harness::OpLanguage<Op> kOps{'t', kSpecs, kNumbers, kFlags, kAdvices};

const char* name_of(OpKind kind) { return kSpecs[static_cast<u32>(kind)].name; }
bool by_task(OpKind kind) { return kSpecs[static_cast<u32>(kind)].fields[0] == 'T'; }

}  // namespace spillway::sim
