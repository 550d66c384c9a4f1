// The calls by which a program could see, or hand on, a CPU mask that the engine has narrowed
// (machine_host/thread_pair.h). Each goes through release_pair() first.
#pragma once

namespace spillway {

// Finds libc's functions that stand behind ours; before the engine starts.
void resolve_affinity_calls();
// Gives a narrowed thread its mask back and keeps it so for a moment.
void release_pair();
// In place of libc's execve, its internal callers included: the new program gets the wide mask.
int call_execve(const char* path, char* const* argv, char* const* environment);

}  // namespace spillway
