# Warnings are errors everywhere; rooms 0-10 and the wings have neither exceptions nor RTTI.
add_library(spw_warnings INTERFACE)
target_compile_options(spw_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 sees overlapping copies in every "text" + std::string (GCC bug 105651).
  target_compile_options(spw_warnings INTERFACE -Wno-restrict)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # -Wthread-safety checks the lock annotations of base/thread_annotations.h.
  target_compile_options(spw_warnings INTERFACE -Wthread-safety -Wno-c99-designator)
endif()

# Core code also runs inside a preloaded process, on threads without a libc
# thread block: no exceptions, no RTTI, no guarded statics, no stack protector.
add_library(spw_core_flags INTERFACE)
target_compile_options(spw_core_flags INTERFACE
  -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-stack-protector
  -fvisibility=hidden -fno-omit-frame-pointer)

if(SPW_SANITIZE)
  # The check of virtual tables needs RTTI, which the core does not have.
  add_compile_options(-fsanitize=${SPW_SANITIZE} -fno-sanitize=vptr -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${SPW_SANITIZE})
endif()
