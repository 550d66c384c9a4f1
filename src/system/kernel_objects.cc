// Object caches of a caller's own, told in the words of mm/slab.c.
#include <cstring>
#include <new>

#include "system/kernel_impl.h"

namespace spillway {
namespace {

void count_ctor(void*, void* context) { ++static_cast<ObjectSlot*>(context)->ctors; }

}  // namespace

Result<KmemCache*> KernelImpl::object_cache(u64 number) {
  if (number >= Kernel::kObjectCachesMax || objects[number].cache == nullptr) {
    return Error::no_entry;
  }
  return objects[number].cache;
}

Result<u64> Kernel::kmem_cache_create(const char* name, u32 size, bool with_ctor) {
  SystemImpl& sys = impl_.sys;
  if (std::strlen(name) == 0 || std::strlen(name) > 18) return Error::invalid;
  if (size < 8 || size > 32 * kPageSize) return Error::invalid;
  if (sys.slabs.find(name) != nullptr) return Error::exists;
  u32 number = 0;
  while (number < kObjectCachesMax && impl_.objects[number].cache != nullptr) ++number;
  if (number == kObjectCachesMax) return Error::again;
  ObjectSlot& slot = impl_.objects[number];
  std::memcpy(slot.name, name, std::strlen(name) + 1);
  slot.ctors = 0;
  KmemCacheConfig config;
  config.name = slot.name;
  config.size = size;
  config.check = SlabCheck::sanity;
  config.limit = 0;  // objects go straight back to their slabs, where they can be watched
  config.line = 32;  // the numbers of 2.4.0
  if (with_ctor) {
    config.ctor = count_ctor;
    config.context = &slot;
  }
  KmemCache* cache = ::new (static_cast<void*>(slot.memory)) KmemCache;
  const Status made = cache->init(sys.slabs, config);
  if (!made.ok()) {
    cache->~KmemCache();
    return made.error();
  }
  slot.cache = cache;
  const WalkScope walk(sys.observer.walk, "kmem_cache_create",
                       "{a} bytes: {b} objects to a slab of {c} pages", size,
                       cache->layout().objects, u64{1} << cache->layout().order);
  return u64{number};
}

Result<u64> Kernel::kmem_cache_alloc(u64 number) {
  SPW_TRY_ASSIGN(cache, impl_.object_cache(number));
  const Observer& observer = impl_.sys.observer;
  const WalkScope walk(observer.walk, "kmem_cache_alloc", "{a:s}", walk_string(cache->name()));
  const SlabInfo before = cache->info();
  const Result<void*> object = cache->alloc(kAllocKernel);
  const SlabInfo after = cache->info();
  if (after.grown != before.grown) {
    const WalkScope grow(observer.walk, "kmem_cache_grow", "a slab of {a} objects, now {b} slabs",
                         after.objects_per_slab, after.slabs_total);
  }
  if (!object.ok()) return object.error();
  observer.step("object at {a:x}, {b} in use", reinterpret_cast<u64>(object.value()),
                after.objects_active);
  return reinterpret_cast<u64>(object.value());
}

void Kernel::kmem_cache_free(u64 number, u64 object) {
  const Result<KmemCache*> cache = impl_.object_cache(number);
  if (!cache.ok()) return;
  const Observer& observer = impl_.sys.observer;
  const WalkScope walk(observer.walk, "kmem_cache_free", "{a:x}", object);
  cache.value()->free(reinterpret_cast<void*>(object));
  const SlabInfo after = cache.value()->info();
  observer.step("{a} in use, {b} of {c} slabs empty", after.objects_active,
                after.slabs_total - after.slabs_active, after.slabs_total);
}

Result<u64> Kernel::kmem_cache_shrink(u64 number) {
  SPW_TRY_ASSIGN(cache, impl_.object_cache(number));
  const WalkScope walk(impl_.sys.observer.walk, "kmem_cache_shrink", "{a:s}",
                       walk_string(cache->name()));
  const u64 gone = cache->shrink();
  impl_.sys.observer.step("{a} empty slabs go", gone);
  return gone;
}

Result<u64> Kernel::kmem_cache_destroy(u64 number) {
  SPW_TRY_ASSIGN(cache, impl_.object_cache(number));
  const WalkScope walk(impl_.sys.observer.walk, "kmem_cache_destroy", "{a:s}",
                       walk_string(cache->name()));
  SPW_TRY(cache->destroy());
  cache->~KmemCache();
  impl_.objects[number].cache = nullptr;
  return u64{0};
}

u64 Kernel::kmem_cache_reap() {
  const WalkScope walk(impl_.sys.observer.walk, "kmem_cache_reap", "{a} caches",
                       impl_.sys.slabs.caches());
  const u64 frames = impl_.sys.slabs.reap();
  impl_.sys.observer.step("{a} frames of empty slabs go back", frames);
  return frames;
}

u64 Kernel::vmalloc_purge() { return impl_.sys.vmalloc.purge(); }

}  // namespace spillway
