"""Real programs under a budget: the right output, the right exit code, and RSS within bounds."""

import hashlib
import os
import shutil
import unittest

from harness import MB, OVERHEAD_BYTES, PYTHON, RunTest, built, full, run, source

BUDGET = 128 * MB  # --ram 96M and --swap-ram 32M, the defaults of RunTest.spillway


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Objects(RunTest):
    def test_python_dicts(self):
        count = full(750_000, 450_000)
        result = self.spillway([PYTHON, source("objects.py"), "--count", str(count)], timeout=300)
        self.assert_code(result, 0)
        self.assertIn(b": 0 wrong", result.stdout)
        self.assert_within(result, BUDGET)
        self.assert_swapped(result)


class Affinity(RunTest):
    def test_threads_and_children_keep_all_cpus(self):
        result = self.spillway([PYTHON, source("affinity.py")], ram="64M", swap_ram="64M",
                               timeout=120)
        self.assert_code(result, 0)
        self.assertIn(b" 0 wrong masks", result.stdout)
        self.assert_swapped(result)


class Sort(RunTest):
    def test_sort_in_memory(self):
        unsorted, expected = self.path("unsorted"), self.path("expected")
        lines = full(2_000_000, 1_600_000)
        self.assert_code(run([PYTHON, source("sortlines.py"), "--lines", str(lines), unsorted]), 0)
        self.assert_code(run(["sort", "-S", "400M", unsorted, "-o", expected]), 0)
        sort = ["sort", "-S", "400M", unsorted, "-o", self.path("sorted")]
        result = self.spillway(sort, timeout=300)
        self.assert_code(result, 0)
        self.assert_code(run(["sort", "-c", self.path("sorted")]), 0)
        self.assertEqual(digest(self.path("sorted")), digest(expected))
        self.assert_within(result, BUDGET)
        self.assert_swapped(result)


class Sqlite(RunTest):
    def test_database_in_memory(self):
        script = ["sqlite3", "-bail", ":memory:",
                  f".parameter set @rows {full(1_050_000, 700_000)}",
                  f".read {source('sqlite_memory.sql')}"]
        native = run(script)
        self.assert_code(native, 0)
        result = self.spillway(script, timeout=300)
        self.assert_code(result, 0)
        self.assertEqual(result.stdout, native.stdout)
        self.assertTrue(result.stdout.startswith(b"ok\n"), "integrity_check")
        self.assert_within(result, BUDGET)
        self.assert_swapped(result)


class Compile(RunTest):
    # Mapped pages of cc1plus itself: file-backed, shared, dropped by the kernel when it needs
    # them. They count in RSS, not in the budget. Measured as RssFile of a native run: 27.2 MB.
    COMPILER_TEXT = 28 * MB

    def compile_command(self, target):
        size = ["-DMONSTER_SIZE=2"] if not full(True, False) else []
        return ["g++", "-std=c++17", "-O2", *size, "-c", source("template_monster.cc"), "-o",
                target]

    def test_object_file_is_byte_identical(self):
        self.assert_code(run(self.compile_command(self.path("native.o"))), 0)
        # 424 MB natively in the full size, 206 MB in CI's.
        ram, swap_ram = full((144, 48), (96, 32))
        result = self.spillway(self.compile_command(self.path("spilled.o")), ram=f"{ram}M",
                               swap_ram=f"{swap_ram}M", env={"TMPDIR": self.scratch}, timeout=600)
        self.assert_code(result, 0)
        self.assertEqual(digest(self.path("spilled.o")), digest(self.path("native.o")))
        self.assert_within(result, (ram + swap_ram) * MB, self.COMPILER_TEXT)
        self.assert_swapped(result)


class Threads(RunTest):
    def test_threads_files_and_forked_children(self):
        size = full(["--mb", "300", "--rounds", "20000", "--forks", "4"],
                    ["--mb", "160", "--rounds", "4000", "--forks", "4"])
        result = self.spillway([built("mt_verify"), "--threads", "4", "--dir", self.scratch,
                                *size], timeout=600)
        self.assert_code(result, 0)
        self.assertIn(b": 0 wrong", result.stdout)
        self.assert_within(result, BUDGET)
        self.assert_swapped(result)


class Semantics(RunTest):
    def test_output_is_that_of_a_native_run(self):
        ram, swap_ram, pressure = full((64, 32, 128), (16, 16, 48))
        command = [built("semantics"), "--pressure-mb", str(pressure)]
        native = run(command)
        self.assert_code(native, 0)
        result = self.spillway(command, ram=f"{ram}M", swap_ram=f"{swap_ram}M", timeout=300)
        self.assertEqual(result.stdout.decode(), native.stdout.decode(), result.stderr)
        self.assert_code(result, 0)
        self.assert_swapped(result)


class Exhaustion(RunTest):
    def hog(self, megabytes, content="incompressible", children=0):
        return [built("hog"), "--mb", str(megabytes), "--content", content, "--children",
                str(children)]

    def test_excess_goes_to_disk(self):
        result = self.spillway(self.hog(120), ram="32M", swap_ram="8M",
                               options=["--swap-max", "256M"])
        self.assert_code(result, 0)
        self.assert_within(result, 40 * MB)
        self.assert_swapped(result)

    def test_zeros_cost_nothing(self):
        result = self.spillway(self.hog(200, "zero"), ram="16M", swap_ram="4M",
                               options=["--swap-max", "0"])
        self.assert_code(result, 0)
        self.assert_within(result, 20 * MB)

    def test_full_swap_ends_the_program_in_one_sentence(self):
        for swap_max in ("16M", "0"):
            with self.subTest(swap_max=swap_max):
                result = self.spillway(self.hog(120), ram="32M", swap_ram="8M",
                                       options=["--swap-max", swap_max])
                self.assert_code(result, 121)
                self.assertNotIn(b"0 wrong", result.stdout)
                self.assertRegex(result.stderr, r"(?m)^spillway: hog .*--swap-max")

    def test_children_share_the_budget(self):
        result = self.spillway(self.hog(48, "mixed", children=3), ram="48M", swap_ram="16M")
        self.assert_code(result, 0)
        # Three children and their parent: each brings an overhead of its own.
        self.assertLessEqual(result.peak_tree_bytes, 64 * MB + 4 * OVERHEAD_BYTES)
        self.assert_swapped(result)


class Shell(RunTest):
    def test_tree_of_programs(self):
        """A shell, two programs in a pipe, one more after them: each exec starts anew."""
        self.assertIsNotNone(shutil.which("sort"))
        script = (f"'{PYTHON}' '{source('sortlines.py')}' --lines 300000 - | sort -S 200M > sorted "
                  "&& sort -c sorted && wc -l < sorted")
        result = self.spillway(["sh", "-c", script], ram="24M", swap_ram="8M", cwd=self.scratch)
        self.assert_code(result, 0)
        self.assertEqual(result.stdout.split(), [b"300000"])
        self.assertEqual(os.path.getsize(self.path("sorted")), 300_000 * 54)


if __name__ == "__main__":
    unittest.main(verbosity=2)
