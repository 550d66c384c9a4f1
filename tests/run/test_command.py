"""`spillway run` as a wrapper: transparent when all is well, plain and exact when it is not."""

import json
import os
import shutil
import signal
import subprocess
import time
import unittest

from harness import BUILT, PYTHON, SPILLWAY, RunTest, built, run

NOBODY = 65534
FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127


class Transparency(RunTest):
    def spill(self, program, **how):
        return self.spillway(program, ram="32M", swap_ram="8M", **how)

    def test_exit_codes_pass_through(self):
        for code in (0, 1, 7, 255):
            result = self.spill(["sh", "-c", f"exit {code}"])
            self.assert_code(result, code)
            self.assertEqual(result.report["exit_code"], code)
            self.assertEqual(result.stderr, "")

    def test_death_by_signal_becomes_128_plus_n(self):
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
            self.assert_code(self.spill(["sh", "-c", f"kill -{int(number)} $$"]), 128 + number)

    def test_signals_reach_the_program(self):
        trap = "trap 'kill $!; echo caught; exit 9' TERM; sleep 30 & wait"
        result = self.spill(["sh", "-c", trap], signal_after=(signal.SIGTERM, 1.0), timeout=20)
        self.assert_code(result, 9)
        self.assertEqual(result.stdout, b"caught\n")

    def test_standard_streams_and_arguments(self):
        text = os.urandom(1 << 20)
        self.assertEqual(self.spill(["cat"], stdin=text).stdout, text)
        odd = ["--ram", "a b", "", "*", "--", "-x"]
        result = self.spill([PYTHON, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))",
                             *odd])
        self.assertEqual(json.loads(result.stdout), odd)

    def test_statistics_go_to_stderr(self):
        result = self.spill([built("hog"), "--mb", "80"], options=["--stats"])
        self.assert_code(result, 0)
        self.assertEqual(len(result.stdout.splitlines()), 1)
        for row in ("faults", "soft", "swapped in", "swapped out", "compression", "peak RSS",
                    "waited"):
            self.assertIn(row, result.stderr)

    def test_settings_from_the_environment(self):
        swap = self.path("swap")
        os.mkdir(swap, 0o700)
        result = run([SPILLWAY, "run", "--report", self.path("r.json"), built("hog"), "--mb", "64"],
                     env={"SPILLWAY_RAM": "16M", "SPILLWAY_SWAP_DIR": swap})
        self.assert_code(result, 0)
        with open(self.path("r.json")) as file:
            self.assertEqual(json.load(file)["ram_bytes"], 16 << 20)
        self.assertEqual(os.listdir(swap), [])

    def test_bare_preload(self):
        library = os.path.join(os.path.dirname(SPILLWAY), "libspillway-preload.so")
        self.assertTrue(os.path.exists(library), library)
        swap = self.path("swap")
        os.mkdir(swap, 0o700)
        result = run([built("hog"), "--mb", "96"],
                     env={"LD_PRELOAD": library, "SPILLWAY_RAM": "24M", "SPILLWAY_SWAP_DIR": swap})
        self.assert_code(result, 0)
        self.assertLess(result.maxrss_bytes, 48 << 20)
        self.assertEqual(os.listdir(swap), [])


