#!/usr/bin/env python3
"""The command as users meet it: refusals, help, and what passes through a run.

usage: cli_test.py SPILLWAY STATIC_PROGRAM

Goal: every refusal is one line that names the thing and the remedy, has the documented exit
code and leaves nothing behind. Cases that need root, userfaultfd or the preload library are
skipped where those are missing.
"""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

SPILLWAY = os.path.abspath(sys.argv[1])
STATIC = os.path.abspath(sys.argv[2])
NOBODY = 65534
IS_ROOT = os.geteuid() == 0


def call(*words, env=None, **more):
    """Runs the command with an environment free of our own variables."""
    clean = {k: v for k, v in os.environ.items()
             if not k.startswith("SPILLWAY_") and k not in ("LD_PRELOAD", "TMPDIR")}
    clean.update(env or {})
    return subprocess.run([SPILLWAY, *words], env=clean, text=True, capture_output=True,
                          timeout=120, check=False, **more)


def run_works():
    return call("doctor").returncode == 0


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="spillway-cli-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text="", mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def refused(self, code, *parts, result):
        """One line on stderr with all `parts`, nothing on stdout."""
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertTrue(lines[0].startswith("spillway: "), lines[0])
        self.assertIn("; ", lines[0])
        for part in parts:
            self.assertIn(part, lines[0])


class Refusals(Case):
    def test_sizes(self):
        self.refused(125, "--ram '512Q'", "512M", result=call("run", "--ram", "512Q", "true"))
        self.refused(125, "--ram 1M", "8M", result=call("run", "--ram", "1M", "true"))
        self.refused(125, "SPILLWAY_RAM 'x'", result=call("run", "true", env={"SPILLWAY_RAM": "x"}))
        self.refused(125, "--swap-max '-1'",
                     result=call("run", "--ram", "9M", "--swap-max=-1", "true"))

    def test_usage(self):
        self.refused(125, "--help", result=call())
        self.refused(125, "--help", "frobnicate", result=call("frobnicate"))
        self.refused(125, "--help", "--rma", result=call("run", "--rma", "1G", "true"))
        self.refused(125, "no program", result=call("run", "--ram", "9M"))
        self.refused(125, "--help", result=call("doctor", "word"))

    def test_program(self):
        run = ["run", "--ram", "9M", "--"]
        self.refused(127, "PATH", result=call(*run, "no-such-program"))
        self.refused(127, "no such program", result=call(*run, self.path("none")))
        self.refused(126, "is a directory", result=call(*run, self.folder))
        self.refused(126, "chmod +x", result=call(*run, self.write("plain")))
        self.refused(126, "#!", result=call(*run, self.write("text", "echo\n", 0o755)))
        self.refused(125, "statically linked", "dynamically", result=call(*run, STATIC))

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_set_user_id(self):
        program = shutil.copy("/bin/true", self.path("true"))
        os.chown(program, NOBODY, NOBODY)
        os.chmod(program, 0o4755)
        self.refused(125, "set-user-ID", result=call("run", "--ram", "9M", "--", program))

    def test_swap_dir(self):
        run = ["run", "--ram", "9M", "--swap-dir"]
        self.refused(125, "does not exist", result=call(*run, self.path("none"), "true"))
        self.refused(125, "not a folder", result=call(*run, self.write("file"), "true"))
        os.mkdir(self.path("open"))
        os.chmod(self.path("open"), 0o777)
        self.refused(125, "chmod go-w", result=call(*run, self.path("open"), "true"))
        self.refused(125, "TMPDIR", "does not exist",
                     result=call("run", "true", env={"TMPDIR": self.path("none")}))

    def test_report(self):
        self.refused(125, "--report", "cannot be written",
                     result=call("run", "--report", self.path("no/r.json"), "true"))

    @unittest.skipUnless(IS_ROOT, "needs root")
    def test_without_privilege(self):
        # A copy, because the build folder may be closed to others.
        os.chmod(self.folder, 0o755)
        os.mkdir(self.path("bin"))
        folder = os.path.dirname(SPILLWAY)
        for name in ("spillway", "libspillway-preload.so"):
            if os.path.exists(os.path.join(folder, name)):
                shutil.copy(os.path.join(folder, name), self.path("bin"))
        if not os.path.exists(self.path("bin/libspillway-preload.so")):
            self.skipTest("no preload library")

        def as_nobody(*words):
            return subprocess.run([self.path("bin/spillway"), *words], text=True, timeout=60,
                                  capture_output=True, check=False, user=NOBODY, group=NOBODY,
                                  extra_groups=[], env={"PATH": "/usr/bin:/bin"})

        if as_nobody("doctor").returncode == 0:
            self.skipTest("everybody may use userfaultfd here")
        result = as_nobody("run", "--ram", "9M", "true")
        self.refused(125, "userfaultfd", "udev", "CAP_SYS_PTRACE", result=result)
        self.assertNotIn("sysctl", result.stderr)
        os.mkdir(self.path("swap"), 0o755)
        self.refused(125, "no file can be created",
                     result=as_nobody("run", "--swap-dir", self.path("swap"), "true"))
        doctor = json.loads(as_nobody("doctor", "--json").stdout)
        self.assertFalse(doctor["run_will_work"])
        missing = [c for c in doctor["checks"] if c["status"] == "missing"]
        self.assertTrue(all(c.get("remedy") for c in missing), missing)


