#!/usr/bin/env python3
"""Checks the rules of the house that a program can check.

usage: tools/tidy.py [--warnings] [--root DIR]

Prints `path:line: rule: what to do` for every finding and returns 1 when there is any.
docs/ARCHITECTURE.md explains the dependency rule and docs/HACKING.md the others. There is no
list of exceptions by file: a rule either holds or is changed here, with its reason.

`check_tree` takes the tree as a dictionary, so tools/tidy_test.py can show for every rule a
sample on which it fires and one on which it is silent.
"""

import argparse
import os
import re
import subprocess
import sys
from typing import NamedTuple


class Finding(NamedTuple):
    path: str
    line: int
    rule: str
    text: str
    error: bool = True

    def __str__(self):
        kind = "" if self.error else "warning: "
        return f"{self.path}:{self.line}: {kind}{self.rule}: {self.text}"


# A room may include itself and rooms of a strictly lower number. Equals do not see each other.
ROOMS = {
    "base": 0,
    "observe": 1,
    "machine": 2,
    "page": 3,
    "slab": 4, "lru": 4, "pagetable": 4,
    "pagecache": 5, "vmalloc": 5,
    "swap": 6, "vfs": 6,
    "space": 7,
    "fault": 8,
    "reclaim": 9,
    "system": 10,
    "script": 11,
    "workload": 12,
    "api": 13,
}
CORE_TOP = 10
PORT_TOP = 2

# Implementations of the machine port. They see rooms 0-2 and themselves, and no room sees them.
WINGS = {"machine_sim", "machine_host", "machine_arena"}
# Of these, the ones that stand on the system underneath and include its headers.
SYSTEM_WINGS = {"machine_host", "machine_arena"}
# Drivers see rooms 0-2, themselves and the headers of the ports that they implement.
DRIVERS = {
    # libext2fs reads and writes blocks through the buffer cache, and must not be entered by reclaim
    # while it holds half a change (PageAllocator::NoFs).
    "fs_ext": {"vfs/file_system.h", "vfs/buffer_cache.h", "vfs/page_transfers.h",
               "pagecache/page_cache.h", "page/page_allocator.h"},
    # A file system tells the page cache of the ends of its transfers.
    "fs_host": {"vfs/file_system.h", "pagecache/page_cache.h"},
    "swap_redis": {"swap/tier.h"},
}

HEADER_LINES_MAX = 300
SOURCE_LINES_SOFT = 500
FILE_LINES_MAX = 800
FUNCTION_LINES_SOFT = 70
COLUMNS_MAX = 100
ROOM_README_LINES_MAX = 60

# A test of a room may include the simulated machine and use the standard library freely.
TEST_FILE = re.compile(r"_(test|fuzz|bench)\.(cc|h)$|_ops\.h$")

CXX = (".h", ".cc")
CODE = CXX + (".c", ".py", ".sh", ".cmake")
TEXT = CODE + (".md", ".txt", ".json", ".yml", ".yaml", ".spw", ".css", ".html", ".js")

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')

# Spelt in two parts so that this file does not report itself.
FIX_WORD = "FIX" + "ME"
TODO_WORD = "TO" + "DO"

SYSTEM_HEADERS = re.compile(
    r"^(sys|linux|asm|net|netinet|arpa)/"
    r"|^(pthread|unistd|fcntl|signal|time|sched|poll|dlfcn|semaphore|spawn|ucontext)\.h$"
    r"|^(thread|chrono|random|mutex|shared_mutex|condition_variable|future|iostream|fstream"
    r"|filesystem|ctime|csignal|semaphore|barrier|latch|stop_token)$")

