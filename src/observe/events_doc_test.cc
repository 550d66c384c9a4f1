// docs/events.md explains every event and every counter; this test says which one is missing.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

#include "observe/observe.h"

namespace spillway {
namespace {

std::string document() {
  std::ifstream file(SPW_SOURCE_DIR "/docs/events.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Document, every_event_has_a_row_with_its_values) {
  struct Row {
    const char* name;
    const char* a;
    const char* b;
  };
  constexpr Row kRows[] = {
#define X(id, name, a, b) {name, a, b},
      SPW_EVENTS(X)
#undef X
  };
  const std::string text = document();
  ASSERT_FALSE(text.empty()) << "docs/events.md is missing";
  for (const Row& row : kRows) {
    const std::string start =
        "| `" + std::string(row.name) + "` | " + row.a + " | " + row.b + " | ";
    EXPECT_NE(text.find(start), std::string::npos) << "docs/events.md needs: " << start;
  }
}

TEST(Document, every_counter_has_a_row_with_its_text) {
  const std::string text = document();
  for (u32 i = 0; i < kCounterCount; ++i) {
    const Counter c = static_cast<Counter>(i);
    const std::string start = "| `" + std::string(name_of(c)) + "` | " + describe(c) + " |";
    EXPECT_NE(text.find(start), std::string::npos) << "docs/events.md needs: " << start;
  }
}

// The other way round: what the document names exists.
TEST(Document, names_nothing_that_is_gone) {
  std::istringstream lines(document());
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("| `", 0) != 0) continue;
    const std::string name = line.substr(3, line.find('`', 3) - 3);
    bool known = false;
    for (u32 i = 0; i < kCounterCount; ++i) known |= name == name_of(static_cast<Counter>(i));
    for (u32 i = 0; i < static_cast<u32>(EventKind::kCount); ++i) {
      known |= name == name_of(static_cast<EventKind>(i));
    }
    EXPECT_TRUE(known) << name;
  }
}

}  // namespace
}  // namespace spillway