class BadInput(RunTest):
    """One line on stderr, naming the thing and the remedy; a documented code; nothing left."""

    def setUp(self):
        super().setUp()
        self.swap = self.path("swap")
        os.mkdir(self.swap, 0o700)

    def refuse(self, code, pattern, options=(), program=("true",), wrap=(),
               command=SPILLWAY):
        before = set(os.listdir("/dev/shm"))
        result = run([*wrap, command, "run", *(options or ["--ram", "32M"]), "--", *program],
                     env={"SPILLWAY_SWAP_DIR": self.swap, "TMPDIR": self.scratch}, timeout=20)
        self.assert_code(result, code)
        self.assertEqual(result.stdout, b"")
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        # `spillway: <thing>: <what is wrong>; <remedy>`
        self.assertRegex(lines[0], r"^spillway: .+: .+; .+$")
        self.assertRegex(lines[0], pattern)
        self.assertEqual(result.left_behind, [])
        self.assertEqual(os.listdir(self.swap), [])
        self.assertEqual([n for n in set(os.listdir("/dev/shm")) - before if "spillway" in n], [])

    def test_unknown_size_suffix(self):
        for text in ("12X", "", "M", "-5M", "1..5G", "99999999999999999999G"):
            with self.subTest(size=text):
                self.refuse(FAILED, "--ram", [f"--ram={text}"])
        self.refuse(FAILED, "--swap-ram.*7Q", ["--ram", "32M", "--swap-ram", "7Q"])
        self.refuse(FAILED, "--swap-max.*many", ["--ram", "32M", "--swap-max", "many"])

    def test_ram_below_the_minimum(self):
        for text in ("0", "4096", "1M"):
            with self.subTest(size=text):
                self.refuse(FAILED, "--ram.*at least", ["--ram", text])

    def test_unusable_swap_directory(self):
        plain_file = self.path("plain")
        open(plain_file, "w").close()
        for folder in (self.path("missing"), plain_file, "/proc"):
            with self.subTest(folder=folder):
                self.refuse(FAILED, f"{folder}.*--swap-dir",
                            ["--ram", "32M", "--swap-dir", folder])

    def test_unknown_option_and_missing_program(self):
        self.refuse(FAILED, "--rum", ["--rum", "32M"])
        result = run([SPILLWAY, "run", "--ram", "32M"], timeout=20)
        self.assert_code(result, FAILED)
        self.assertEqual(len(result.stderr.splitlines()), 1)

    def test_program_not_found(self):
        self.refuse(NOT_FOUND, "no-such-program", program=["no-such-program"])
        self.refuse(NOT_FOUND, "/no/such/program", program=["/no/such/program"])

    def test_program_not_executable(self):
        text = self.path("text")
        with open(text, "w") as file:
            file.write("just text\n")
        self.refuse(NOT_EXECUTABLE, text, program=[text])
        self.refuse(NOT_EXECUTABLE, self.scratch, program=[self.scratch])

    def test_static_program(self):
        static = self.path("static-program")
        with open(static + ".c", "w") as file:
            file.write("int main(void) { return 0; }\n")
        subprocess.run(["gcc", "-static", static + ".c", "-o", static], check=True)
        self.refuse(FAILED, f"{static}.*static", program=[static])

    @unittest.skipUnless(os.geteuid() == 0, "needs root to make a set-user-ID program")
    def test_set_uid_program(self):
        program = self.path("set-uid-program")
        shutil.copy(shutil.which("true"), program)
        os.chown(program, NOBODY, NOBODY)
        os.chmod(program, 0o4755)
        self.refuse(FAILED, f"{program}.*set-u", program=[program])

    def command_for_nobody(self):
        """(what drops to an unprivileged user, a copy of the command which that user can reach)."""
        os.chmod(self.scratch, 0o711)
        os.chown(self.swap, NOBODY, NOBODY)
        # The build tree may lie in a home folder that nobody else may enter.
        binaries = self.path("bin")
        shutil.copytree(os.path.dirname(SPILLWAY), binaries,
                        ignore=shutil.ignore_patterns("tests", "bench", "*_test"))
        os.chmod(binaries, 0o755)
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        return drop, os.path.join(binaries, os.path.basename(SPILLWAY))

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
    def test_unreadable_swap_directory(self):
        drop, command = self.command_for_nobody()
        locked = self.path("locked")
        os.mkdir(locked, 0o700)
        self.refuse(FAILED, f"{locked}.*--swap-dir", ["--ram", "32M", "--swap-dir", locked],
                    wrap=drop, command=command)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
    def test_no_permission_for_userfaultfd(self):
        with open("/proc/sys/vm/unprivileged_userfaultfd") as file:
            if file.read().strip() != "0":
                self.skipTest("vm.unprivileged_userfaultfd lets everybody in on this machine")
        drop, command = self.command_for_nobody()
        self.refuse(FAILED, "userfaultfd", wrap=drop, command=command)


def damage_largest_mapping(pid):
    """Flips one byte, in the zeros or pattern of a page, in the middle of its largest mapping."""
    with open(f"/proc/{pid}/maps") as file:
        ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in file
                  if " rw-p " in line]
    start, end = max(ranges, key=lambda limits: limits[1] - limits[0])
    at = (start + end) // 2 // 4096 * 4096 + 3000
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(at)
        byte = memory.read(1)[0]
        memory.seek(at)
        memory.write(bytes([byte ^ 0x10]))


class Setup(unittest.TestCase):
    def test_everything_is_built(self):
        """Without the command or the programs this suite must fail, never skip."""
        self.assertTrue(os.access(SPILLWAY, os.X_OK), f"no spillway command at {SPILLWAY}")
        for name in ("hog", "mt_verify", "semantics"):
            self.assertTrue(os.access(built(name), os.X_OK), f"no {name} in {BUILT}")

    def test_programs_notice_damage(self):
        """One wrong byte in their memory, written from outside, must fail them."""
        for command in (["mt_verify", "--mb", "32", "--rounds", "400000", "--forks", "0"],
                        ["hog", "--mb", "32", "--passes", "100"]):
            with self.subTest(program=command[0]):
                process = subprocess.Popen([built(command[0]), *command[1:]],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    time.sleep(0.3)  # past the fill, far from the end
                    self.assertIsNone(process.poll(), "ended before it could be damaged")
                    damage_largest_mapping(process.pid)
                    self.assertEqual(process.wait(60), 1)
                finally:
                    process.kill()
                    process.wait()


if __name__ == "__main__":
    unittest.main(verbosity=2)
