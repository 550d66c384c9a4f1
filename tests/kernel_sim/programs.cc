#include "programs.h"

#include "base/prng.h"

namespace spillway::ksim {
namespace {

constexpr u64 kArgBytesMax = 32 * kPageSize;  // MAX_ARG_PAGES

// Bytes below an address, from the highest downward.
class StackWriter {
 public:
  explicit StackWriter(u64 top) : top_(top), at_(top) {}
  u64 at() const { return at_; }
  void push(const void* data, u64 bytes) {
    const u8* p = static_cast<const u8*>(data);
    for (u64 i = bytes; i > 0; --i) bytes_.push_back(p[i - 1]);
    at_ -= bytes;
  }
  u64 push_string(const std::string& text) {
    push(text.c_str(), text.size() + 1);
    return at_;
  }
  void push_word(u64 value) { push(&value, sizeof value); }
  void align(u64 to) {
    while (at_ % to != 0) {
      bytes_.push_back(0);
      --at_;
    }
  }
  bool too_big() const { return top_ - at_ > kArgBytesMax; }
  std::vector<u8> take() const { return {bytes_.rbegin(), bytes_.rend()}; }

 private:
  u64 top_;
  u64 at_;
  std::vector<u8> bytes_;  // the highest address first
};

}  // namespace

ElfParts program_parts(u32 program) {
  ElfParts parts;
  if (program == 0) {
    parts.code_bytes = 2 * kPageSize;
    parts.data_bytes = kPageSize + 700;
    parts.bss_bytes = 3 * kPageSize;
  } else {
    parts.code_bytes = 5 * kPageSize;
    parts.data_bytes = 3 * kPageSize;
  }
  return parts;
}

Arguments draw_arguments(u64 seed) {
  Prng prng(mix64(seed));
  Arguments args;
  const u64 longest = prng.one_in(8) ? 9'000 : 20;
  const auto word = [&] {
    return std::string(prng.below(longest), static_cast<char>('a' + prng.below(26)));
  };
  for (u64 i = prng.below(12); i > 0; --i) args.argv.push_back(word());
  for (u64 i = prng.below(longest > 1000 ? 40 : 6); i > 0; --i) args.envp.push_back(word());
  return args;
}

std::vector<u8> make_stack(const std::string& path, const Arguments& args, u64 top) {
  StackWriter out(top);
  out.push_string(path);
  std::vector<u64> envp;
  std::vector<u64> argv;
  for (u64 i = args.envp.size(); i > 0; --i) envp.push_back(out.push_string(args.envp[i - 1]));
  for (u64 i = args.argv.size(); i > 0; --i) argv.push_back(out.push_string(args.argv[i - 1]));
  out.align(16);
  if ((argv.size() + envp.size() + 5) % 2 != 0) out.push_word(0);
  out.push_word(0);
  out.push_word(0);
  out.push_word(0);
  for (const u64 address : envp) out.push_word(address);
  out.push_word(0);
  for (const u64 address : argv) out.push_word(address);
  out.push_word(argv.size());
  return out.too_big() ? std::vector<u8>{} : out.take();
}

}  // namespace spillway::ksim
