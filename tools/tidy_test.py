#!/usr/bin/env python3
"""Shows for every rule of tools/tidy.py a sample on which it fires and one on which it does not.

The samples are small trees, {path: text}; only the rules named in an assertion are looked at, so
a sample need not be perfect in other respects.
"""

import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tidy  # noqa: E402  (the path must be set first)

FIX_WORD = "FIX" + "ME"
TODO_WORD = "TO" + "DO"


def rules(path, text, **more):
    """The rules that fire on one file, as a list with repetitions."""
    tree = {path: text}
    tree.update(more)
    return [f.rule for f in tidy.check_tree(tree) if f.path == path and f.error]


class Base(unittest.TestCase):
    def fires(self, rule, path, text):
        self.assertIn(rule, rules(path, text), f"{rule} is silent on {path}: {text!r}")

    def silent(self, rule, path, text):
        self.assertNotIn(rule, rules(path, text), f"{rule} fires on {path}: {text!r}")


class DependencyRule(Base):
    def include(self, target):
        return f'#include "{target}"\n'

    def test_lower_rooms_and_itself_are_fine(self):
        for path, target in [("src/page/a.cc", "base/units.h"), ("src/page/a.cc", "page/b.h"),
                             ("src/reclaim/a.h", "fault/fault.h"),
                             ("src/system/a.cc", "reclaim/kswapd.h"),
                             ("src/api/a.cc", "workload/op.h"),
                             ("src/workload/a.h", "script/verbs.h"),
                             ("src/api/a.cc", "spillway/pool.h"),
                             ("include/spillway/pool.h", "system/system.h")]:
            self.silent("include", path, self.include(target))

    def test_higher_rooms_are_not(self):
        for path, target in [("src/base/a.h", "observe/events.h"),
                             ("src/page/a.cc", "reclaim/kswapd.h"),
                             ("src/page/a_test.cc", "slab/cache.h"),
                             ("src/fault/a.cc", "api/pool.h"),
                             ("src/script/a.cc", "workload/runner.h"),
                             ("src/system/a.cc", "workload/op.h")]:
            self.fires("include", path, self.include(target))

    def test_equals_do_not_see_each_other(self):
        for left, right in [("slab", "lru"), ("lru", "pagetable"), ("pagecache", "vmalloc"),
                            ("swap", "vfs")]:
            self.fires("include", f"src/{left}/a.h", self.include(f"{right}/b.h"))
            self.fires("include", f"src/{right}/a.h", self.include(f"{left}/b.h"))

    def test_wings_see_the_port_only(self):
        for wing in ("machine_sim", "machine_host", "machine_arena"):
            for target in ("base/units.h", "observe/events.h", "machine/mmu.h", f"{wing}/b.h"):
                self.silent("include", f"src/{wing}/a.cc", self.include(target))
            self.fires("include", f"src/{wing}/a.cc", self.include("page/page.h"))
        self.fires("include", "src/machine_sim/a.cc", self.include("machine_host/b.h"))
        self.fires("include", "src/machine_host/a.cc", self.include("machine_sim/b.h"))
        self.silent("include", "src/machine_host/a_test.cc", self.include("machine_sim/b.h"))

    def test_no_room_sees_a_wing_but_programs_do(self):
        for wing in ("machine_sim", "machine_host", "machine_arena"):
            for path in ("src/system/a.cc", "src/api/a.cc", "src/base/a.h",
                         "include/spillway/a.h"):
                self.fires("include", path, self.include(f"{wing}/b.h"))
            for path in ("apps/cli/a.cc", "tests/sim/a.cc", "bench/a.cc"):
                self.silent("include", path, self.include(f"{wing}/b.h"))

    def test_tests_of_rooms_may_see_the_simulated_machine(self):
        self.silent("include", "src/page/a_test.cc", self.include("machine_sim/b.h"))
        self.fires("include", "src/page/a_test.cc", self.include("machine_host/b.h"))
        self.fires("include", "src/page/test_a.cc", self.include("machine_sim/b.h"))

    def test_drivers_see_the_header_of_their_port(self):
        port = next(iter(tidy.DRIVERS["fs_host"]))
        self.silent("include", "src/fs_host/a.cc", self.include(port))
        self.silent("include", "src/fs_host/a.cc", self.include("machine/frames.h"))
        self.fires("include", "src/fs_host/a.cc", self.include("vfs/dentry_private.h"))
        self.fires("include", "src/fs_host/a.cc", self.include("page/page.h"))
        self.silent("include", "src/fs_ext/a.cc", self.include("vfs/page_transfers.h"))
        self.fires("include", "src/fs_host/a.cc", self.include("vfs/page_transfers.h"))
        self.fires("include", "src/system/a.cc", self.include("fs_host/a.h"))

    def test_form_of_an_include(self):
        self.fires("include", "src/page/a.cc", self.include("b.h"))
        self.fires("include", "src/page/a.cc", self.include("../base/units.h"))
        self.fires("include", "src/page/a.cc", self.include("pgae/b.h"))
        self.fires("include", "src/page/a.cc", "#include <base/units.h>\n")
        self.fires("include", "src/page/a.cc", self.include("spillway/pool.h"))
        self.fires("include", "src/page/a.cc", '  #  include "slab/cache.h"\n')
        self.silent("include", "src/page/a.cc", '// #include "slab/cache.h"\n')
        self.silent("include", "src/page/a.cc", '/*\n#include "slab/cache.h"\n*/\n')

    def test_message_names_place_and_remedy(self):
        finding = [f for f in tidy.check_tree({"src/page/a.cc": "\n" + self.include("slab/b.h")})
                   if f.rule == "include"][0]
        self.assertTrue(str(finding).startswith("src/page/a.cc:2: include: "), str(finding))
        self.assertIn("port", str(finding))


