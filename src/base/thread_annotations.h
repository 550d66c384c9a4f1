// Lock annotations: attributes for clang's thread-safety analysis, nothing for g++.
#pragma once

#if defined(__clang__)
#define SPW_ATTR(x) __attribute__((x))
#else
#define SPW_ATTR(x)
#endif

#define SPW_CAPABILITY(x) SPW_ATTR(capability(x))
#define SPW_SCOPED_CAPABILITY SPW_ATTR(scoped_lockable)
#define SPW_GUARDED_BY(x) SPW_ATTR(guarded_by(x))
#define SPW_REQUIRES(...) SPW_ATTR(requires_capability(__VA_ARGS__))
#define SPW_EXCLUDES(...) SPW_ATTR(locks_excluded(__VA_ARGS__))
#define SPW_ACQUIRE(...) SPW_ATTR(acquire_capability(__VA_ARGS__))
#define SPW_RELEASE(...) SPW_ATTR(release_capability(__VA_ARGS__))
#define SPW_TRY_ACQUIRE(...) SPW_ATTR(try_acquire_capability(__VA_ARGS__))
#define SPW_NO_THREAD_SAFETY SPW_ATTR(no_thread_safety_analysis)
