#include "scenario/library.h"

#include "scenario/embedded.h"

namespace spillway {

std::span<const EmbeddedFile> shipped_scenarios() { return kEmbeddedScenarios; }

std::string_view web_file(std::string_view name) {
  for (const EmbeddedFile& file : kEmbeddedWebFiles) {
    if (file.name == name) return file.text;
  }
  return {};
}

}  // namespace spillway