class SystemHeaders(Base):
    def test_core_has_none(self):
        for header in ("pthread.h", "unistd.h", "sys/mman.h", "linux/userfaultfd.h", "thread",
                       "chrono", "random", "mutex", "iostream", "time.h", "signal.h"):
            for path in ("src/base/a.cc", "src/system/a.cc", "src/machine_sim/a.cc",
                         "src/workload/a.cc"):
                self.fires("system-header", path, f"#include <{header}>\n")
            for path in ("src/machine_host/a.cc", "src/machine_arena/a.cc", "src/fs_host/a.cc",
                         "src/api/a.cc",
                         "src/base/a_test.cc", "apps/cli/a.cc", "tests/sim/a.cc"):
                self.silent("system-header", path, f"#include <{header}>\n")

    def test_freestanding_headers_are_fine(self):
        for header in ("atomic", "cstdint", "cstddef", "type_traits", "span", "array", "xxhash.h",
                       "lz4.h", "bit", "string_view"):
            self.silent("system-header", "src/base/a.cc", f"#include <{header}>\n")

    def test_cassert(self):
        self.fires("assert", "src/base/a.cc", "#include <cassert>\n")


class BannedNames(Base):
    BAD = {
        "assert": ["assert(x);", "  assert (x);"],
        "std-lock": ["std::mutex m;", "std::lock_guard g(m);", "std::shared_mutex m;",
                     "std::condition_variable cv;", "std::scoped_lock l(m);"],
        "rand": ["int x = rand();", "srand(1);", "std::rand();"],
        "time": ["auto t = time(nullptr);", "std::time(&t);", "time(NULL);"],
        "printf": ['printf("x");', 'std::printf("x");', "std::cout << 1;", 'puts("x");'],
        "throw": ["throw 1;"],
        "rtti": ["auto* d = dynamic_cast<D*>(b);", "typeid(x).name();"],
    }
    GOOD = {
        "assert": ["SPW_ASSERT(x);", "static_assert(x);", "// assert(x) is gone", '"assert(x)";'],
        "std-lock": ["SpinLock lock;", "mutex m;", "Mutex<Rank::mm> m;"],
        "rand": ["prng.rand();", "operand(x);", "strand(x);"],
        "time": ["clock.time(0);", "u64 time_ns = now();", "uptime(0);", "u64 time() const;"],
        "printf": ['snprintf(b, n, "x");', 'log->printf("x");', "outputs(x);"],
        "throw": ["// never throw", "nothrow;"],
        "rtti": ["static_cast<D*>(b);"],
    }
    BAD_HEAP = ["std::vector<int> v;", "std::string s;", "std::function<void()> f;",
                "std::unordered_map<int, int> m;", "auto p = std::make_unique<int>(1);",
                "auto* p = new Page;", "auto* p = new Page[3];", "auto* p = new (std::nothrow) P;",
                "delete p;", "delete[] p;", "void* p = malloc(8);", "p = std::realloc(p, 8);",
                "std::free(p);", "::free(p);", "std::map<int, int> m;"]
    GOOD_HEAP = ["std::string_view s;", "std::array<int, 3> a;", "Page() = delete;",
                 "new (place) Page;", "::new (place) Page;", "slab.malloc(8);", "kmalloc(8);",
                 "// a new page", "buddy.free(p);", "int renew = 1;", "std::span<int> s;",
                 "void Buddy::free(Pfn pfn) {", "x = T::free(p);",
                 "void operator delete(void* p);", "Page(const Page&) = delete;"]

    def test_bad_names_fire(self):
        for rule, samples in self.BAD.items():
            for sample in samples:
                for room in ("base", "reclaim", "system", "machine_sim", "machine_host",
                             "fs_host"):
                    self.fires(rule, f"src/{room}/a.cc", sample + "\n")
                for path in ("src/base/a_test.cc", "src/api/a.cc", "src/workload/a.cc",
                             "apps/cli/a.cc", "tests/sim/a.cc"):
                    self.silent(rule, path, sample + "\n")

    def test_good_names_do_not(self):
        for rule, samples in self.GOOD.items():
            for sample in samples:
                self.silent(rule, "src/base/a.cc", sample + "\n")

    def test_heap_fires_where_malloc_would_reenter(self):
        for sample in self.BAD_HEAP:
            for room in ("base", "slab", "system", "machine_host"):
                self.fires("heap", f"src/{room}/a.cc", sample + "\n")
            for path in ("src/machine_sim/a.cc", "src/swap_redis/a.cc", "src/workload/a.cc",
                         "src/slab/a_test.cc", "src/slab/a_fuzz.cc", "src/slab/a_ops.h",
                         "apps/cli/a.cc"):
                self.silent("heap", path, sample + "\n")

    def test_heap_is_silent_on_lookalikes(self):
        for sample in self.GOOD_HEAP:
            self.silent("heap", "src/slab/a.cc", sample + "\n")


