// The scenarios that are part of the command: the files of scenarios/, put in when it is built.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace spillway {

struct EmbeddedFile {
  std::string_view name;  // without folder and extension
  std::string_view text;
};

// Sorted by name.
std::span<const EmbeddedFile> shipped_scenarios();
// The parts of the HTML page: page.html, page.css and so on.
std::string_view web_file(std::string_view name);

}  // namespace spillway
