"""What tests of `spillway mount` have in common: a served mount, trees, and their comparison.

The program that imports this is called with the path of `spillway` as its first argument.
"""

import hashlib
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

SPILLWAY = os.path.abspath(sys.argv[1])
SEED = int(os.environ.get("SPILLWAY_SEED", "1"))
WAIT = 120  # seconds for what ends in one


def fuse_obstacle():
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    return None


def call(*words, **more):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SPILLWAY_")}
    return subprocess.run(words, env=clean, text=True, capture_output=True, timeout=WAIT * 3,
                          check=False, **more)


class Served:
    """A mount, served by a process in the foreground."""

    def __init__(self, source, mountpoint, *options):
        self.mountpoint = mountpoint
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            [SPILLWAY, "mount", "-f", "-v", *options, source, mountpoint], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if line.endswith(": mounted\n"):
                return
        raise AssertionError("not mounted: " + "".join(self.lines))

    def stats(self):
        with open(os.path.join(self.mountpoint, ".spillway/stats"), encoding="ascii") as file:
            text = file.read()
        out = {}
        for line in text.splitlines():
            words = line.split()
            if not line.startswith("#") and len(words) >= 2 and words[1].isdigit():
                out[words[0].rstrip(":")] = int(words[1])
        return out

    def peak_rss(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read()).group(1)) * 1024

    def wait(self):
        """What was printed at the end; the exit code is in process.returncode."""
        _, rest = self.process.communicate(timeout=WAIT)
        return rest

    def unmount(self):
        done = call("umount", self.mountpoint)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return self.wait()

    def kill(self):
        self.process.kill()
        self.wait()
        call("umount", "-l", self.mountpoint)

    def abandon(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        call("umount", "-l", self.mountpoint)
        self.process.stderr.close()


def make_tree(root, files, seed=SEED):
    """A tree with what trees have: long names, deep folders, links, sparse and empty files."""
    rng = random.Random(seed)
    folders = [root]
    os.makedirs(root, exist_ok=True)
    for i in range(max(4, files // 40)):
        parent = rng.choice(folders[-20:])
        folder = os.path.join(parent, f"folder {i}" if i % 7 else "n" * 200 + str(i))
        if len(folder) - len(root) > 3000:
            folder = os.path.join(root, f"folder {i}")
        os.mkdir(folder)
        folders.append(folder)
    made = []
    for i in range(files):
        path = os.path.join(rng.choice(folders), f"file-{i}" + "x" * rng.choice((0, 0, 5, 200)))
        if len(path) > 3900:
            path = os.path.join(root, f"file-{i}")
        size = rng.choice((0, 1, 10, 100, 1000, 4095, 4096, 4097, 10000, 70000))
        with open(path, "wb") as file:
            file.write(rng.randbytes(size))
            if i % 50 == 0:
                file.truncate(size + 300_000)  # a hole at the end
        os.chmod(path, rng.choice((0o644, 0o600, 0o755)))
        os.utime(path, (10**9 + i, 10**9 + i))  # mke2fs keeps whole seconds
        made.append(path)
    for i in range(files // 20):
        target = rng.choice(made)
        os.link(target, os.path.join(root, f"hard-{i}"))
        os.symlink(os.path.relpath(target, root), os.path.join(root, f"soft-{i}"))
    os.symlink("/nowhere/" + "y" * 500, os.path.join(root, "dangling"))
    os.mkfifo(os.path.join(root, "fifo"))


def describe(root, times=True, leave_out=("lost+found",)):
    """Everything about a tree that must be the same elsewhere."""
    out = {}
    links = {}
    for folder, folders, files in os.walk(root):
        if folder == root:
            folders[:] = [name for name in folders if name not in leave_out]
        for name in folders + files:
            path = os.path.join(folder, name)
            about = os.lstat(path)
            key = os.path.relpath(path, root)
            entry = [stat.filemode(about.st_mode), about.st_uid, about.st_gid]
            if stat.S_ISLNK(about.st_mode):
                entry.append(os.readlink(path))
            elif stat.S_ISREG(about.st_mode):
                with open(path, "rb") as file:
                    entry.append(hashlib.sha256(file.read()).hexdigest())
                entry += [about.st_size, about.st_nlink]
                if times:
                    entry.append(about.st_mtime_ns)
                # Names of one file are found under the first of them.
                entry.append(links.setdefault(about.st_ino, key) if about.st_nlink > 1 else None)
            out[key] = entry
    # Which name comes first depends on the order of the listing.
    groups = {}
    for key, entry in out.items():
        if entry[0][0] == "-" and entry[-1] is not None:
            groups.setdefault(entry[-1], []).append(key)
    for keys in groups.values():
        for key in keys:
            out[key][-1] = min(keys)
    return out


@unittest.skipIf(fuse_obstacle() is not None, fuse_obstacle())
class MountCase(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="spillway-mount-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.mountpoint = self.path("mnt")
        os.mkdir(self.mountpoint)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def served(self, source, *options, mountpoint=None):
        mount = Served(source, mountpoint or self.mountpoint, *options)
        self.addCleanup(mount.abandon)
        return mount

    def ends_well(self, mount):
        rest = mount.unmount()
        self.assertEqual(mount.process.returncode, 0, rest)
        return rest

    def same_trees(self, left, right, times=True):
        a, b = describe(left, times), describe(right, times)
        self.assertEqual(sorted(a), sorted(b))
        for key, entry in a.items():
            self.assertEqual(entry, b[key], key)
