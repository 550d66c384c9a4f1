// Goal: an image may hold anything. Seeded damage to the metadata of small images, each opened,
// walked, read, and changed where it can be: every call ends with a result, and nothing else
// happens. Then the corpus of the fuzzer.
#include <sys/stat.h>
#include <time.h>

#include <filesystem>

#include "base/prng.h"
#include "ext_image.h"
#include "hostile_world.h"

namespace spillway {
namespace {

class HostileImage : public testing::TestWithParam<u32> {};
INSTANTIATE_TEST_SUITE_P(Bases, HostileImage, testing::Range(0U, 4U));

// Not of the host's owners, habits, language or clock. The fuzzer's runs can be repeated only if
// its images can.
TEST_P(HostileImage, base_is_the_same_byte_for_byte) {
  const std::string base = hostile_base(GetParam());
  const mode_t before = ::umask(077);
  ::setenv("TZ", "Asia/Tokyo", 1);
  EXPECT_TRUE(hostile_base(GetParam()) == base);
  ::unsetenv("TZ");
  ::umask(before);
  const i64 now = ::time(nullptr);
  for (u64 at = 0; at + 4 <= base.size(); at += 4) {
    u32 word = 0;
    std::memcpy(&word, base.data() + at, sizeof word);
    ASSERT_LT(1000, std::abs(i64{word} - now)) << "the time of today at " << at;
  }
}

TEST_P(HostileImage, undamaged_it_is_walked_and_changed_and_clean) {
  const std::string base = hostile_base(GetParam());
  HostileWorld reader(base);
  ASSERT_TRUE(reader.run(ExtMode::read_only, {"a/b/hard", "short"}).ok());
  EXPECT_LE(5U, reader.visited());
  HostileWorld writer(base);
  ASSERT_TRUE(writer.run(ExtMode::read_write, {}).ok());
  EXPECT_TRUE(writer.closed().ok());
}

TEST_P(HostileImage, damaged_metadata_ends_in_errors) {
  const std::string base = hostile_base(GetParam());
  // Blocks that hold something, which in these images is mostly metadata.
  std::vector<u64> used;
  const std::string zeros(16, '\0');
  const std::string contents(16, 'x');
  for (u64 at = 0; at < base.size(); at += 16) {
    if (base.compare(at, 16, zeros) != 0 && base.compare(at, 16, contents) != 0) used.push_back(at);
  }
  u32 opened = 0;
  constexpr u32 kSeeds = 150;
  for (u32 seed = 0; seed < kSeeds; ++seed) {
    SCOPED_TRACE(seed);
    Prng prng(seed * 4 + GetParam());
    std::string image = base;
    const u64 damages = 1 + prng.below(8);
    for (u64 i = 0; i < damages; ++i) {
      // Not only the superblock, which is refused at once: beyond it, mostly.
      const u64 place = used[prng.below(used.size())] + prng.below(16);
      if (place / 1024 == 1 && prng.below(8) != 0) continue;
      const u8 what[] = {0, 0xff, 0x7f, 1, static_cast<u8>(prng.next())};
      image[place] = static_cast<char>(what[prng.below(std::size(what))]);
    }
    HostileWorld world(image);
    const ExtMode mode = prng.below(2) == 0 ? ExtMode::read_only : ExtMode::read_write;
    if (world.run(mode, {"a/b/large", "many/some-name-that-is-long-7", "short"}).ok()) ++opened;
  }
  EXPECT_LE(kSeeds / 4, opened) << "damage that is refused at the door proves little";
}

TEST(HostileCorpus, inputs_of_the_fuzzer_end) {
  u32 inputs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(SPW_SOURCE_DIR "/tests/fuzz/ext")) {
    const Image input = read_file_bytes(entry.path());
    run_hostile_input(reinterpret_cast<const u8*>(input.data()), input.size());
    ++inputs;
  }
  EXPECT_LT(0U, inputs);
}

}  // namespace
}  // namespace spillway
