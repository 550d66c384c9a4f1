// The tables that cmake/SpillwayEmbed.cmake writes; library.h is what others use.
#pragma once

#include "scenario/library.h"

namespace spillway {

extern const std::span<const EmbeddedFile> kEmbeddedScenarios;
extern const std::span<const EmbeddedFile> kEmbeddedWebFiles;

}  // namespace spillway
