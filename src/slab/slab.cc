#include "slab/slab.h"

namespace spillway {
namespace {

constexpr u32 round_up(u32 n, u32 unit) { return (n + unit - 1) / unit * unit; }

// How many objects a slab of `bytes` holds; with a header, each costs two u16 of it as well.
u32 objects_in(u32 bytes, u32 stride, bool on_slab, u32 header_align) {
  if (!on_slab) return bytes / stride;
  u32 count = bytes / stride;
  while (count > 0 &&
         count * stride + round_up(slab_descriptor_bytes(count), header_align) > bytes) {
    --count;
  }
  return count;
}

u32 alignment_of(const KmemCacheConfig& config) {
  u32 align = config.align < 8 ? 8 : config.align;
  if (!config.hwcache_align) return align;
  u32 line = config.line;
  while (line > 8 && config.size <= line / 2) line /= 2;
  return line > align ? line : align;
}

}  // namespace

SlabLayout slab_layout(const KmemCacheConfig& config, u32 break_order) {
  SlabLayout layout;
  layout.align = alignment_of(config);
  const u32 size = round_up(config.size, 8);
  layout.stride = size;
  if (config.check == SlabCheck::full) {
    // The word before takes as much as keeps the object aligned.
    layout.before = layout.align;
    layout.after = size;
    layout.stride = layout.before + size + 8;
  }
  layout.stride = round_up(layout.stride, layout.align);
  const u32 header_align = layout.align > config.line ? layout.align : config.line;
  bool on_slab = layout.stride < kOffSlabMin;
  for (u32 order = 0; order <= kSlabOrderMax; ++order) {
    const u32 bytes = static_cast<u32>(kPageSize << order);
    layout.order = order;
    layout.objects = objects_in(bytes, layout.stride, on_slab, header_align);
    if (layout.objects == 0) continue;
    layout.header = on_slab ? round_up(slab_descriptor_bytes(layout.objects), header_align) : 0;
    layout.left_over = bytes - layout.objects * layout.stride - layout.header;
    if (order >= break_order || (layout.left_over << kSlabWasteShift) <= bytes) break;
  }
  if (layout.objects == 0) return layout;
  if (!on_slab) {
    const u32 header = round_up(slab_descriptor_bytes(layout.objects), header_align);
    if (header <= layout.left_over) {
      layout.header = header;
      layout.left_over -= header;
    }
  }
  const u32 unit = config.line > layout.align ? config.line : layout.align;
  layout.colours = layout.left_over / unit;
  return layout;
}

[[noreturn]] void slab_bug(const char* what, const char* cache, const void* object) {
  char text[96];
  u32 at = 0;
  for (const char* part : {"slab: ", what, " in cache ", cache}) {
    while (*part != '\0' && at + 1 < sizeof text) text[at++] = *part++;
  }
  text[at] = '\0';
  panic(__FILE__, __LINE__, text, reinterpret_cast<u64>(object), 0, true);
}

}  // namespace spillway