class Stripping(Base):
    def test_lines_and_columns_stay(self):
        text = 'a /* x\ny */ b "s\\"t" c\n// d\n'
        stripped = tidy.strip_cxx(text)
        self.assertEqual(len(stripped), len(text))
        self.assertEqual(stripped.count("\n"), text.count("\n"))
        self.assertEqual(stripped.index("c"), text.index("c"))
        self.assertNotIn("d", stripped)
        self.assertNotIn("t", stripped)

    def test_number_separators_are_no_characters(self):
        self.fires("throw", "src/base/a.cc", "u64 n = 1'000; throw 1;\n")
        self.fires("throw", "src/base/a.cc", "u64 n = 0xff'ff'00u; throw 1;\n")

    def test_characters_and_raw_strings(self):
        self.fires("throw", "src/base/a.cc", "char c = '\"'; throw 1; // \"\n")
        self.fires("throw", "src/base/a.cc", "char c = '\\''; throw 1;\n")
        self.silent("throw", "src/base/a.cc", 'auto s = R"x(" throw 1; )x";\n')
        self.fires("throw", "src/base/a.cc", 'auto s = R"(")"; throw 1;\n')


class Sizes(Base):
    def test_header(self):
        self.fires("size", "src/base/a.h", "int x;\n" * 301)
        self.silent("size", "src/base/a.h", "int x;\n" * 300)

    def test_source(self):
        self.fires("size", "src/base/a.cc", "int x;\n" * 801)
        self.silent("size", "src/base/a.cc", "int x;\n" * 800)
        self.fires("size", "tools/a.py", "x = 1\n" * 801)
        self.silent("size", "docs/a.md", "text\n" * 801)

    def test_source_above_the_soft_limit_only_warns(self):
        found = tidy.check_tree({"src/base/a.cc": "int x;\n" * 501})
        self.assertTrue([f for f in found if f.rule == "size" and not f.error])

    def test_long_function_only_warns(self):
        def warnings(lines):
            text = "int f() {\n" + "  g();\n" * (lines - 2) + "}\n"
            return [f for f in tidy.check_tree({"apps/a.cc": text}) if f.rule == "function-length"]
        self.assertEqual(len(warnings(71)), 1)
        self.assertFalse(warnings(71)[0].error)
        self.assertEqual(warnings(70), [])

    def test_a_namespace_is_no_function(self):
        text = "namespace spillway {\n" + "int x;\n" * 90 + "}\n"
        self.assertEqual([f for f in tidy.check_tree({"apps/a.cc": text})], [])

    def test_columns(self):
        self.fires("columns", "apps/a.cc", "x" * 101 + "\n")
        self.silent("columns", "apps/a.cc", "x" * 100 + "\n")
        self.silent("columns", "apps/a.cc", "\u00b5" * 100 + "\n")
        self.silent("columns", "apps/a.cc", "// https://example.org/" + "x" * 100 + "\n")
        self.silent("columns", "docs/a.md", "x" * 101 + "\n")
        self.fires("columns", "tools/script", "#!/bin/sh\n" + "x" * 101 + "\n")


