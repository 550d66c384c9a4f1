#!/usr/bin/env python3
"""Opens the pages of scenarios in a headless browser and lets each step through itself.

usage: page_test.py SPW_SCENARIO_RUN SOURCE_DIR

The page's #selftest goes forward and back by the keys and buttons that a reader has, compares what
is shown at each step, and writes its finding into the document; here it is read from there. Errors
on the console count as failures. Ends with 77, which ctest shows as skipped, where no browser is
installed.
"""

import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

RUN, SOURCE = sys.argv[1], sys.argv[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               None)

# A run that ends badly has a page too.
FAILING = """title "It fails </script><script>throw 1</script>"
machine frames=96 policy=three_queue
process A
mmap A buf 2p rw
write A buf 0x41
expect rss A = 77
"""


def open_page(path, folder):
    """The document after the page's scripts have run, and what the console said."""
    result = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--disable-extensions", "--disable-background-networking",
         f"--user-data-dir={folder}/profile", "--virtual-time-budget=20000",
         "--enable-logging=stderr", "--dump-dom", f"file://{path}#selftest"],
        capture_output=True, timeout=120, check=False)
    console = [line for line in result.stderr.decode(errors="replace").splitlines()
               if "CONSOLE" in line]
    return result.stdout.decode(errors="replace"), console


class Page(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="spw-page-")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def check_page(self, scenario, status):
        page = os.path.join(self.folder, "page.html")
        ran = subprocess.run([RUN, scenario, "--html", page], capture_output=True, text=True,
                             timeout=120, check=False)
        self.assertEqual(ran.returncode, status, ran.stderr)
        with open(page, encoding="utf-8") as file:
            text = file.read()
        # Self-contained: nothing is fetched from anywhere.
        self.assertIsNone(re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text))
        document, console = open_page(page, self.folder)
        self.assertEqual(console, [])
        found = re.search(r'<pre id="selftest-result"[^>]*>([^<]*)</pre>', document)
        self.assertIsNotNone(found, document[:500])
        self.assertRegex(found.group(1), r"^selftest ok: \d+ steps")
        return document

    def test_shipped_scenarios(self):
        scenarios = sorted(glob.glob(os.path.join(SOURCE, "scenarios", "*.spw")))
        self.assertGreater(len(scenarios), 0)
        for scenario in scenarios:
            with self.subTest(os.path.basename(scenario)):
                self.check_page(scenario, 0)

    def test_failed_expectation_is_shown(self):
        path = os.path.join(self.folder, "failing.spw")
        with open(path, "w", encoding="utf-8") as file:
            file.write(FAILING)
        document = self.check_page(path, 1)
        self.assertIn("expected: 77", document)

    def test_json_is_one_document(self):
        path = os.path.join(self.folder, "failing.spw")
        with open(path, "w", encoding="utf-8") as file:
            file.write(FAILING)
        ran = subprocess.run([RUN, path, "--json"], capture_output=True, text=True, timeout=60,
                             check=False)
        report = json.loads(ran.stdout)
        self.assertEqual(report["schema"], "spillway.scenario/1")
        self.assertEqual(report["result"]["exit_code"], ran.returncode)
        self.assertEqual((report["result"]["line"], report["result"]["column"]), (6, 1))
        self.assertEqual((report["result"]["expected"], report["result"]["actual"]), ("77", "1"))
        groups = {c["group"] for s in report["steps"] for c in s["changes"]}
        self.assertLessEqual({"areas", "page table", "frames", "counters"}, groups)


if __name__ == "__main__":
    if BROWSER is None:
        print("skipped: no browser is installed (tools/bootstrap installs chromium)")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], "-v"])