# (rule, pattern, what to do). These hold in rooms 0-10, wings and drivers.
BANNED = [
    ("assert", r"(?<!\w)assert\s*\(", "use SPW_ASSERT, which stays on in release builds"),
    ("std-lock",
     r"\bstd::(recursive_|shared_|timed_)*mutex\b|\bstd::condition_variable"
     r"|\bstd::(lock_guard|unique_lock|scoped_lock|shared_lock)\b",
     "use a ranked lock: SpinLock (base/lock.h) or Mutex (machine/mutex.h)"),
    ("rand", r"(?<![\w.>])(std::)?s?rand\s*\(", "use the seeded generator of base/prng.h"),
    ("time", r"\bstd::time\s*\(|(?<![\w.>:])time\s*\(\s*(nullptr|NULL|0|&\w+)\s*\)",
     "ask the machine's Clock"),
    ("printf", r"(?<![\w.>])(std::)?(printf|puts|putchar)\s*\(|\bstd::(cout|cerr|clog)\b",
     "raise an event of observe; apps do the printing"),
    ("throw", r"\bthrow\b", "return Result<T>; only api, apps and tests may throw"),
    ("rtti", r"\bdynamic_cast\b|\btypeid\b", "give the type a virtual function or a tag"),
]
# These hold in rooms 0-10 and in machine_host, which all live inside a program whose malloc
# calls us. machine_sim and the drivers own their process or thread and may use containers.
HEAP = [
    ("heap",
     r"\bstd::(vector|deque|list|forward_list|map|set|multimap|multiset|unordered_\w+|string"
     r"|basic_string|function|shared_ptr|make_unique|make_shared|to_string|any)\b",
     "use boot memory, slab or the page allocator; in a preloaded process malloc re-enters us"),
    ("heap", r"\bnew\b(?!\s*\()|\bnew\s*\(\s*std::nothrow",
     "use boot memory or slab; placement new is fine"),
    ("heap", r"\bdelete\b\s*(\[\s*\])?\s*[A-Za-z_*]",
     "give the object back to where it came from"),
    ("heap",
     r"(?<![\w.>:])(::|std::)?(malloc|calloc|realloc|posix_memalign|aligned_alloc)\s*\("
     r"|(?<![\w>:])(std)?::free\s*\(",
     "use boot memory, slab or the page allocator"),
]
for table in (BANNED, HEAP):
    table[:] = [(rule, re.compile(pattern), advice) for rule, pattern, advice in table]


# What stands before the separator of a number such as 1'000'000 or 0xff'ff.
DIGITS_BEFORE = re.compile(r"\b[0-9][0-9a-zA-Z']*$")


def strip_cxx(text):
    """Blanks comments and the contents of literals; lines and columns stay where they are."""
    out = []
    i, n = 0, len(text)

    def blank(piece):
        out.append(re.sub(r"[^\n]", " ", piece))

    while i < n:
        c = text[i]
        two = text[i:i + 2]
        if two == "//":
            end = text.find("\n", i)
            end = n if end < 0 else end
            blank(text[i:end])
            i = end
        elif two == "/*":
            end = text.find("*/", i + 2)
            end = n if end < 0 else end + 2
            blank(text[i:end])
            i = end
        elif c == '"' and i > 0 and text[i - 1] == "R":
            match = re.compile(r'"([^()\\ \n]{0,16})\(').match(text, i)
            if not match:
                out.append(c)
                i += 1
                continue
            end = text.find(")" + match.group(1) + '"', i)
            end = n if end < 0 else end + len(match.group(1)) + 2
            blank(text[i:end])
            i = end
        elif c == '"' or (c == "'" and not DIGITS_BEFORE.search(text[max(0, i - 24):i])):
            end = i + 1
            while end < n and text[end] != c and text[end] != "\n":
                end += 2 if text[end] == "\\" else 1
            end = min(end + 1, n)
            out.append(c)
            blank(text[i + 1:end - 1])
            out.append(text[end - 1:end])
            i = end
        else:
            out.append(c)
            i += 1
    return "".join(out)


def room_of(path):
    parts = path.split("/")
    if parts[0] == "src" and len(parts) >= 3:
        return parts[1]
    if parts[:2] == ["include", "spillway"]:
        return "api"
    return None


def is_known_room(name):
    return name in ROOMS or name in WINGS or name in DRIVERS