class Text(Base):
    def test_fix_word(self):
        self.fires("fix-word", "apps/a.cc", f"// {FIX_WORD}: later\n")
        self.silent("fix-word", "apps/a.cc", "// Fix me a drink.\n")

    def test_todo_needs_an_issue(self):
        self.fires("todo", "apps/a.cc", f"// {TODO_WORD}: later\n")
        self.fires("todo", "apps/a.cc", f"// {TODO_WORD}(me): later\n")
        self.silent("todo", "apps/a.cc", f"// {TODO_WORD}(#12): later\n")
        self.fires("todo", "docs/a.md", f"# A\n{TODO_WORD}\n")
        self.silent("todo", "docs/a.md", f"# A\nWrite `{TODO_WORD}` with a number.\n")

    def test_final_newline(self):
        self.fires("final-newline", "apps/a.cc", "int x;")
        self.silent("final-newline", "apps/a.cc", "int x;\n")
        self.silent("final-newline", "apps/a.cc", "")

    def test_trailing_blank(self):
        self.fires("trailing-blank", "apps/a.cc", "int x; \n")
        self.fires("trailing-blank", "docs/a.md", "# A\nx\t\n")
        self.fires("trailing-blank", "apps/a.cc", "int x;\r\n")
        self.silent("trailing-blank", "apps/a.cc", "int x;\n\n")

    def test_dead_code(self):
        self.fires("dead-code", "apps/a.cc", "// int x = 1;\n// use(x);\n")
        self.fires("dead-code", "apps/a.cc", "//if (x) {\n//  }\n// return y;\n// }\n")
        self.silent("dead-code", "apps/a.cc", "// int x = 1;\n")
        self.silent("dead-code", "apps/a.cc", "// Use it so:\n//   int x = 1;\n//   use(x);\n")
        self.silent("dead-code", "apps/a.cc",
                    "// The caller holds the lock (of the zone);\n// it drops it on return.\n")

    def test_banner(self):
        self.fires("banner", "apps/a.cc", "// ------------\n")
        self.fires("banner", "apps/a.cc", "/*============*/\n")
        self.silent("banner", "apps/a.cc", "// a -> b\n")

    def test_markdown_title(self):
        self.fires("title", "docs/a.md", "text\n")
        self.fires("title", "docs/a.md", "# A\n# B\n")
        self.silent("title", "docs/a.md", "# A\n## B\n```sh\n# comment\n```\n")


