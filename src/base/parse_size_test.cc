#include <gtest/gtest.h>

#include "base/parse_size.h"

namespace spillway {
namespace {

TEST(ParseSize, units) {
  EXPECT_EQ(parse_size("512", 0).value(), 512u);
  EXPECT_EQ(parse_size("1K", 0).value(), 1024u);
  EXPECT_EQ(parse_size("96M", 0).value(), 96u << 20);
  EXPECT_EQ(parse_size("96Mi", 0).value(), 96u << 20);
  EXPECT_EQ(parse_size("96MiB", 0).value(), 96u << 20);
  EXPECT_EQ(parse_size("2GB", 0).value(), 2000000000u);
  EXPECT_EQ(parse_size("1.5g", 0).value(), 3u << 29);
  EXPECT_EQ(parse_size("50%", 1000).value(), 500u);
  EXPECT_EQ(parse_size("12.5%", 1000).value(), 125u);
}

TEST(ParseSize, rejects_what_is_not_a_size) {
  for (const char* bad : {"", "M", "12Q", "12MX", "-5M", "1.M", "5 M", "1e3", "%", "12Mib3"}) {
    EXPECT_EQ(parse_size(bad, 100).error(), Error::invalid) << bad;
  }
  EXPECT_EQ(parse_size("99999999999999999999", 0).error(), Error::no_space);
  EXPECT_EQ(parse_size("18446744073709551615T", 0).error(), Error::no_space);
}

}  // namespace
}  // namespace spillway
