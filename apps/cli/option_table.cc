#include "cli/option_table.h"

#include <fmt/format.h>

#include <sstream>
#include <string_view>

namespace spillway {
namespace {

constexpr std::size_t kTextColumn = 28;
constexpr std::size_t kWidth = 80;

constexpr OptionText kRunOptions[] = {
    {"--ram", "SIZE", "SPILLWAY_RAM",
     "RAM for the program's pages; 'auto' (the default) is 80 % of the tightest memory limit of "
     "this process's control groups, else of the machine's RAM; at least 8M"},
    {"--swap-ram", "SIZE", "SPILLWAY_SWAP_RAM",
     "further RAM, set aside for compressed pages; without it they live inside --ram and take up "
     "to half of it"},
    {"--swap-dir", "DIR", "SPILLWAY_SWAP_DIR",
     "folder of the swap file, which never has a name there; default: TMPDIR, else /var/tmp"},
    {"--swap-max", "SIZE", "SPILLWAY_SWAP_MAX",
     "most bytes of swap file; 0 means no disk; default: 8 times --ram, but no more than half of "
     "the free disk"},
    {"--reserve", "SIZE", "SPILLWAY_RESERVE",
     "addresses to reserve for the program's mappings, for systems that limit virtual memory"},
    {"--stats", nullptr, "SPILLWAY_STATS",
     "print a table at the end and, on a terminal, a line of progress each second"},
    {"--report", "FILE", "SPILLWAY_REPORT", "write all counters to FILE as JSON at the end"},
    {"-q,--quiet", nullptr, nullptr, "no warnings and no progress; errors are still printed"},
    {"-v,--verbose", nullptr, nullptr, "tell where each number comes from before starting"},
    {"-h,--help", nullptr, nullptr, "print this text and exit"},
};

constexpr OptionText kDoctorOptions[] = {
    {"--swap-dir", "DIR", "SPILLWAY_SWAP_DIR", "folder to examine; default as for 'spillway run'"},
    {"--json", nullptr, nullptr, "print the findings as JSON"},
    {"-h,--help", nullptr, nullptr, "print this text and exit"},
};

constexpr OptionText kScenarioOptions[] = {
    {"--step", nullptr, nullptr, "run: wait for a key after each step; q stops"},
    {"--json", nullptr, nullptr, "run: print one JSON document instead of text"},
    {"--html", "FILE", nullptr,
     "run: also write a page on which the run can be stepped forward and back"},
    {"--seed", "N", nullptr, "run: seed of the machine's choices, instead of the scenario's"},
    {"--color", "WHEN", nullptr, "auto (on a terminal; NO_COLOR forbids it), always or never"},
    {"-q,--quiet", nullptr, nullptr, "run: print nothing but what does not hold"},
    {"-h,--help", nullptr, nullptr, "print this text and exit"},
};

constexpr OptionText kMountOptions[] = {
    {"--ram", "SIZE", "SPILLWAY_RAM",
     "RAM for all caches together; 'auto' (the default) is 80 % of the tightest memory limit of "
     "this process's control groups, else of the machine's RAM; at least 8M"},
    {"-r,--read-only", nullptr, nullptr, "change nothing"},
    {"-f,--foreground", nullptr, nullptr,
     "stay; without it the command ends when the file system is mounted"},
    {"--allow-other", nullptr, nullptr, "let other users in, as FUSE's allow_other"},
    {"--sync-interval", "SECONDS", nullptr,
     "how often the daemon looks for what has been dirty for long; 0: never; default: 5"},
    {"--kernel-cache", "SECONDS", nullptr,
     "how long the kernel may believe names and attributes without asking, and whether it keeps "
     "pages between opens; 0: neither; default: 1. Its memory is not part of --ram"},
    {"--stats", nullptr, "SPILLWAY_STATS", "print statistics of the caches at the end"},
    {"-v,--verbose", nullptr, nullptr, "tell where each number comes from before starting"},
    {"-h,--help", nullptr, nullptr, "print this text and exit"},
};

std::string wrapped(std::string_view text, std::size_t indent, std::size_t column) {
  std::string out;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    if (column > indent && column + 1 + word.size() > kWidth) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out + "\n";
}

std::string option_line(const OptionText& option) {
  std::string names = option.names;
  const std::size_t comma = names.find(',');
  if (comma != std::string::npos) names.insert(comma + 1, " ");
  std::string left = (comma == std::string::npos ? "      " : "  ") + names;
  if (option.argument != nullptr) left += std::string(" ") + option.argument;
  std::string out = left;
  if (left.size() + 2 > kTextColumn) {
    out += "\n" + std::string(kTextColumn, ' ');
  } else {
    out += std::string(kTextColumn - left.size(), ' ');
  }
  std::string help = option.help;
  if (option.environment != nullptr) help += fmt::format(" [{}]", option.environment);
  return out + wrapped(help, kTextColumn, kTextColumn);
}

}  // namespace

const CommandText kRunText{
    "run", "spillway run [OPTION]... [--] PROGRAM [ARG]...",
    "Run PROGRAM, unmodified, with a hard limit on the RAM of its pages. What does not fit is "
    "compressed in RAM, then written to a swap file. The program's own children share the limit.",
    kRunOptions,
    R"(SIZE is a number with K, M, G, T or Ki, Mi, Gi, Ti (powers of 1024), KB, MB, GB,
TB (powers of 1000), or N% of the RAM (for --swap-max: of the free disk).
An option wins over the environment variable in brackets.

Exit status: that of PROGRAM, or 128+N if signal N ended it, or
  121  RAM and swap were used up and the program was stopped
  122  a page came back damaged from swap and the program was stopped
  124  the program was stopped because of an error inside Spillway
  125  Spillway itself failed or was called wrongly
  126  PROGRAM exists but cannot be executed
  127  there is no such PROGRAM

Examples:
  spillway run --ram 512M -- python3 analyse.py
  spillway run --ram 50% --stats --report run.json make -j4
)"};

const CommandText kDoctorText{
    "doctor", "spillway doctor [--swap-dir DIR] [--json]",
    "Tell what this machine allows and what to do about what is missing. Exits with 0 when "
    "'spillway run' will work here, with 1 when it will not.",
    kDoctorOptions, ""};

const CommandText kScenarioText{
    "scenario", "spillway scenario list | show NAME | run NAME|FILE [OPTION]...",
    "Walk through memory management on a simulated machine: who calls whom and why, and what "
    "changes in areas, page tables, frames, ageing lists and swap. 'list' names the scenarios that "
    "come with the command, 'show' prints one, 'run' plays one of them or a file of your own.",
    kScenarioOptions,
    R"(More scenarios are found in the folder that SPILLWAY_SCENARIOS names.

Exit status:
  0  everything that the scenario expects holds
  1  an expectation does not hold; its line, the expected and the actual value
     are printed
  2  wrong usage, or a mistake in a scenario file
  3  an invariant of the memory manager is broken; please report it

Examples:
  spillway scenario run stack-extension --step
  spillway scenario run swap-in --html swap-in.html
)"};

const CommandText kMountText{
    "mount", "spillway mount [OPTION]... IMAGE|DIR MOUNTPOINT",
    "Serve an ext2, ext3 or ext4 image, or a directory, as a file system whose caches of names, "
    "inodes, blocks and pages together take no more RAM than they may. While it is mounted, "
    "MOUNTPOINT/.spillway/stats tells what they hold.",
    kMountOptions,
    R"(SIZE is a number with K, M, G, T or Ki, Mi, Gi, Ti (powers of 1024), KB, MB, GB,
TB (powers of 1000), or N% of the RAM.
Unmount with 'fusermount3 -u MOUNTPOINT' or 'umount MOUNTPOINT', or send SIGTERM
to the process: everything is stored then, and an image is marked clean.

Exit status:
  0    mounted; with --foreground: unmounted again and everything was stored
  125  it could not be mounted, or not everything could be stored

Examples:
  spillway mount --ram 64M disk.img /mnt
  spillway mount --read-only --foreground --stats /usr/share /mnt
)"};

std::string command_help(const CommandText& command) {
  std::string out = fmt::format("Usage: {}\n", command.synopsis);
  out += wrapped(command.purpose, 0, 0) + "\n";
  for (const OptionText& option : command.options) out += option_line(option);
  if (command.footer[0] != '\0') out += std::string("\n") + command.footer;
  return out + fmt::format("\nFull manual: man spillway-{}\n", command.name);
}

std::string main_help() {
  return R"(Usage: spillway COMMAND [ARG]...
Linux-style memory management in user space: programs that need more RAM than
they may have.

Commands:
  run      run a program under a hard RAM budget
  mount    serve an ext4 image or a directory through caches under a RAM budget
  doctor   tell what this machine allows and what to do about what is missing
  scenario walk through memory management, step by step, on a simulated machine
  help     print this text, or that of a command: spillway help run

  -h, --help     print this text and exit
  -V, --version  print the version and exit

Example: spillway run --ram 512M --stats -- python3 analyse.py
Full manual: man spillway
)";
}

std::string version_text() {
  return fmt::format(
      "spillway {} ({})\n"
      "Compression: lz4. Built for x86-64 Linux with glibc.\n"
      "Licence: Apache-2.0. There is no warranty.\n",
      SPW_CLI_VERSION, SPW_CLI_COMMIT);
}

}  // namespace spillway
