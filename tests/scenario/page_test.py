#!/usr/bin/env python3
"""Opens the pages of scenarios in a headless browser and lets each step through itself.

usage: page_test.py SPW_SCENARIO_RUN SOURCE_DIR

The page's #selftest goes forward and back by the keys and buttons that a reader has, compares what
is shown at each step, and reports what it found; here the reports are read. Errors on the console
count as failures. Ends with 77, which ctest shows as skipped, where no browser is
installed.
"""

import glob
import html
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


# All pages in frames of one document: starting a browser takes longer than the pages do.
FRAMES = """<!DOCTYPE html><meta charset="utf-8"><pre id="found"></pre><script>
const found = {{}};
addEventListener("message", (event) => {{
  found[event.data.file] = event.data.text;
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script>{frames}
"""


def open_pages(pages, folder):
    """What each page's selftest found, by file of the scenario, and what the console said."""
    index = os.path.join(folder, "index.html")
    frames = "".join(f'<iframe width="1300" height="900" src="file://{page}#selftest"></iframe>'
                     for page in pages)
    with open(index, "w", encoding="utf-8") as file:
        file.write(FRAMES.format(frames=frames))
    result = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--no-first-run", "--disable-extensions", "--disable-background-networking",
         f"--user-data-dir={folder}/profile", "--virtual-time-budget=30000",
         "--enable-logging=stderr", "--dump-dom", f"file://{index}"],
        capture_output=True, timeout=120, check=False)
    console = [line for line in result.stderr.decode(errors="replace").splitlines()
               if "CONSOLE" in line]
    document = result.stdout.decode(errors="replace")
    found = re.search(r'<pre id="found">([^<]*)</pre>', document)
    if not found or not found.group(1):
        raise AssertionError("no page reported anything:\n" + document[:500] +
                             result.stderr.decode(errors="replace")[-1500:])
    return json.loads(html.unescape(found.group(1))), console


class Page(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="spw-page-")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.failing = os.path.join(self.folder, "failing.spw")
        with open(self.failing, "w", encoding="utf-8") as file:
            file.write(FAILING)

    def make_page(self, scenario, status):
        page = os.path.join(self.folder, os.path.basename(scenario) + ".html")
        ran = subprocess.run([RUN, scenario, "--html", page], capture_output=True,
                             text=True, timeout=120, check=False)
        self.assertEqual(ran.returncode, status, ran.stderr)
        with open(page, encoding="utf-8") as file:
            text = file.read()
        # Self-contained: nothing is fetched from anywhere.
        self.assertIsNone(re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text))
        return page

    def test_pages_step_forward_and_back(self):
        scenarios = sorted(glob.glob(os.path.join(SOURCE, "scenarios", "*.spw")))
        self.assertGreater(len(scenarios), 0)
        pages = [self.make_page(scenario, 0) for scenario in scenarios]
        pages.append(self.make_page(self.failing, 1))
        found, console = open_pages(pages, self.folder)
        self.assertEqual(console, [])
        self.assertEqual(sorted(found), sorted(scenarios + [self.failing]))
        for name, text in found.items():
            with self.subTest(os.path.basename(name)):
                self.assertRegex(text, r"^selftest ok: \d+ steps")

    def test_json_is_one_document(self):
        ran = subprocess.run([RUN, self.failing, "--json"], capture_output=True, text=True,
                             timeout=60, check=False)
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
