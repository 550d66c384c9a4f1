// Finding libc's own functions by its symbol table. Not by dlopen and dlsym: called from the
// first constructor of all, dlopen would run libc's constructor with an empty environment, and
// dlsym may find another library's function of the same name.
#pragma once

namespace spillway {

// The default version of libc's `name`; null if it exports none.
void* libc_function(const char* name);

}  // namespace spillway