def include_problem(room, target, is_test):
    """Says what is wrong when a file of `room` includes "target", or returns None."""
    other = target.split("/")[0]
    if other == room:
        return None
    if other == "spillway":
        if room == "api":
            return None
        return "public headers are for api and programs; include the room that declares this"
    if other in WINGS:
        if is_test and other == "machine_sim":
            return None
        return (f"only apps/, tests/ and bench/ include the wing {other}; "
                "go through the ports of machine/")
    if other in DRIVERS:
        return f"only apps/, tests/ and bench/ include the driver {other}"
    if other not in ROOMS:
        return f"'{other}' is no room; write #include \"room/file.h\" (rooms: tools/tidy.py)"
    number = ROOMS[other]
    if room in WINGS or room in DRIVERS:
        if number <= PORT_TOP or target in DRIVERS.get(room, ()):
            return None
        # The test of a driver needs somebody who calls it: the virtual file system and its caches.
        if is_test and room in DRIVERS:
            return None
        return f"{room} may include only rooms 0-{PORT_TOP}, not {other} ({number})"
    if number < ROOMS[room]:
        return None
    side = "of the same number" if number == ROOMS[room] else "above"
    return (f"{room} ({ROOMS[room]}) may include only lower rooms and {other} ({number}) is "
            f"{side}; call up through a port, or raise an event")


def check_includes(path, lines, code_lines, findings):
    room = room_of(path)
    if room is None or not is_known_room(room):
        return
    is_test = bool(TEST_FILE.search(path))
    number = ROOMS.get(room, PORT_TOP)
    bans_system = not is_test and (number < ROOMS["api"]) and room not in SYSTEM_WINGS \
        and room not in DRIVERS
    for number_of_line, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        # A commented include is blank in the stripped text.
        if not match or "include" not in code_lines[number_of_line - 1]:
            continue
        quote, target = match.groups()
        first = target.split("/")[0]
        if quote == '"' or is_known_room(first):
            if quote == '"' and ("/" not in target or target.startswith(".")):
                problem = "write the path from src: #include \"room/file.h\""
            elif quote == "<":
                problem = f"write #include \"{target}\" for a file of a room"
            else:
                problem = include_problem(room, target, is_test)
            if problem:
                findings.append(Finding(path, number_of_line, "include", problem))
        elif bans_system and SYSTEM_HEADERS.search(target):
            findings.append(Finding(
                path, number_of_line, "system-header",
                f"<{target}> belongs to machine_host, machine_arena, apps/ and tests/; "
                "use a port of machine/"))
        elif bans_system and target in ("cassert", "assert.h"):
            findings.append(Finding(path, number_of_line, "assert", "include base/assert.h"))


def check_names(path, code_lines, findings):
    room = room_of(path)
    if room is None or TEST_FILE.search(path) or not is_known_room(room):
        return
    core = ROOMS.get(room, PORT_TOP) <= CORE_TOP
    if not core:
        return
    tables = list(BANNED)
    if room in ROOMS or room == "machine_host":
        tables += HEAP
    for number, line in enumerate(code_lines, 1):
        if re.match(r"\s*#\s*include\b", line):
            continue
        for rule, pattern, advice in tables:
            match = pattern.search(line)
            if match:
                name = match.group(0).strip()
                findings.append(Finding(path, number, rule, f"'{name}': {advice}"))


# One space after the slashes: an example in a comment is indented further and is welcome.
CODE_COMMENT = re.compile(
    r"^\s*// ?(?:(?:if|for|while|switch)\s*\(.*[;{]|(?:return|break|continue)\b[^.]*;"
    r"|(?:[\w:<>*&]+\s+)*[\w.:\[\]>()*-]+\s*(?:=[^=].*|\(.*\))\s*;|\}\s*;?)\s*$")


def check_comments(path, lines, findings):
    run = 0
    for number, line in enumerate(lines, 1):
        run = run + 1 if CODE_COMMENT.match(line) else 0
        if run == 2:
            findings.append(Finding(path, number, "dead-code",
                                    "remove commented-out code; git remembers it"))
        if re.match(r"^\s*(//|/?\*)\s*[-=*#/~_]{8,}\s*\*?/?$", line):
            findings.append(Finding(path, number, "banner", "comments carry no decoration lines"))


