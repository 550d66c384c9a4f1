#include "cli/elf_file.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <vector>

namespace spillway {
namespace {

// The kernel refuses program headers of more than 64 KiB; so do we.
constexpr u64 kProgramHeaderBytesMax = 65536;

class OpenFile {
 public:
  explicit OpenFile(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) {}
  ~OpenFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int fd() const { return fd_; }

  // True if all `length` bytes at `offset` could be read.
  bool read(void* to, u64 length, u64 offset) const {
    u8* out = static_cast<u8*>(to);
    while (length > 0) {
      const ssize_t got = ::pread(fd_, out, length, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      out += got;
      offset += static_cast<u64>(got);
      length -= static_cast<u64>(got);
    }
    return true;
  }

 private:
  int fd_;
};

ElfFile malformed(const char* why) {
  ElfFile out;
  out.kind = ElfKind::malformed;
  out.detail = why;
  return out;
}

ElfFile other_machine(std::string what) {
  ElfFile out;
  out.kind = ElfKind::other_machine;
  out.detail = std::move(what);
  return out;
}

// True if [offset, offset + length) lies inside a file of `size` bytes.
bool inside(u64 offset, u64 length, u64 size) { return offset <= size && length <= size - offset; }

ElfFile inspect_interpreter(const OpenFile& file, const Elf64_Phdr& segment, u64 size) {
  if (segment.p_filesz < 2 || segment.p_filesz > PATH_MAX) {
    return malformed("its interpreter's name has an impossible length");
  }
  if (!inside(segment.p_offset, segment.p_filesz, size)) {
    return malformed("its interpreter's name lies outside the file");
  }
  std::vector<char> name(segment.p_filesz);
  if (!file.read(name.data(), name.size(), segment.p_offset)) return malformed("it ends too early");
  if (name.back() != '\0') return malformed("its interpreter's name has no end");
  ElfFile out;
  out.kind = ElfKind::dynamic;
  out.interpreter = name.data();
  return out;
}

ElfFile inspect_headers(const OpenFile& file, const Elf64_Ehdr& header, u64 size) {
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) return malformed("it is no executable");
  if (header.e_phentsize != sizeof(Elf64_Phdr)) {
    return malformed("its program headers have an unknown size");
  }
  const u64 bytes = u64{header.e_phnum} * sizeof(Elf64_Phdr);
  if (bytes == 0 || bytes > kProgramHeaderBytesMax) {
    return malformed("its number of program headers is impossible");
  }
  if (!inside(header.e_phoff, bytes, size)) {
    return malformed("its program headers lie outside the file");
  }
  std::vector<Elf64_Phdr> segments(header.e_phnum);
  if (!file.read(segments.data(), bytes, header.e_phoff)) return malformed("it ends too early");
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type == PT_INTERP) return inspect_interpreter(file, segment, size);
  }
  ElfFile out;
  out.kind = ElfKind::static_linked;
  return out;
}

}  // namespace

ElfFile inspect_elf(const std::string& path) {
  const OpenFile file(path);
  ElfFile out;
  struct stat status;
  if (file.fd() < 0 || ::fstat(file.fd(), &status) != 0) {
    out.kind = ElfKind::unreadable;
    return out;
  }
  // A FIFO or a device has no size to check against, and nothing of that kind can be executed.
  if (!S_ISREG(status.st_mode)) return out;
  const u64 size = static_cast<u64>(status.st_size);
  unsigned char ident[EI_NIDENT];
  if (!file.read(ident, sizeof ident, 0) || std::memcmp(ident, ELFMAG, SELFMAG) != 0) return out;
  if (ident[EI_CLASS] != ELFCLASS64) return other_machine("a 32-bit program");
  if (ident[EI_DATA] != ELFDATA2LSB) return other_machine("a big-endian program");
  Elf64_Ehdr header;
  if (!file.read(&header, sizeof header, 0)) return malformed("its header is cut off");
  if (header.e_machine != EM_X86_64) {
    return other_machine(
        fmt::format("built for another processor (ELF machine {})", header.e_machine));
  }
  return inspect_headers(file, header, size);
}

}  // namespace spillway
