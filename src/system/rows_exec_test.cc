// exec (MECHANISMS 4.5 and 13.2): the image of an ELF file takes the place of the old one, or the
// old one runs on.
// Method: small ELF files made here byte by byte, with code, data, bss and every defect that must
// be refused; areas, contents and the stack are compared with what the file says. One is real: the
// program that runs this test.
#include <cstdio>
#include <cstring>

#include "system/exec_strings.h"
#include "system/rows_bed_test.h"

namespace spillway {
namespace {

constexpr u64 kPage = RowsBed::kPage;
constexpr u32 kFlagX = 1, kFlagW = 2, kFlagR = 4;

struct Segment {
  u64 offset, addr, file_bytes, mem_bytes;
  u32 flags;
};

// A 32-bit ELF file with these segments; byte i of page p of its contents is p + 1, but for the
// headers.
std::vector<u8> elf(const std::vector<Segment>& segments, u64 pages, u32 entry = 0x0804'8100) {
  std::vector<u8> file(pages * kPage);
  for (u64 i = 0; i < file.size(); ++i) file[i] = static_cast<u8>(i / kPage + 1);
  const auto put = [&](u64 at, u64 value, u32 bytes) {
    for (u32 i = 0; i < bytes; ++i) file[at + i] = static_cast<u8>(value >> (8 * i));
  };
  const u8 ident[16] = {0x7f, 'E', 'L', 'F', 1, 1, 1};
  std::memcpy(file.data(), ident, sizeof ident);
  put(16, 2, 2);  // ET_EXEC
  put(18, 3, 2);
  put(20, 1, 4);
  put(24, entry, 4);
  put(28, 52, 4);  // the program headers follow
  put(40, 52, 2);
  put(42, 32, 2);
  put(44, segments.size(), 2);
  u64 at = 52;
  for (const Segment& s : segments) {
    put(at, 1, 4);  // PT_LOAD
    put(at + 4, s.offset, 4);
    put(at + 8, s.addr, 4);
    put(at + 12, s.addr, 4);
    put(at + 16, s.file_bytes, 4);
    put(at + 20, s.mem_bytes, 4);
    put(at + 24, s.flags, 4);
    put(at + 28, kPage, 4);
    at += 32;
  }
  return file;
}

// Code of two pages, data of a page and a half, bss of three pages.
constexpr u64 kCode = 0x0804'8000;
constexpr u64 kData = 0x0805'0000;
constexpr u64 kDataBytes = kPage + 2000;
constexpr u64 kDataEnd = kData + kDataBytes;
constexpr u64 kBssEnd = kDataEnd + 3 * kPage;
std::vector<u8> usual() {
  return elf({{0, kCode, 2 * kPage, 2 * kPage, kFlagR | kFlagX},
              {2 * kPage, kData, kDataBytes, kBssEnd - kData, kFlagR | kFlagW}},
             5);
}

struct ExecRow {
  explicit ExecRow(const KernelBedConfig& config = {}) : bed(config), pid(bed.spawn("old")) {}
  void install(const char* path, const std::vector<u8>& bytes) {
    ASSERT_TRUE(bed.kernel().create_file(path, 0, bytes.size()).ok());
    const Pid maker = bed.spawn("maker");
    const i32 fd = bed.open(maker, path, kOpenReadWrite);
    bed.write_bytes(maker, fd, 0, bytes);
    EXPECT_TRUE(bed.wait_for([&] { return bed.kernel().fsync(maker, fd); }).ok());
    bed.kernel().exit(maker, 0);
    EXPECT_TRUE(bed.kernel().reap(maker).ok());
  }
  Result<u64> exec(const char* path, const std::vector<const char*>& args = {},
                   const std::vector<const char*>& env = {}) {
    std::vector<const char*> argv(args), envp(env);
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    return bed.wait_for([&] { return bed.kernel().exec(pid, path, argv.data(), envp.data()); });
  }
  // The call is refused, and the old image is as it was to the last frame.
  void refused(const char* path, Error error, const std::vector<const char*>& args = {}) {
    const u64 at = bed.map(pid, 2);
    bed.fill(pid, at, 2);
    if (error != Error::no_entry) (void)exec(path, args);  // so that its first page is cached
    const std::string before = bed.state(pid);
    const Result<u64> result = exec(path, args);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error(), error);
    EXPECT_EQ(bed.state(pid), before);
    EXPECT_TRUE(bed.kernel().alive(pid));
    EXPECT_TRUE(bed.holds(pid, at, 2));
    EXPECT_STREQ(bed.task(pid).name, "old");
    EXPECT_EQ(bed.quiet(), "");
  }
  u64 word(u64 addr) {
    u64 value = 0;
    EXPECT_EQ(bed.access(pid, addr, &value, 8, Access::read).signo, Signal::none);
    return value;
  }
  std::string text(u64 addr) {
    std::string out;
    for (int c = bed.load(pid, addr); c > 0; c = bed.load(pid, ++addr)) {
      out.push_back(static_cast<char>(c));
    }
    return out;
  }
  RowsBed bed;
  Pid pid;
};

TEST(RowsExec, the_image_is_code_data_bss_heap_and_stack) {
  ExecRow row;
  row.install("prog", usual());
  const u64 old = row.bed.map(row.pid, 5);
  row.bed.fill(row.pid, old, 5);
  const u64 anon_before = row.bed.kernel().meminfo().anon_pages;
  ASSERT_EQ(row.exec("prog", {"prog"}).value(), 0x0804'8100U);
  row.bed.kernel().set_catches(row.pid, true);
  EXPECT_EQ(row.bed.quiet(), "");
  EXPECT_STREQ(row.bed.task(row.pid).name, "prog");
  const std::vector<AreaView> areas = row.bed.areas(row.pid);
  ASSERT_EQ(areas.size(), 4U);
  const auto expect = [](const AreaView& a, u64 start, u64 end, Prot prot, u64 pgoff,
                         const char* name) {
    EXPECT_EQ(addr_of(a.range.start).v, start);
    EXPECT_EQ(addr_of(a.range.end).v, end);
    EXPECT_EQ(a.prot, prot);
    EXPECT_EQ(a.pgoff, pgoff);
    EXPECT_STREQ(a.name, name);
    EXPECT_FALSE(a.shared);
  };
  expect(areas[0], kCode, kCode + 2 * kPage, Prot::read_exec, 0, "prog");
  expect(areas[1], kData, kData + 2 * kPage, Prot::read_write, 2, "prog");
  expect(areas[2], kData + 2 * kPage, 0x0805'5000, Prot::read_write, 0, "");
  expect(areas[3], RowsBed::kStackTop - kPage, RowsBed::kStackTop, Prot::read_write, 0, "[stack]");
  // One page of arguments, one in which data ends and bss begins; the old image's five are gone.
  EXPECT_EQ(row.bed.task(row.pid).rss, 2U);
  EXPECT_EQ(row.bed.kernel().meminfo().anon_pages, anon_before - 5 + 2);
  EXPECT_EQ(row.bed.load(row.pid, old), -1);
  // Contents: code and data from the file, zeros behind.
  u8 code = 0;
  EXPECT_EQ(row.bed.access(row.pid, kCode + kPage, &code, 1, Access::exec).signo, Signal::none);
  EXPECT_EQ(code, 2);
  EXPECT_EQ(row.bed.load(row.pid, kCode + 1), 'E');
  EXPECT_EQ(row.bed.store(row.pid, kCode, 1).code, kSegvAccerr);
  for (u64 at = kData; at < kDataEnd; ++at) {
    ASSERT_EQ(row.bed.load(row.pid, at), at < kData + kPage ? 3 : 4) << at;
  }
  for (u64 at = kDataEnd; at < kBssEnd; at += 500) ASSERT_EQ(row.bed.load(row.pid, at), 0) << at;
  // Data is private: a write is not the file's.
  EXPECT_EQ(row.bed.store(row.pid, kData, 99).signo, Signal::none);
  EXPECT_EQ(row.bed.store(row.pid, kDataEnd, 98).signo, Signal::none);
  EXPECT_EQ(row.bed.access(row.pid, kData, &code, 1, Access::exec).code, kSegvAccerr);
  // The heap begins behind the bss.
  EXPECT_EQ(row.bed.task(row.pid).start_brk.v, 0x0805'5000U);
  EXPECT_EQ(row.bed.kernel().brk(row.pid, 0x0805'7000).value(), 0x0805'7000U);
  EXPECT_EQ(row.bed.store(row.pid, 0x0805'6fff, 1).signo, Signal::none);
  // Initialised data counts against the limit of the heap.
  row.bed.kernel().set_limit(row.pid, Limit::data, kDataBytes + 3 * kPage);
  EXPECT_EQ(row.bed.kernel().brk(row.pid, 0x0805'8001).value(), 0x0805'7000U);
  EXPECT_EQ(row.bed.kernel().brk(row.pid, 0x0805'8000).value(), 0x0805'8000U);
  EXPECT_EQ(row.bed.quiet(), "");
  // A second process of the same program shares its clean pages.
  const Pfn frame = row.bed.entry(row.pid, kCode + kPage).pfn;
  const Pid first = row.pid;
  row.pid = row.bed.spawn("old");
  ASSERT_TRUE(row.exec("prog").ok());
  EXPECT_EQ(row.bed.load(row.pid, kCode + kPage), 2);
  EXPECT_EQ(row.bed.entry(row.pid, kCode + kPage).pfn, frame);
  EXPECT_EQ(row.bed.load(row.pid, kData), 3);
  EXPECT_EQ(row.bed.load(first, kData), 99);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsExec, arguments_lie_on_the_stack_as_the_abi_wants_it) {
  ExecRow row;
  row.install("prog", usual());
  const std::string longer(5000, 'x');  // across pages
  ASSERT_TRUE(row.exec("prog", {"prog", longer.c_str(), ""}, {"HOME=/", "A=b"}).ok());
  const u64 sp = row.bed.kernel().stack_pointer(row.pid).v;
  EXPECT_EQ(sp % 16, 0U);
  EXPECT_EQ(row.word(sp), 3U);
  EXPECT_EQ(row.text(row.word(sp + 8)), "prog");
  EXPECT_EQ(row.text(row.word(sp + 16)), longer);
  EXPECT_EQ(row.text(row.word(sp + 24)), "");
  EXPECT_EQ(row.word(sp + 32), 0U);
  EXPECT_EQ(row.text(row.word(sp + 40)), "HOME=/");
  EXPECT_EQ(row.text(row.word(sp + 48)), "A=b");
  EXPECT_EQ(row.word(sp + 56), 0U);
  EXPECT_EQ(row.word(sp + 64), 0U);  // the auxiliary vector ends at once
  const AreaView stack = row.bed.areas(row.pid).back();
  EXPECT_EQ(stack.range.start, VirtAddr(sp).vpn());
  EXPECT_EQ(stack.rss, stack.range.pages().v);
  for (Vpn vpn = stack.range.start; vpn < stack.range.end; vpn = vpn + 1) {
    const PteView e = row.bed.kernel().entry(row.pid, vpn);
    EXPECT_TRUE(e.kind == Pte::Kind::present && e.writable && e.dirty);
    EXPECT_EQ(row.bed.kernel().frame(e.pfn).count, 1U);
  }
  EXPECT_EQ(row.bed.quiet(), "");
  // They are ordinary stack pages now: idle ones go to swap, and the stack grows.
  row.bed.push_out(row.pid, addr_of(stack.range.start).v, stack.range.pages().v);
  EXPECT_EQ(row.text(row.word(sp + 16)), longer);
  EXPECT_EQ(row.bed.store(row.pid, sp - 32, 1).signo, Signal::none);
  EXPECT_EQ(row.bed.quiet(), "");
  // With a word less it is aligned all the same.
  ASSERT_TRUE(row.exec("prog", {"prog", "one"}, {"HOME=/", "A=b"}).ok());
  const u64 again = row.bed.kernel().stack_pointer(row.pid).v;
  EXPECT_EQ(again % 16, 0U);
  EXPECT_EQ(row.word(again), 2U);
  EXPECT_EQ(row.text(row.word(again + 40)), "A=b");
}

TEST(RowsExec, arguments_of_128_kilobytes_and_not_a_byte_more) {
  ExecRow row;
  row.install("prog", usual());
  // The file's name, one argument, and the words of the stack below them: found by asking.
  const auto fits = [&](u64 bytes) {
    const std::string argument(bytes, 'y');
    const Pid at_work = row.pid;
    row.pid = row.bed.fork(at_work);
    const Result<u64> result = row.exec("prog", {argument.c_str()});
    if (!result.ok()) {
      EXPECT_EQ(result.error(), Error::too_big);
    }
    row.bed.kernel().exit(row.pid, 0);
    EXPECT_TRUE(row.bed.kernel().reap(row.pid).ok());
    row.pid = at_work;
    return result.ok();
  };
  u64 low = 100'000, high = 131'072;
  while (high - low > 1) (fits((low + high) / 2) ? low : high) = (low + high) / 2;
  // 5 bytes of "prog", the string's own end, and at most 8 words and their alignment.
  EXPECT_LE(low, 131'072 - 6 - 5 * 8);
  EXPECT_GE(low, 131'072 - 6 - 9 * 8 - 16);
  const std::string much(high, 'y');
  row.refused("prog", Error::too_big, {much.c_str()});
  const std::string most(low, 'y');
  const u64 anon = row.bed.kernel().meminfo().anon_pages;
  const u64 rss = row.bed.task(row.pid).rss;
  ASSERT_TRUE(row.exec("prog", {most.c_str()}).ok());
  EXPECT_EQ(row.bed.task(row.pid).rss, 32U + 1);
  EXPECT_EQ(row.bed.kernel().meminfo().anon_pages, anon - rss + 33);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsExec, what_is_not_a_program_is_refused) {
  ExecRow row;
  row.refused("nothing", Error::no_entry);
  row.install("empty", {});
  row.refused("empty", Error::no_exec);
  row.install("garbage", std::vector<u8>(2 * kPage, 7));
  row.refused("garbage", Error::no_exec);
  row.install("short", {0x7f, 'E', 'L', 'F', 1, 1});
  row.refused("short", Error::no_exec);
  const auto variant = [&](const char* name, u64 at, u8 value) {
    std::vector<u8> file = usual();
    file[at] = value;
    row.install(name, file);
    row.refused(name, Error::no_exec);
  };
  variant("big endian", 5, 2);
  variant("class", 4, 3);
  variant("relocatable object", 16, 1);
  variant("no headers", 44, 0);
  variant("header size", 42, 31);
  variant("headers out of reach", 29, 99);
  std::vector<u8> none = usual();
  none[52] = none[52 + 32] = 2;  // PT_DYNAMIC, both of them
  row.install("no segments", none);
  row.refused("no segments", Error::no_exec);
  const auto with = [&](const char* name, const std::vector<Segment>& segments) {
    row.install(name, elf(segments, 3));
    row.refused(name, Error::no_exec);
  };
  with("beyond the file", {{0, kCode, 4 * kPage, 4 * kPage, kFlagR}});
  with("more in the file than in memory", {{0, kCode, 2 * kPage, kPage, kFlagR}});
  with("offset and address differ", {{16, kCode, kPage, kPage, kFlagR}});
  with("overlap", {{0, kCode, kPage, 3 * kPage, kFlagR}, {0, kCode + kPage, 1, 1, kFlagR}});
  with("wrong order", {{0, kData, 1, 1, kFlagR}, {0, kCode, 1, 1, kFlagR}});
  with("in the kernel's half", {{0, 0xc000'0000, kPage, kPage, kFlagR}});
  with("too long", {{0, kCode, kPage, 0xf000'0000, kFlagR | kFlagW}});
}

TEST(RowsExec, a_file_that_is_written_does_not_run_and_one_that_runs_is_not_written) {
  ExecRow row;
  row.install("prog", usual());
  const Pid writer = row.bed.spawn("writer");
  const i32 fd = row.bed.open(writer, "prog", kOpenReadWrite);
  row.refused("prog", Error::text_busy);
  ASSERT_TRUE(row.bed.kernel().close(writer, fd).ok());
  ASSERT_TRUE(row.exec("prog").ok());
  EXPECT_EQ(row.bed.kernel().open(writer, "prog", kOpenWrite).error(), Error::text_busy);
  EXPECT_EQ(row.bed.kernel().open(writer, "prog", kOpenReadWrite).error(), Error::text_busy);
  EXPECT_TRUE(row.bed.kernel().open(writer, "prog", kOpenRead).ok());
  // A child runs it too; only when both have ended it may be written.
  const Pid child = row.bed.fork(row.pid);
  row.bed.kernel().exit(row.pid, 0);
  EXPECT_EQ(row.bed.kernel().open(writer, "prog", kOpenWrite).error(), Error::text_busy);
  ASSERT_TRUE(row.bed.kernel().unlink(writer, "prog").ok());  // its contents live on
  EXPECT_EQ(row.bed.load(child, kCode + kPage), 2);
  row.bed.kernel().exit(child, 0);
  EXPECT_EQ(row.bed.kernel().open(writer, "prog", kOpenWrite).error(), Error::no_entry);
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsExec, the_other_threads_end) {
  ExecRow row;
  Kernel& kernel = row.bed.kernel();
  row.install("prog", usual());
  const Pid first = row.pid;
  const Pid second = kernel.clone_thread(first).value();
  const Pid third = kernel.clone_thread(first).value();
  const Pid other = row.bed.fork(first);
  const SpaceId old = kernel.space_of(first);
  row.pid = second;
  ASSERT_TRUE(row.exec("prog").ok());
  EXPECT_FALSE(kernel.alive(first));
  EXPECT_TRUE(kernel.alive(second));
  EXPECT_FALSE(kernel.alive(third));
  EXPECT_TRUE(kernel.alive(other));
  EXPECT_EQ(kernel.on_fault(old, VirtAddr(RowsBed::kStackTop - 1), Access::read, 0),
            FaultOutcome::maperr)
      << "nobody has the old image any more";
  // It is a process of its own now: a signal that is not caught ends it.
  kernel.kill(second, Signal::kill);
  EXPECT_FALSE(kernel.alive(second));
  EXPECT_TRUE(kernel.alive(other));
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsExec, without_a_frame_the_old_image_runs_on) {
  // Frames run out at each point of the call in turn: all that it had taken is back.
  u32 failures = 0;
  bool succeeded = false;
  for (u64 leave = 0; leave < 80 && !succeeded; ++leave) {
    KernelBedConfig config;
    config.frames = 256;
    config.swap = false;
    ExecRow row(config);
    row.install("prog", usual());
    EXPECT_TRUE(row.exec("garbage").error() == Error::no_entry);
    const std::string argument(120'000, 'z');  // 30 pages
    const u64 old = row.bed.map(row.pid, 2);
    row.bed.fill(row.pid, old, 2);
    const Pid hog = row.bed.spawn("hog");
    row.bed.kernel().set_oom_score_adj(hog, -1000);
    row.bed.kernel().set_oom_score_adj(row.pid, -1000);
    const u64 at = row.bed.map(hog, 256);
    u64 used = 0;
    // A program's frames end at the lower mark, so that is where the hog stops.
    const u64 least = row.bed.kernel().meminfo().watermark_min + 1 + leave;
    while (row.bed.free_frames() > least) {
      ASSERT_EQ(row.bed.store(hog, at + used++ * kPage, 1).signo, Signal::none);
    }
    const std::string before = row.bed.state(row.pid);
    const Result<u64> result = row.exec("prog", {argument.c_str()});
    if (result.ok()) {
      succeeded = true;
    } else {
      ++failures;
      EXPECT_EQ(result.error(), Error::no_memory);
      EXPECT_EQ(row.bed.task(row.pid).total_vm, 3U);
      EXPECT_TRUE(row.bed.holds(row.pid, old, 2));
      EXPECT_STREQ(row.bed.task(row.pid).name, "old");
      EXPECT_TRUE(row.bed.kernel().alive(row.pid));
    }
    EXPECT_EQ(row.bed.quiet(), "") << leave;
  }
  EXPECT_GE(failures, 20U) << "30 pages of arguments; the first come from what is cached";
  EXPECT_TRUE(succeeded);
}

// The lists and strings of an execve in the program's own memory: two pages, then a hole.
struct UserArguments {
  explicit UserArguments(ExecRow& row_in) : row(row_in), base(row.bed.map(row.pid, 3)) {
    EXPECT_TRUE(row.bed.kernel().munmap(row.pid, base + 2 * kPage, kPage).ok());
    text(0, "prog");
    text(kPage - 3, "across pages");
    text(2 * kPage - 5, "last");
    words(64, {base, base + kPage - 3, base + 2 * kPage - 5, 0});
    words(128, {base, 0});
  }
  void put(u64 at, const void* data, u64 bytes) {
    std::vector<u8> copy(bytes);
    std::memcpy(copy.data(), data, bytes);
    EXPECT_EQ(
        row.bed.access(row.pid, base + at, copy.data(), static_cast<u32>(bytes), Access::write)
            .signo,
        Signal::none);
  }
  void text(u64 at, const char* string) {
    const u64 bytes = std::strlen(string) + 1;
    for (u64 i = 0; i < bytes; ++i) put(at + i, string + i, 1);
  }
  void words(u64 at, const std::vector<u64>& values) {
    for (u64 i = 0; i < values.size(); ++i) put(at + 8 * i, &values[i], 8);
  }
  Result<u64> exec(u64 argv, u64 envp) {
    return row.bed.wait_for(
        [&] { return row.bed.kernel().execve(row.pid, "prog", VirtAddr(argv), VirtAddr(envp)); });
  }
  ExecRow& row;
  u64 base;
};

TEST(RowsExec, row_64_arguments_come_from_the_programs_memory) {
  ExecRow row;
  row.install("prog", usual());
  UserArguments user(row);
  // They may be in swap.
  row.bed.push_out(row.pid, user.base, 2);
  ASSERT_TRUE(user.exec(user.base + 64, user.base + 128).ok());
  const u64 sp = row.bed.kernel().stack_pointer(row.pid).v;
  EXPECT_EQ(row.word(sp), 3U);
  EXPECT_EQ(row.text(row.word(sp + 8)), "prog");
  EXPECT_EQ(row.text(row.word(sp + 16)), "across pages");
  EXPECT_EQ(row.text(row.word(sp + 24)), "last");
  EXPECT_EQ(row.text(row.word(sp + 40)), "prog");
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsExec, lists_have_up_to_1024_strings_and_untouched_memory_is_an_empty_one) {
  ExecRow row;
  row.install("prog", usual());
  const u64 base = row.bed.map(row.pid, 8);
  const u64 untouched = base + 7 * kPage;
  std::vector<u64> list(ExecStrings::kMax + 1, untouched);
  list.push_back(0);
  const auto put = [&] {
    EXPECT_EQ(
        row.bed.access(row.pid, base, list.data(), static_cast<u32>(8 * list.size()), Access::write)
            .signo,
        Signal::none);
  };
  const auto execve = [&](u64 argv, u64 envp) {
    return row.bed.wait_for(
        [&] { return row.bed.kernel().execve(row.pid, "prog", VirtAddr(argv), VirtAddr(envp)); });
  };
  put();
  EXPECT_EQ(execve(base, base).error(), Error::too_big);
  EXPECT_EQ(execve(0, base).error(), Error::too_big);
  std::vector<const char*> host(ExecStrings::kMax + 1, "a");
  host.push_back(nullptr);
  EXPECT_EQ(row.bed
                .wait_for([&] {
                  return row.bed.kernel().exec(row.pid, "prog", host.data(), host.data());
                })
                .error(),
            Error::too_big);
  EXPECT_STREQ(row.bed.task(row.pid).name, "old");
  list[2] = base + 6 * kPage;
  list[ExecStrings::kMax] = 0;
  char text[] = "third";
  EXPECT_EQ(row.bed.access(row.pid, list[2], text, sizeof text, Access::write).signo, Signal::none);
  put();
  ASSERT_TRUE(execve(base, 0).ok());
  const u64 sp = row.bed.kernel().stack_pointer(row.pid).v;
  EXPECT_EQ(row.word(sp), u64{ExecStrings::kMax});
  EXPECT_EQ(row.text(row.word(sp + 8)), "");
  EXPECT_EQ(row.text(row.word(sp + 16)), "");
  EXPECT_EQ(row.text(row.word(sp + 24)), "third");
  EXPECT_EQ(row.text(row.word(sp + 8 * ExecStrings::kMax)), "");
  EXPECT_EQ(row.bed.quiet(), "");
}

// Each string on a page of its own that has to be read from swap: as many waits as strings.
TEST(RowsExec, row_64_many_arguments_may_all_be_in_swap) {
  constexpr u64 kStrings = 300;
  KernelBedConfig config;
  config.kernel.mm.page_cluster = 0;
  config.kernel.mm.swap_readahead = SwapReadahead::cluster;
  ExecRow row(config);
  row.install("prog", usual());
  const u64 base = row.bed.map(row.pid, kStrings + 1);
  std::vector<u64> list;
  for (u64 i = 1; i <= kStrings; ++i) {
    list.push_back(base + i * kPage);
    char text[] = "s000";
    text[1] = static_cast<char>('0' + i / 100);
    text[2] = static_cast<char>('0' + i / 10 % 10);
    text[3] = static_cast<char>('0' + i % 10);
    EXPECT_EQ(row.bed.access(row.pid, list.back(), text, sizeof text, Access::write).signo,
              Signal::none);
  }
  list.push_back(0);
  EXPECT_EQ(
      row.bed.access(row.pid, base, list.data(), static_cast<u32>(8 * list.size()), Access::write)
          .signo,
      Signal::none);
  row.bed.push_out(row.pid, base, kStrings + 1);
  u64 waits = 0;
  const Result<u64> run = row.bed.wait_for([&] {
    const Result<u64> tried = row.bed.kernel().execve(row.pid, "prog", VirtAddr(base), VirtAddr(0));
    waits += !tried.ok() && tried.error() == Error::wait ? 1 : 0;
    return tried;
  });
  ASSERT_TRUE(run.ok()) << name_of(run.error()) << " after " << waits;
  EXPECT_GE(waits, kStrings);
  const u64 sp = row.bed.kernel().stack_pointer(row.pid).v;
  EXPECT_EQ(row.word(sp), kStrings);
  EXPECT_EQ(row.text(row.word(sp + 8)), "s001");
  EXPECT_EQ(row.text(row.word(sp + 8 * kStrings)), "s300");
  EXPECT_EQ(row.bed.quiet(), "");
}

TEST(RowsExec, row_64_a_bad_pointer_is_a_fault_and_the_old_image_runs_on) {
  ExecRow row;
  row.install("prog", usual());
  UserArguments user(row);
  const u64 hole = user.base + 2 * kPage;
  const u64 none = row.bed.map(row.pid, 1);
  ASSERT_TRUE(row.bed.kernel().mprotect(row.pid, none, kPage, 0).ok());
  const u64 unended = user.base + 2 * kPage - 3;  // a string that runs into the hole
  user.words(256, {user.base, hole, 0});
  user.words(320, {user.base, none, 0});
  user.words(384, {user.base, unended, 0});
  user.words(448, {user.base, ~u64{0} - 2, 0});
  user.put(2 * kPage - 3, "abc", 3);
  const u64 free_before = row.bed.free_frames();
  const std::string before = row.bed.state(row.pid);
  struct Case {
    u64 argv, envp;
  };
  for (const Case& c : std::vector<Case>{{hole, 0},
                                         {none, 0},
                                         {~u64{0} - 7, 0},
                                         {user.base + 256, 0},
                                         {user.base + 320, 0},
                                         {user.base + 384, 0},
                                         {user.base + 448, 0},
                                         {user.base + 128, user.base + 256},
                                         {user.base + 128, hole - 4},
                                         {hole + (u64{1} << 46), 0}}) {
    const Result<u64> result = user.exec(c.argv, c.envp);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error(), Error::fault);
    EXPECT_EQ(row.bed.state(row.pid), before);
    EXPECT_STREQ(row.bed.task(row.pid).name, "old");
    EXPECT_EQ(row.bed.quiet(), "");
  }
  // What is gone is in the page cache and its tree: the file's pages.
  EXPECT_GE(row.bed.free_frames() + 8, free_before);
  EXPECT_TRUE(user.exec(0, 0).ok()) << "no lists are empty lists";
}

TEST(RowsExec, a_real_program_of_this_machine) {
  // This test's own file, as a linker made it.
  KernelBedConfig config;
  config.kernel.layout = Layout::modern;
  config.frames = 8192;
  config.disks = {8192, 4096};
  ExecRow row(config);
  std::FILE* self = std::fopen("/proc/self/exe", "rb");
  ASSERT_NE(self, nullptr);
  std::vector<u8> bytes(u64{28} << 20);
  bytes.resize(std::fread(bytes.data(), 1, bytes.size(), self));
  std::fclose(self);
  if (bytes.size() == (u64{28} << 20)) GTEST_SKIP() << "an instrumented build is too large";
  row.install("self", bytes);
  const Result<u64> entry = row.exec("self", {"self"});
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(row.bed.quiet(), "");
  // At the entry point lies what the file has there, by its own program headers.
  const auto field = [&](u64 at, u32 size) {
    u64 value = 0;
    std::memcpy(&value, bytes.data() + at, size);
    return value;
  };
  const u64 file_entry = field(24, 8);
  u64 offset = 0;
  for (u64 i = 0; i < field(56, 2); ++i) {
    const u64 header = field(32, 8) + i * 56;
    const u64 addr = field(header + 16, 8);
    if (field(header, 4) != 1 || file_entry < addr || file_entry - addr >= field(header + 32, 8)) {
      continue;
    }
    offset = field(header + 8, 8) + file_entry - addr;
  }
  ASSERT_NE(offset, 0U);
  u8 code[16];
  ASSERT_EQ(row.bed.access(row.pid, entry.value(), code, sizeof code, Access::exec).signo,
            Signal::none);
  EXPECT_EQ(std::memcmp(code, bytes.data() + offset, sizeof code), 0);
  EXPECT_GE(row.bed.areas(row.pid).size(), 4U);
  EXPECT_EQ(row.bed.quiet(), "");
}

}  // namespace
}  // namespace spillway
