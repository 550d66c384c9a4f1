#include "workload/elf_writer.h"

#include "base/prng.h"

namespace spillway {
namespace {

constexpr u64 kHeaderBytes = 64;
constexpr u64 kSegmentBytes = 56;
constexpr u32 kLoad = 1, kExecutable = 1, kWritable = 2, kReadable = 4;

void put(std::vector<u8>* out, u64 at, u64 value, u32 bytes) {
  for (u32 i = 0; i < bytes; ++i) (*out)[at + i] = static_cast<u8>(value >> (8 * i));
}

struct Segment {
  u32 flags;
  u64 offset, address, file_bytes, memory_bytes;
};

void put_segment(std::vector<u8>* out, u64 at, const Segment& s) {
  put(out, at, kLoad, 4);
  put(out, at + 4, s.flags, 4);
  put(out, at + 8, s.offset, 8);
  put(out, at + 16, s.address, 8);
  put(out, at + 24, s.address, 8);
  put(out, at + 32, s.file_bytes, 8);
  put(out, at + 40, s.memory_bytes, 8);
  put(out, at + 48, kPageSize, 8);
}

}  // namespace

WrittenElf make_elf(const ElfParts& parts) {
  WrittenElf image;
  const u64 code_bytes = (parts.code_bytes + kPageMask) & ~kPageMask;
  image.code = parts.base;
  image.entry = parts.base + kHeaderBytes + 2 * kSegmentBytes;
  image.data_offset = code_bytes;
  image.data = parts.base + code_bytes;
  image.bss = image.data + parts.data_bytes;
  image.end = image.bss + parts.bss_bytes;
  std::vector<u8>& out = image.bytes;
  out.resize(code_bytes + parts.data_bytes);
  for (u64 i = 0; i < out.size(); ++i) out[i] = static_cast<u8>(mix64(i / 8) >> (8 * (i % 8)));
  constexpr u8 kIdent[16] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
  for (u64 i = 0; i < 16; ++i) out[i] = kIdent[i];
  put(&out, 16, 2, 2);   // ET_EXEC
  put(&out, 18, 62, 2);  // EM_X86_64
  put(&out, 20, 1, 4);   // EV_CURRENT
  put(&out, 24, image.entry, 8);
  put(&out, 32, kHeaderBytes, 8);  // where the program headers are
  put(&out, 40, 0, 8);             // no sections
  put(&out, 48, 0, 4);
  put(&out, 52, kHeaderBytes, 2);
  put(&out, 54, kSegmentBytes, 2);
  put(&out, 56, 2, 2);
  put(&out, 58, 0, 6);
  put_segment(&out, kHeaderBytes, {kReadable | kExecutable, 0, image.code, code_bytes, code_bytes});
  put_segment(&out, kHeaderBytes + kSegmentBytes,
              {kReadable | kWritable, image.data_offset, image.data, parts.data_bytes,
               parts.data_bytes + parts.bss_bytes});
  return image;
}

}  // namespace spillway
