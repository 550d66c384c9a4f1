// What the serving process may still do once everything is open: an image, and what is in it, may
// be hostile, and whatever it makes the process do must end here.
#pragma once

#include "mount/source.h"

namespace spillway {

// No core dump and no tracing by others of the same user: memory holds what files contain.
void hide_memory();

// From here on no program is started, no socket made and, for an image, no file opened; calls that
// are not needed fail with EPERM. Threads made later inherit it. `may_unmount`: umount2(2) is left.
// Throws CliError.
void enter_sandbox(SourceKind kind, bool may_unmount);

}  // namespace spillway