def check_functions(path, code_lines, findings):
    """Warns of long functions; relies on the format, which puts functions into column one."""
    start = None
    for number, line in enumerate(code_lines, 1):
        if start is None:
            if line.rstrip().endswith("{") and re.match(r"\S", line) and not re.match(
                    r"(namespace|extern|class|struct|enum|union|template|constexpr|\})\b", line):
                start = number
        elif line.startswith("}"):
            length = number - start + 1
            if length > FUNCTION_LINES_SOFT:
                findings.append(Finding(
                    path, start, "function-length",
                    f"{length} lines; above {FUNCTION_LINES_SOFT} split off what has a name",
                    error=False))
            start = None


def check_size(path, lines, findings):
    count = len(lines)
    if path.endswith(".h") and count > HEADER_LINES_MAX:
        findings.append(Finding(path, count, "size",
                                f"{count} lines; split it, {HEADER_LINES_MAX} is the most"))
    elif count > FILE_LINES_MAX:
        findings.append(Finding(path, count, "size",
                                f"{count} lines; split it, {FILE_LINES_MAX} is the most"))
    elif path.endswith(".cc") and count > SOURCE_LINES_SOFT:
        findings.append(Finding(path, count, "size",
                                f"{count} lines; above {SOURCE_LINES_SOFT} think of splitting",
                                error=False))


def check_lines(path, text, lines, is_code, findings):
    if text and not text.endswith("\n"):
        findings.append(Finding(path, len(lines), "final-newline", "end the file with a newline"))
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            findings.append(Finding(path, number, "trailing-blank",
                                    "remove blanks at the end of the line"))
        # A web address cannot be wrapped.
        if is_code and len(line) > COLUMNS_MAX and not re.search(r"https?://\S+", line):
            findings.append(Finding(path, number, "columns",
                                    f"{len(line)} columns; wrap at {COLUMNS_MAX}"))
        # Quoting the word between backquotes is how documents speak about the rule.
        spoken = re.sub(r"`[^`]*`", "", line) if path.endswith(".md") else line
        if re.search(rf"\b{FIX_WORD}\b", spoken):
            findings.append(Finding(path, number, "fix-word",
                                    f"fix it now or write {TODO_WORD}(#id) with an issue"))
        if re.search(rf"\b{TODO_WORD}\b(?!\(#\d+\))", spoken):
            findings.append(Finding(path, number, "todo",
                                    f"write {TODO_WORD}(#id) with the number of an issue"))


def check_markdown(path, lines, findings):
    titles = []
    fenced = False
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and line.startswith("# "):
            titles.append(number)
    if len(titles) != 1:
        line = titles[1] if titles else 1
        findings.append(Finding(path, line, "title",
                                f"{len(titles)} lines begin with '# '; write exactly one title"))


def check_rooms(tree, findings):
    rooms = {}
    for path in tree:
        parts = path.split("/")
        if parts[0] == "src" and len(parts) >= 3:
            rooms.setdefault(parts[1], path)
    for room, path in sorted(rooms.items()):
        if not is_known_room(room):
            findings.append(Finding(path, 1, "room",
                                    f"src/{room} is no room; give it a number in tools/tidy.py "
                                    "and docs/ARCHITECTURE.md"))
        readme = f"src/{room}/README.md"
        if readme not in tree:
            findings.append(Finding(path, 1, "room-readme",
                                    f"write {readme}: purpose, invariants, locks, reading order"))
        else:
            count = len(tree[readme].splitlines())
            if count > ROOM_README_LINES_MAX:
                findings.append(Finding(readme, count, "room-readme",
                                        f"{count} lines; it must fit a screen "
                                        f"({ROOM_README_LINES_MAX})"))


ACCEPTANCE = "docs/acceptance.md"
GOOGLE_TEST = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.MULTILINE)
NAMED_TEST = re.compile(r"`([^`]*)`")
ROWS_TOLD = re.compile(r"^(\d+) of (\d+) rows have a test\b")