class Help(Case):
    def test_to_stdout(self):
        for words in (["--help"], ["-h"], ["help"], ["help", "run"], ["help", "doctor"],
                      ["run", "--help"], ["run", "-h"], ["doctor", "--help"], ["--version"],
                      ["-V"]):
            result = call(*words)
            self.assertEqual((result.returncode, result.stderr), (0, ""), words)
            self.assertTrue(result.stdout.endswith("\n"), words)
        self.assertIn("--swap-ram", call("run", "--help").stdout)

    def test_doctor(self):
        text = call("doctor")
        self.assertIn(text.returncode, (0, 1))
        report = json.loads(call("doctor", "--json").stdout)
        self.assertEqual(report["run_will_work"], text.returncode == 0)
        self.assertIn("uffd.device", [c["id"] for c in report["checks"]])


class Scenario(Case):
    GOOD = ('title "Mine"\nmachine frames=96 policy=three_queue\nprocess A\n'
            'mmap A buf 2p rw\nwrite A buf 1\nexpect rss A = 1\n')

    def test_list_and_show(self):
        listed = call("scenario", "list")
        self.assertEqual((listed.returncode, listed.stderr), (0, ""))
        for line in listed.stdout.splitlines():
            self.assertRegex(line, r"^[a-z0-9-]+  +\S")
        names = [line.split()[0] for line in listed.stdout.splitlines()]
        self.assertLessEqual({"stack-extension", "page-allocation", "swap-in",
                              "periodic-swap-out"}, set(names))
        for name in names:
            shown = call("scenario", "show", name)
            self.assertEqual(shown.returncode, 0)
            self.assertTrue(shown.stdout.startswith('title "'), name)

    def test_own_file_text_json_and_page(self):
        path = self.write("mine.spw", self.GOOD)
        text = call("scenario", "run", path)
        self.assertEqual((text.returncode, text.stderr), (0, ""))
        self.assertIn("do_anonymous_page", text.stdout)
        self.assertNotIn("\x1b", text.stdout)
        self.assertIn("\x1b", call("scenario", "run", path, "--color=always").stdout)
        report = json.loads(call("scenario", "run", path, "--json").stdout)
        self.assertEqual((report["title"], report["result"]["end"]), ("Mine", "good"))
        page = self.path("mine.html")
        quiet = call("scenario", "run", path, "-q", "--html", page)
        self.assertEqual((quiet.returncode, quiet.stdout, quiet.stderr), (0, "", ""))
        with open(page, encoding="utf-8") as file:
            self.assertIn("spillway.scenario/1", file.read())

    def test_steps_wait_for_keys(self):
        path = self.write("mine.spw", self.GOOD)
        result = call("scenario", "run", path, "--step", input="\nq\n")
        self.assertEqual(result.returncode, 0)
        self.assertIn("mmap A buf", result.stdout)
        self.assertNotIn("write A buf", result.stdout)

    def test_folder_of_scenarios(self):
        self.write("mine.spw", self.GOOD)
        env = {"SPILLWAY_SCENARIOS": self.folder}
        self.assertIn("mine ", call("scenario", "list", env=env).stdout)
        self.assertEqual(call("scenario", "run", "mine", "-q", env=env).returncode, 0)

    def test_what_does_not_hold_ends_with_1(self):
        path = self.write("mine.spw", self.GOOD.replace("rss A = 1", "rss A = 5"))
        result = call("scenario", "run", path, "-q")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertEqual(result.stderr, f"{path}:6:1: does not hold: expect rss A = 5\n"
                                        "  expected: 5\n  actual:   1\n")

    def test_mistakes_end_with_2(self):
        path = self.write("mine.spw", self.GOOD.replace("rss", "rsss"))
        result = call("scenario", "run", path)
        self.assertEqual(result.returncode, 2)
        self.assertTrue(result.stderr.startswith(f"{path}:6:8: 'rsss' cannot be asked for; "))
        for words in (["run", "none-of-them"], ["run", self.path("none.spw")], ["play"],
                      ["run", path, "--html", self.path("no/x.html")]):
            result = call("scenario", *words)
            self.assertEqual(result.returncode, 2, words)
            self.assertTrue(result.stderr, words)


