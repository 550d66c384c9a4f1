// The statistics of a mount as text: what its caches hold, how often they were of use, and what was
// taken from them, in the words of /proc/meminfo, /proc/slabinfo and /proc/vmstat.
#pragma once

#include <string>

namespace spillway {

class MountEngine;
class NodeIds;

// Under the engine lock.
std::string stats_text_of(MountEngine& engine, const NodeIds& ids);

}  // namespace spillway
