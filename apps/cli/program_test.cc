// Goal: no program is started that the preload library could not join, and no file, however
// malformed, confuses the check. Method: ELF files made byte by byte, and real ones of the system.
#include "cli/program.h"

#include <elf.h>

#include <cstring>
#include <vector>

#include "cli/elf_file.h"
#include "cli/test_support.h"

namespace spillway {
namespace {

constexpr Credentials kUser{1000, 1000, 1000, false};

// A 64-bit x86-64 file with one program header and the text of an interpreter behind it.
struct ElfImage {
  Elf64_Ehdr header{};
  Elf64_Phdr segment{};
  std::string interpreter{"/lib64/ld-linux-x86-64.so.2"};

  ElfImage() {
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_DYN;
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof segment;
    header.e_phnum = 1;
    segment.p_type = PT_INTERP;
    segment.p_offset = sizeof header + sizeof segment;
    segment.p_filesz = interpreter.size() + 1;
  }

  std::string bytes() const {
    std::string out(reinterpret_cast<const char*>(&header), sizeof header);
    out.append(reinterpret_cast<const char*>(&segment), sizeof segment);
    out.append(interpreter.c_str(), interpreter.size() + 1);
    return out;
  }
};

ElfFile inspect(const std::string& bytes) {
  const TemporaryFolder folder;
  return inspect_elf(folder.write("program", bytes));
}

TEST(Elf, reads_interpreter) {
  const ElfFile file = inspect(ElfImage().bytes());
  EXPECT_EQ(file.kind, ElfKind::dynamic);
  EXPECT_EQ(file.interpreter, "/lib64/ld-linux-x86-64.so.2");
}

TEST(Elf, real_program_is_dynamic) { EXPECT_EQ(inspect_elf("/bin/sh").kind, ElfKind::dynamic); }

TEST(Elf, no_interpreter_means_static) {
  ElfImage image;
  image.segment.p_type = PT_LOAD;
  EXPECT_EQ(inspect(image.bytes()).kind, ElfKind::static_linked);
}

TEST(Elf, tells_other_machines) {
  ElfImage narrow;
  narrow.header.e_ident[EI_CLASS] = ELFCLASS32;
  EXPECT_EQ(inspect(narrow.bytes()).kind, ElfKind::other_machine);
  ElfImage big;
  big.header.e_ident[EI_DATA] = ELFDATA2MSB;
  EXPECT_EQ(inspect(big.bytes()).kind, ElfKind::other_machine);
  ElfImage arm;
  arm.header.e_machine = EM_AARCH64;
  EXPECT_EQ(inspect(arm.bytes()).kind, ElfKind::other_machine);
}

TEST(Elf, not_elf) {
  EXPECT_EQ(inspect("").kind, ElfKind::not_elf);
  EXPECT_EQ(inspect("\x7f"
                    "EL")
                .kind,
            ElfKind::not_elf);
  EXPECT_EQ(inspect("#!/bin/sh\n").kind, ElfKind::not_elf);
  EXPECT_EQ(inspect_elf("/dev/null").kind, ElfKind::not_elf);
  EXPECT_EQ(inspect_elf("/nonexistent/x").kind, ElfKind::unreadable);
}

TEST(Elf, every_truncation_is_refused) {
  const std::string whole = ElfImage().bytes();
  for (std::size_t n = 0; n < whole.size(); ++n) {
    EXPECT_NE(inspect(whole.substr(0, n)).kind, ElfKind::dynamic) << n << " bytes";
  }
}

TEST(Elf, impossible_numbers_are_refused) {
  const auto malformed = [](auto&& change) {
    ElfImage image;
    change(image);
    return inspect(image.bytes()).kind == ElfKind::malformed;
  };
  EXPECT_TRUE(malformed([](ElfImage& i) { i.header.e_phoff = ~u64{0}; }));
  EXPECT_TRUE(malformed([](ElfImage& i) { i.header.e_phoff = ~u64{0} - 8; }));
  EXPECT_TRUE(malformed([](ElfImage& i) { i.header.e_phnum = 0; }));
  EXPECT_TRUE(malformed([](ElfImage& i) { i.header.e_phnum = 0xffff; }));
  EXPECT_TRUE(malformed([](ElfImage& i) { i.header.e_phentsize = 32; }));
  EXPECT_TRUE(malformed([](ElfImage& i) { i.header.e_type = ET_CORE; }));
  EXPECT_TRUE(malformed([](ElfImage& i) { i.segment.p_offset = ~u64{0}; }));
  EXPECT_TRUE(malformed([](ElfImage& i) { i.segment.p_filesz = ~u64{0}; }));
  EXPECT_TRUE(malformed([](ElfImage& i) { i.segment.p_filesz = 0; }));
  EXPECT_TRUE(malformed([](ElfImage& i) { i.segment.p_filesz -= 1; }));  // no terminator
}

TEST(Program, found_as_execvp_would) {
  const TemporaryFolder folder;
  folder.write("empty/nothing", "");
  folder.write("first/tool", "x", 0644);
  const std::string second = folder.write("second/tool", "x", 0755);
  const std::string path =
      folder.file("empty") + ":" + folder.file("first") + ":" + folder.file("second");
  EXPECT_EQ(find_program(second, nullptr), second);
  EXPECT_EQ(find_program("tool", path.c_str()), second);
  EXPECT_EQ(thrown_by([&] { find_program("missing", path.c_str()); }).exit_code, 127);
  EXPECT_EQ(thrown_by([&] { find_program("", path.c_str()); }).exit_code, 127);
  EXPECT_EQ(thrown_by([&] { find_program(folder.file("none"), nullptr); }).exit_code, 127);
  EXPECT_EQ(thrown_by([&] { find_program(folder.file("first"), nullptr); }).exit_code, 126);
  EXPECT_EQ(find_program("sh", nullptr), "/bin/sh");
}

TEST(Program, found_but_not_executable) {
  const TemporaryFolder folder;
  const std::string path = folder.write("bin/tool", "x", 0644);
  EXPECT_EQ(thrown_by([&] { find_program("tool", folder.file("bin").c_str()); }).exit_code, 126);
  EXPECT_EQ(thrown_by([&] { find_program(path, nullptr); }).exit_code, 126);
}

TEST(Program, follows_scripts) {
  const TemporaryFolder folder;
  const std::string one = folder.write("one", "#! /bin/sh -e\ntrue\n", 0755);
  const std::string two = folder.write("two", "#!" + one + "\n", 0755);
  const Program program = inspect_program(two, kUser);
  EXPECT_EQ(program.path, two);
  EXPECT_EQ(program.elf, "/bin/sh");
}

TEST(Program, script_loops_end) {
  const TemporaryFolder folder;
  const std::string loop = folder.file("loop");
  folder.write("loop", "#!" + loop + "\n", 0755);
  const Thrown thrown = thrown_by([&] { inspect_program(loop, kUser); });
  EXPECT_EQ(thrown.exit_code, 126);
  EXPECT_TRUE(contains(thrown.line, "interpreters in a row"));
}

TEST(Program, script_without_interpreter) {
  const TemporaryFolder folder;
  const std::string lost = folder.write("lost", "#!/nonexistent/perl\n", 0755);
  EXPECT_EQ(thrown_by([&] { inspect_program(lost, kUser); }).exit_code, 127);
  const std::string text = folder.write("text", "echo hello\n", 0755);
  EXPECT_EQ(thrown_by([&] { inspect_program(text, kUser); }).exit_code, 126);
}

TEST(Program, refuses_static_and_musl) {
  const TemporaryFolder folder;
  ElfImage image;
  image.segment.p_type = PT_LOAD;
  const std::string fixed = folder.write("static", image.bytes(), 0755);
  const Thrown thrown = thrown_by([&] { inspect_program(fixed, kUser); });
  EXPECT_EQ(thrown.exit_code, 125);
  EXPECT_TRUE(contains(thrown.line, "statically linked"));
  ElfImage musl;
  musl.interpreter = "/lib/ld-musl-x86_64.so.1";
  musl.segment.p_filesz = musl.interpreter.size() + 1;
  const std::string other = folder.write("musl", musl.bytes(), 0755);
  EXPECT_TRUE(contains(thrown_by([&] { inspect_program(other, kUser); }).line, "musl"));
}

TEST(Program, privileges_that_drop_the_preload) {
  struct stat file {};
  file.st_uid = 0;
  file.st_gid = 0;
  file.st_mode = S_IFREG | 0755;
  const auto obstacle = [&](bool capabilities = false, bool nosuid = false,
                            Credentials who = kUser) {
    return privilege_obstacle(file, capabilities, nosuid, who);
  };
  EXPECT_EQ(obstacle(), "");
  EXPECT_NE(obstacle(true), "");
  EXPECT_EQ(obstacle(true, false, Credentials{0, 0, 0, false}), "");  // root gains nothing
  file.st_mode = S_IFREG | S_ISUID | 0755;
  EXPECT_EQ(obstacle(), "is set-user-ID");
  EXPECT_EQ(obstacle(false, true), "");                                        // nosuid mount
  EXPECT_EQ(obstacle(false, false, Credentials{1000, 1000, 1000, true}), "");  // no_new_privs
  EXPECT_EQ(obstacle(false, false, Credentials{0, 0, 0, false}), "");
  file.st_mode = S_IFREG | S_ISGID | 0755;
  EXPECT_EQ(obstacle(), "is set-group-ID");
  file.st_mode = S_IFREG | S_ISGID | 0745;  // without group execution: mandatory locking
  EXPECT_EQ(obstacle(), "");
}

}  // namespace
}  // namespace spillway
