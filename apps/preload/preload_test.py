"""The preload library by itself, as LD_PRELOAD in a Dockerfile would use it.

usage: preload_test.py LIBRARY
"""

import os
import subprocess
import sys
import unittest

LIBRARY = os.path.abspath(sys.argv[1])
PYTHON = os.path.realpath(sys.executable)


def run(code, program=PYTHON, **environment):
    clean = {k: v for k, v in os.environ.items()
             if not k.startswith("SPILLWAY_") and k != "LD_PRELOAD"}
    clean.update({k: v for k, v in environment.items() if v is not None})
    clean["LD_PRELOAD"] = LIBRARY
    words = [program, "-c", code] if code is not None else [program]
    return subprocess.run(words, env=clean, text=True, capture_output=True, timeout=120,
                          check=False)


FILL = """
import hashlib, os
blocks = [bytearray(os.urandom(4096) * 64) for _ in range({count})]
sums = [hashlib.md5(b).digest() for b in blocks]
def check():
    return all(hashlib.md5(b).digest() == s for b, s in zip(blocks, sums))
def peak_kb():
    return int([l for l in open("/proc/self/status") if "VmHWM" in l][0].split()[1])
"""


class Preload(unittest.TestCase):
    def test_a_program_stays_within_its_budget(self):
        result = run(FILL.format(count=600) + "print(check(), peak_kb())",
                     SPILLWAY_RAM="48M", SPILLWAY_SWAP_DIR="/var/tmp", SPILLWAY_SWAP_MAX="512M")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        right, peak = result.stdout.split()
        self.assertEqual(right, "True")
        self.assertLess(int(peak), (48 + 14) * 1024)

    def test_stats_come_at_the_end_and_once(self):
        result = run("import os; os.system('true')", SPILLWAY_RAM="48M", SPILLWAY_STATS="1")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(result.stderr.count("spillway: pgfault "), 1, result.stderr)

    def test_children_share_the_budget(self):
        result = run("import os; print(os.environ['SPILLWAY_LEDGER_FD'], flush=True);"
                     "os.system('echo $SPILLWAY_LEDGER_FD; ls -l /proc/self/fd | grep -c ledger')",
                     SPILLWAY_RAM="48M")
        first, second, found = result.stdout.split()
        self.assertEqual(first, second)
        self.assertEqual(found, "1")

    def test_a_fork_goes_on_with_its_pages(self):
        result = run(FILL.format(count=300) + """
children = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        ok = check()
        for b in blocks[n::3]:
            b[5] = n
        os._exit(0 if ok and all(b[5] == n for b in blocks[n::3]) else 1)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children], check())
""", SPILLWAY_RAM="48M", SPILLWAY_SWAP_DIR="/var/tmp", SPILLWAY_SWAP_MAX="512M")
        self.assertEqual(result.stdout.strip(), "[0, 0, 0] True", result.stderr)

    def test_closing_all_descriptors_does_no_harm(self):
        result = run(FILL.format(count=300) + """
os.closerange(3, 4096)
for fd in range(3, 1100):
    try:
        os.close(fd)
    except OSError:
        pass
import subprocess
print(check(), subprocess.run(["echo", "hi"], close_fds=True, capture_output=True).stdout)
""", SPILLWAY_RAM="48M", SPILLWAY_SWAP_DIR="/var/tmp", SPILLWAY_SWAP_MAX="512M")
        self.assertEqual(result.stdout.strip(), "True b'hi\\n'", result.stderr)

    def test_what_closes_them_behind_our_back_is_stopped(self):
        result = run(FILL.format(count=300) + """
import ctypes
ctypes.CDLL(None).syscall(436, 3, 0xffffffff, 0)
more = [bytearray(1 << 20) for _ in range(100)]
del more
print(check())
""", SPILLWAY_RAM="48M", SPILLWAY_SWAP_DIR="/var/tmp", SPILLWAY_SWAP_MAX="512M")
        if result.returncode == 0:
            self.assertEqual(result.stdout.strip(), "True")
        else:
            self.assertEqual(result.returncode, 124, result.stderr)
            self.assertIn("descriptors", result.stderr)

    def test_exhaustion_ends_with_one_sentence(self):
        result = run("import os; b = [os.urandom(1 << 20) for _ in range(300)]",
                     SPILLWAY_RAM="48M")
        self.assertEqual(result.returncode, 121, result.stderr)
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn("--ram", result.stderr)

    def test_refusals_are_one_line_and_125(self):
        for environment, part in (({"SPILLWAY_RAM": "5x"}, "SPILLWAY_RAM '5x'"),
                                  ({"SPILLWAY_RAM": "1M"}, "8 MiB"),
                                  ({"SPILLWAY_OPTIONS": "ram=64M,what=1"}, "what=1"),
                                  ({"SPILLWAY_RAM": "64M", "SPILLWAY_SWAP_DIR": "/nowhere"},
                                   "/nowhere"),
                                  ({"SPILLWAY_LEDGER_FD": "55"}, "SPILLWAY_LEDGER_FD")):
            result = run(None, program="/bin/true", **environment)
            self.assertEqual(result.returncode, 125, environment)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            self.assertIn(part, result.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=0)