@unittest.skipUnless(run_works(), "'spillway run' does not work on this machine")
class Runs(Case):
    def test_exit_and_stdio_pass_through(self):
        result = call("run", "-q", "--ram", "64M", "--", "sh", "-c", "cat; echo err >&2; exit 7",
                      input="text\n")
        self.assertEqual((result.returncode, result.stdout, result.stderr), (7, "text\n", "err\n"))
        result = call("run", "-q", "--ram", "64M", "sh", "-c", "kill -TERM $$")
        self.assertEqual(result.returncode, 128 + signal.SIGTERM)

    def test_report_and_table(self):
        report = self.path("r.json")
        result = call("run", "--ram", "64M", "--swap-dir", self.folder, "--stats", "--report",
                      report, "--", "sh", "-c", "exit 3")
        self.assertEqual(result.returncode, 3)
        self.assertIn("page faults", result.stderr)
        with open(report, encoding="utf-8") as file:
            numbers = json.load(file)
        self.assertEqual(numbers["exit_code"], 3)
        self.assertEqual(numbers["ram_bytes"], 64 << 20)
        self.assertGreater(numbers["peak_rss_bytes"], 0)
        self.assertGreaterEqual(numbers["engines"], 1)
        self.assertEqual(os.listdir(self.folder), ["r.json"])

    def test_interrupt_of_a_terminal_arrives_once(self):
        # The terminal signals the whole group; the launcher must not send a second one.
        script = ("n=0; trap 'n=$((n+1))' INT; echo ready; "
                  "i=0; while [ $i -lt 10 ]; do sleep 0.05; i=$((i+1)); done; echo count=$n")
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(SPILLWAY, [SPILLWAY, "run", "-q", "--ram", "64M", "sh", "-c", script])
        text, sent = b"", False
        while True:
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # how a terminal tells that its last user is gone
                break
            if not piece:
                break
            text += piece
            if b"ready" in text and not sent:
                os.write(terminal, b"\x03")
                sent = True
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        os.close(terminal)
        self.assertIn(b"count=1", text)

    def test_one_budget_in_a_tree(self):
        result = call("run", "-q", "--ram", "64M", "--", SPILLWAY, "run", "--ram", "32M", "true")
        self.refused(125, "64 MiB", "shares that budget", result=result)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
