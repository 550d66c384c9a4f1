#include "op.h"

namespace spillway::ksim {
namespace {

using harness::Word;
constexpr auto kHex = harness::NumberField<Op>::as_hex;
constexpr auto kDecimal = harness::NumberField<Op>::as_decimal;

constexpr harness::OpSpec kSpecs[] = {
#define X(id, fields, text) {#id, fields},
    SPW_KSIM_OPS(X)
#undef X
};
constexpr Word kFlags[] = {
#define X(id) {#id, bit(FlagBit::id)},
    SPW_KSIM_FLAGS(X)
#undef X
};
constexpr Word kAdvices[] = {
    {"normal", 0},   {"random", 1},   {"sequential", 2},     {"willneed", 3},
    {"dontneed", 4}, {"free", 8},     {"dontfork", 10},      {"dofork", 11},
    {"cold", 20},    {"pageout", 21}, {"populate_read", 22}, {"populate_write", 23},
};

constexpr harness::NumberField<Op> kNumbers[] = {
    {'a', "at", kHex, &Op::at},
    {'l', "len", kHex, &Op::len},
    {'b', "to", kHex, &Op::to},
    {'m', "newlen", kHex, &Op::newlen},
    {'o', "off", kHex, &Op::off},
    {'s', "seed", kDecimal, &Op::seed},
    {'n', "n", kDecimal, &Op::number},
    {'x', "times", kDecimal, &Op::times},
    {'k', "which", kDecimal, nullptr, &Op::which},
    {'c', "cpu", kDecimal, nullptr, &Op::cpu},
    {'q', "slot", kDecimal, nullptr, &Op::other},
    {'i', "file", harness::NumberField<Op>::unless_default, nullptr, &Op::file},
    {'e', "segment", kDecimal, nullptr, &Op::segment},
    {'d', "device", kDecimal, nullptr, &Op::device},
};

}  // namespace

const harness::OpLanguage<Op> kOps{'p', kSpecs, kNumbers, kFlags, kAdvices};

const char* name_of(OpKind kind) { return kSpecs[static_cast<u32>(kind)].name; }
bool by_task(OpKind kind) { return kSpecs[static_cast<u32>(kind)].fields[0] == 'T'; }

}  // namespace spillway::ksim
