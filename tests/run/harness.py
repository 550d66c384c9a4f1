"""Runs programs natively and under `spillway run`, and measures them from outside.

Figures come from two sources that must agree: the command's own --report, and the kernel (wait4's
ru_maxrss, /proc). Every run gets a private, empty swap folder and must leave it empty.

Environment: SPILLWAY (the command), SPW_TEST_PROGRAMS (where tests/programs were built), and
SPW_FULL=1 for the sizes of the issue's "Shows" section instead of those for CI. A missing command
is a failure, never a skip: a suite that can pass without its subject tests nothing.
"""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SOURCES = os.path.join(ROOT, "tests", "programs")
SPILLWAY = os.environ.get("SPILLWAY", os.path.join(ROOT, "build", "bin", "spillway"))
BUILT = os.environ.get("SPW_TEST_PROGRAMS", os.path.join(ROOT, "build", "bin", "tests"))
FULL = os.environ.get("SPW_FULL", "0") == "1"
# The real interpreter, not a version manager's shell script that stands before it in PATH.
PYTHON = os.path.realpath(sys.executable)

MB = 1 << 20
# What a process may hold beside its budget: its text and libraries, the heap from before our
# library started, and our own metadata (HOST.md section 5 measured 5 to 10 MB).
OVERHEAD_BYTES = 12 * MB
# Every one of these must be in the file that --report writes (README.md says what they mean).
REPORT_KEYS = ("exit_code", "peak_rss_bytes", "faults", "soft_faults", "pswpin", "pswpout",
               "compression_ratio", "wait_seconds")


def full(full_size, ci_size):
    return full_size if FULL else ci_size


def source(name):
    return os.path.join(SOURCES, name)


def built(name):
    return os.path.join(BUILT, name)


@dataclasses.dataclass
class Result:
    code: int  # as a shell shows it: 128 + N after signal N
    stdout: bytes
    stderr: str
    seconds: float
    maxrss_bytes: int  # the largest process of the tree, by the kernel's account
    peak_tree_bytes: int  # the largest sum over the tree, sampled
    report: dict = None
    left_behind: list = dataclasses.field(default_factory=list)


def session_members(session):
    """(pid, RSS) of the processes of a session."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            yield int(name), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")


def wait_for(process, timeout, signal_after=None):
    """(wait status, rusage, peak sum of RSS). Ends the whole session at the time limit."""
    started = time.monotonic()
    peak = 0
    sent = False
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage, peak
        elapsed = time.monotonic() - started
        if signal_after is not None and not sent and elapsed > signal_after[1]:
            os.kill(process.pid, signal_after[0])
            sent = True
        if elapsed > timeout:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"not finished after {timeout} s: {process.args}")
        peak = max(peak, sum(rss for _, rss in session_members(process.pid)))
        time.sleep(0.03)


def run(command, *, stdin=b"", env=None, cwd=None, timeout=120, signal_after=None):
    """Runs a command to its end. `signal_after` is (signal, seconds) to send it on the way."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, \
            tempfile.TemporaryFile() as source_file:
        source_file.write(stdin)
        source_file.seek(0)
        started = time.monotonic()
        process = subprocess.Popen(command, stdin=source_file, stdout=out, stderr=err, cwd=cwd,
                                   env={**os.environ, "LC_ALL": "C", **(env or {})},
                                   start_new_session=True)
        code, usage, peak = wait_for(process, timeout, signal_after)
        seconds = time.monotonic() - started
        out.seek(0)
        err.seek(0)
        result = Result(code=code if code >= 0 else 128 - code, stdout=out.read(),
                        stderr=err.read().decode(errors="replace"), seconds=seconds,
                        maxrss_bytes=usage.ru_maxrss * 1024, peak_tree_bytes=peak)
        # A moment for children that end with their parent, then nothing may be left running.
        time.sleep(0.05)
        for pid, _ in session_members(process.pid):
            result.left_behind.append(f"process {pid}")
            os.kill(pid, signal.SIGKILL)
        return result


class RunTest(unittest.TestCase):
    """What the tests of this folder share: a scratch folder, and `spillway` with its checks."""

    maxDiff = 4000

    @classmethod
    def setUpClass(cls):
        if not os.access(SPILLWAY, os.X_OK):
            raise AssertionError(f"no spillway command at {SPILLWAY}: build it, or set SPILLWAY")
        if not os.path.isdir(BUILT):
            raise AssertionError(f"no test programs at {BUILT}: build them, or set "
                                 "SPW_TEST_PROGRAMS")

    def setUp(self):
        # Not /tmp, which may be RAM: swap files want a disk.
        self.scratch = tempfile.mkdtemp(prefix="spillway-test-", dir="/var/tmp")
        self.addCleanup(shutil.rmtree, self.scratch)

    def path(self, name):
        return os.path.join(self.scratch, name)

    def spillway(self, program, *, ram="96M", swap_ram="32M", options=(), **how):
        """Runs the program under a budget; its swap folder must be empty afterwards."""
        swap = tempfile.mkdtemp(prefix="swap-", dir=self.scratch)
        report = self.path("report.json")
        if os.path.exists(report):
            os.unlink(report)
        shared = set(os.listdir("/dev/shm"))
        command = [SPILLWAY, "run", "--ram", ram]
        command += ["--swap-ram", swap_ram] if swap_ram is not None else []
        command += ["--swap-dir", swap, "--report", report, *options, "--", *program]
        result = run(command, **how)
        result.left_behind += os.listdir(swap)
        result.left_behind += [name for name in set(os.listdir("/dev/shm")) - shared
                               if "spillway" in name]
        if os.path.exists(report):
            with open(report) as file:
                result.report = json.load(file)
        self.assertEqual(result.left_behind, [], "left behind")
        print(f"  {self.id().split('.')[-1]}: {os.path.basename(program[0])} "
              f"{result.seconds:.1f} s, peak {result.maxrss_bytes / MB:.1f} MB", flush=True)
        return result

    def assert_code(self, result, code):
        self.assertEqual(result.code, code, f"stdout: {result.stdout[-2000:]!r}\n"
                                            f"stderr: {result.stderr[-3000:]}")

    def assert_within(self, result, budget_bytes, text_bytes=0):
        """RSS of the largest process: at most the budget, the overhead and the program's text."""
        most = budget_bytes + OVERHEAD_BYTES + text_bytes
        self.assertIsNotNone(result.report, "no report was written")
        for key in REPORT_KEYS:
            self.assertIn(key, result.report)
        self.assertLessEqual(result.report["peak_rss_bytes"], most, "by spillway's report")
        self.assertLessEqual(result.maxrss_bytes, most, "by the kernel's account")

    def assert_swapped(self, result):
        """Otherwise the budget was not felt, and the run has shown nothing."""
        self.assertGreater(result.report["pswpout"], 0)
        self.assertGreater(result.report["pswpin"], 0)
        self.assertGreater(result.report["faults"], 0)