def check_acceptance(tree, findings):
    """The table names every test of a row, and no test that does not exist."""
    if ACCEPTANCE not in tree:
        return
    tests = {}
    for path, text in sorted(tree.items()):
        if path.endswith(CXX) and "TEST" in text:
            for match in GOOGLE_TEST.finditer(strip_cxx(text)):
                line = text.count("\n", 0, match.start()) + 1
                tests[f"{match.group(1)}.{match.group(2)}"] = (path, line)

    def found(path, line, text):
        findings.append(Finding(path, line, "acceptance", text))

    named, rows, proved = set(), 0, 0
    for number, line in enumerate(tree[ACCEPTANCE].split("\n"), 1):
        told = ROWS_TOLD.match(line)
        if told and (proved, rows) != (int(told.group(1)), int(told.group(2))):
            found(ACCEPTANCE, number, f"{proved} of {rows} rows have a test")
        # | row | what is proved | tests | remarks |
        cells = line.split("|")
        if len(cells) < 4 or not cells[1].strip().isdigit():
            continue
        names = NAMED_TEST.findall(cells[3])
        rows += 1
        proved += 1 if names else 0
        named.update(names)
        for name in names:
            if name not in tests:
                found(ACCEPTANCE, number, f"there is no test {name}")
    for name, (path, number) in sorted(tests.items()):
        if ".row_" in name and name not in named:
            found(path, number, f"name {name} in {ACCEPTANCE}, by the row that it proves")


def is_code_file(path, text):
    return path.endswith(CODE) or path.endswith("CMakeLists.txt") or text.startswith("#!")


def check_tree(tree):
    """Returns the findings of a tree given as {path: text}."""
    findings = []
    for path, text in sorted(tree.items()):
        # Line ends only: splitlines would also split at form feeds and Unicode separators.
        lines = text.split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        is_code = is_code_file(path, text)
        check_lines(path, text, lines, is_code, findings)
        if is_code:
            check_size(path, lines, findings)
        if path.endswith(CXX):
            code_lines = strip_cxx(text).split("\n")
            check_includes(path, lines, code_lines, findings)
            check_names(path, code_lines, findings)
            check_comments(path, lines, findings)
            check_functions(path, code_lines, findings)
        if path.endswith(".md"):
            check_markdown(path, lines, findings)
    check_rooms(tree, findings)
    check_acceptance(tree, findings)
    return findings


def list_files(root):
    """Files that git tracks or would track; without a repository, all but build folders."""
    try:
        names = subprocess.run(
            ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            check=True, capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = []
        for folder, folders, files in os.walk(root):
            folders[:] = [f for f in folders
                          if f not in (".git", "__pycache__", "node_modules")
                          and not f.startswith("build")]
            names += [os.path.relpath(os.path.join(folder, f), root) for f in files]
    return sorted(name for name in names if name)


def read_tree(root):
    tree = {}
    for name in list_files(root):
        path = os.path.join(root, name)
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            data = file.read()
        # Only text whose kind we know; a minified bundle of somebody else is not ours to format.
        known = name.endswith(TEXT) or data.startswith(b"#!")
        if not known or ".min." in name or b"\0" in data:
            continue
        tree[name] = data.decode("utf-8", errors="replace")
    return tree


def main():
    parser = argparse.ArgumentParser(description="Checks the rules of the house.")
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--root", default=os.path.dirname(here), help="the repository")
    parser.add_argument("--warnings", action="store_true", help="show soft limits as well")
    options = parser.parse_args()
    tree = read_tree(options.root)
    findings = check_tree(tree)
    errors = [finding for finding in findings if finding.error]
    for finding in findings if options.warnings else errors:
        print(finding)
    soft = len(findings) - len(errors)
    print(f"tidy: {len(tree)} files, {len(errors)} findings, {soft} soft warnings"
          + ("" if options.warnings or not soft else " (--warnings shows them)"))
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