class Rooms(Base):
    def found(self, tree):
        return [f.rule for f in tidy.check_tree(tree)]

    def test_readme_must_be_there(self):
        self.assertIn("room-readme", self.found({"src/base/a.h": ""}))
        self.assertNotIn("room-readme",
                         self.found({"src/base/a.h": "", "src/base/README.md": "# base\n"}))

    def test_readme_must_be_short(self):
        self.assertIn("room-readme", self.found({"src/base/README.md": "# base\n" + "x\n" * 60}))
        self.assertNotIn("room-readme",
                         self.found({"src/base/README.md": "# base\n" + "x\n" * 59}))

    def test_room_must_have_a_number(self):
        self.assertIn("room", self.found({"src/attic/README.md": "# attic\n"}))
        self.assertNotIn("room", self.found({"src/machine_sim/README.md": "# sim\n"}))


class Acceptance(unittest.TestCase):
    HEAD = "# Acceptance\n\n| row | what is proved | by | remarks |\n|---|---|---|---|\n"
    TEST = "TEST_F(Fork,\n       row_21_copies) {\n}\n"

    def found(self, table, test=TEST):
        tree = {"docs/acceptance.md": self.HEAD + table, "src/space/fork_test.cc": test}
        return [(f.path, f.line) for f in tidy.check_tree(tree) if f.rule == "acceptance"]

    def test_a_table_that_names_what_there_is(self):
        for test in (self.TEST, "TEST_P(Fork, row_21_copies) {}\n", "TEST(Fork, row_21_copies) {}"):
            self.assertEqual(self.found("| 21 | fork | `Fork.row_21_copies` | |\n", test), [])
        # A row may be proved by tests that have other names, and a remark may speak of anything.
        self.assertEqual(self.found("| 1 | all | `A.b`<br>`Fork.row_21_copies` | `c` |\n"
                                    "| 2 | x | open | |\n\n1 of 2 rows have a test.\n",
                                    self.TEST + "TEST(A, b) {\n}\n"), [])

    def test_every_test_of_a_row_is_named(self):
        self.assertEqual(self.found("| 21 | fork | open | |\n"), [("src/space/fork_test.cc", 1)])
        self.assertEqual(self.found("| 21 | fork | open | `Fork.row_21_copies` |\n"),
                         [("src/space/fork_test.cc", 1)])
        # What is commented out or has another name is no test of a row.
        self.assertEqual(self.found("| 21 | fork | open | |\n",
                                    "// TEST(Fork, row_21_copies)\nTEST(Fork, copies) {}\n"), [])

    def test_every_named_test_exists(self):
        both = "| 21 | fork | `Fork.row_21_copies`<br>`Fork.row_21_more` | |\n"
        self.assertEqual(self.found(both), [("docs/acceptance.md", 5)])
        self.assertEqual(self.found("| 21 | fork | `Fork.row_21_copies` | |\n",
                                    "// TEST(Fork, row_21_copies)\n"), [("docs/acceptance.md", 5)])

    def test_the_sum_is_right(self):
        table = "| 20 | x | open | |\n| 21 | fork | `Fork.row_21_copies` | |\n\n"
        self.assertEqual(self.found(table + "2 of 2 rows have a test.\n"),
                         [("docs/acceptance.md", 8)])

    def test_without_a_table_nothing_is_asked(self):
        tree = {"src/space/fork_test.cc": self.TEST}
        self.assertNotIn("acceptance", [f.rule for f in tidy.check_tree(tree)])


class CommandLine(unittest.TestCase):
    def run_on(self, text):
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, "apps"))
            with open(os.path.join(root, "apps", "a.cc"), "w", encoding="utf-8") as file:
                file.write(text)
            # A bundle of somebody else and a build folder are left alone.
            os.makedirs(os.path.join(root, "build-x"))
            for name in ("apps/x.min.js", "build-x/b.cc"):
                with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                    file.write("bad \n")
            return subprocess.run([sys.executable, tidy.__file__, "--root", root], text=True,
                                  capture_output=True, check=False)

    def test_exit_code_tells_the_result(self):
        good = self.run_on("int x;\n")
        self.assertEqual(good.returncode, 0, good.stdout)
        bad = self.run_on("int x; \n")
        self.assertEqual(bad.returncode, 1)
        self.assertIn("apps/a.cc:1: trailing-blank: ", bad.stdout)


if __name__ == "__main__":
    unittest.main()
