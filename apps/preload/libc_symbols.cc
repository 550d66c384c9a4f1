#include "preload/libc_symbols.h"

#include <elf.h>
#include <link.h>

#include "base/types.h"

namespace spillway {
namespace {

// The parts of libc's dynamic section that a lookup needs.
struct Library {
  u64 base = 0;
  const Elf64_Sym* symbols = nullptr;
  const char* strings = nullptr;
  const u32* gnu_hash = nullptr;
  const u16* versions = nullptr;
  u64 soname = 0;
};
Library g_libc;

bool equal(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

int visit(dl_phdr_info* info, size_t, void*) {
  Library library;
  library.base = info->dlpi_addr;
  const Elf64_Dyn* dynamic = nullptr;
  for (u32 i = 0; i < info->dlpi_phnum; ++i) {
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const Elf64_Dyn*>(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    }
  }
  for (; dynamic != nullptr && dynamic->d_tag != DT_NULL; ++dynamic) {
    const u64 value = dynamic->d_un.d_ptr;
    // The loader has already made these addresses absolute, except in the vdso.
    if (dynamic->d_tag == DT_SYMTAB) library.symbols = reinterpret_cast<const Elf64_Sym*>(value);
    if (dynamic->d_tag == DT_STRTAB) library.strings = reinterpret_cast<const char*>(value);
    if (dynamic->d_tag == DT_GNU_HASH) library.gnu_hash = reinterpret_cast<const u32*>(value);
    if (dynamic->d_tag == DT_VERSYM) library.versions = reinterpret_cast<const u16*>(value);
    if (dynamic->d_tag == DT_SONAME) library.soname = value;
  }
  const bool absolute = reinterpret_cast<u64>(library.strings) > library.base;
  if (!absolute || library.soname == 0 || library.gnu_hash == nullptr) return 0;
  if (!equal(library.strings + library.soname, "libc.so.6")) return 0;
  g_libc = library;
  return 1;
}

u32 hash_of(const char* name) {
  u32 hash = 5381;
  for (; *name != '\0'; ++name) hash = hash * 33 + static_cast<u8>(*name);
  return hash;
}

}  // namespace

void* libc_function(const char* name) {
  if (g_libc.gnu_hash == nullptr && dl_iterate_phdr(visit, nullptr) == 0) return nullptr;
  // Layout of DT_GNU_HASH: bucket count, first hashed symbol, bloom size, bloom shift; the bloom
  // words; the buckets; one hash per symbol, with bit 0 set at the end of each chain.
  const u32 bucket_count = g_libc.gnu_hash[0];
  const u32 first = g_libc.gnu_hash[1];
  const u32 bloom_words = g_libc.gnu_hash[2];
  const u32* buckets = g_libc.gnu_hash + 4 + u64{bloom_words} * 2;
  const u32* chain = buckets + bucket_count;
  const u32 hash = hash_of(name);
  u32 index = buckets[hash % bucket_count];
  if (index < first) return nullptr;
  for (;; ++index) {
    const u32 entry = chain[index - first];
    const Elf64_Sym& symbol = g_libc.symbols[index];
    // Bit 15 marks an old version that new programs do not get.
    const bool is_default = g_libc.versions == nullptr || (g_libc.versions[index] & 0x8000) == 0;
    if ((entry | 1) == (hash | 1) && is_default && symbol.st_value != 0 &&
        ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && equal(g_libc.strings + symbol.st_name, name)) {
      return reinterpret_cast<void*>(g_libc.base + symbol.st_value);
    }
    if ((entry & 1) != 0) return nullptr;
  }
}

}  // namespace spillway
