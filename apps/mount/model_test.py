#!/usr/bin/env python3
"""Random POSIX calls on a mount and on a directory of the host, side by side.

usage: model_test.py SPILLWAY [unittest arguments]

Goal: every call has the same result on both: errno, bytes, link counts, sizes, modes, and times
that change when the host's do. The budget is so small that inodes, names and pages leave memory and
come back all the time. Afterwards e2fsck finds nothing, and a second mount shows the same tree.
SPILLWAY_SEED and SPILLWAY_STEPS run other sequences, longer ones.
"""

import ctypes
import errno
import mmap
import os
import random
import stat
import subprocess
import sys
import tempfile
import unittest

from mount_bed import MountCase, call, describe, fuse_obstacle

SEED = int(os.environ.get("SPILLWAY_SEED", "1"))
STEPS = int(os.environ.get("SPILLWAY_STEPS", "1500"))
OPEN_MAX = 10
SIZE_MAX = 3_000_000
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
RENAME_NOREPLACE = 1


def rename_noreplace(old, new):
    if LIBC.renameat2(AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), RENAME_NOREPLACE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def about(status):
    """What stat(2) says and must be the same on both sides."""
    kind = stat.S_IFMT(status.st_mode)
    size = 0 if kind == stat.S_IFDIR else status.st_size
    return (status.st_mode, status.st_nlink, status.st_uid, status.st_gid, size)


class Side:
    """One of the two trees: a root and what is open in it."""

    def __init__(self, root):
        self.root = root
        self.files = {}  # slot -> descriptor

    def at(self, path):
        return os.path.join(self.root, path) if path else self.root

    def close_all(self):
        for fd in self.files.values():
            os.close(fd)
        self.files.clear()


class Calls:
    """The calls; each returns what must be equal. Paths are relative to the side's root."""

    @staticmethod
    def open(side, slot, path, flags, mode):
        fd = os.open(side.at(path), flags, mode)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            return "a directory"
        side.files[slot] = fd
        return about(os.fstat(fd))

    @staticmethod
    def close(side, slot):
        os.close(side.files.pop(slot))

    @staticmethod
    def pwrite(side, slot, data, offset):
        return os.pwrite(side.files[slot], data, offset)

    @staticmethod
    def append(side, slot, data):
        os.lseek(side.files[slot], 0, os.SEEK_END)
        return os.write(side.files[slot], data)

    @staticmethod
    def pread(side, slot, bytes_, offset, forget):
        if forget:  # what the kernel keeps, so that the server is asked
            os.posix_fadvise(side.files[slot], 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(side.files[slot], bytes_, offset)

    @staticmethod
    def ftruncate(side, slot, size):
        os.ftruncate(side.files[slot], size)

    @staticmethod
    def fsync(side, slot):
        os.fsync(side.files[slot])

    @staticmethod
    def fstat(side, slot):
        return about(os.fstat(side.files[slot]))

    @staticmethod
    def store(side, slot, offset, data):
        """A store through a shared mapping."""
        fd = side.files[slot]
        size = os.fstat(fd).st_size
        if offset + len(data) > size:
            return "too short"
        with mmap.mmap(fd, size) as area:
            area[offset:offset + len(data)] = data
            area.flush()
        return "stored"

    @staticmethod
    def truncate(side, path, size):
        os.truncate(side.at(path), size)

    @staticmethod
    def stat(side, path):
        return about(os.lstat(side.at(path)))

    @staticmethod
    def mkdir(side, path, mode):
        os.mkdir(side.at(path), mode)

    @staticmethod
    def rmdir(side, path):
        os.rmdir(side.at(path))

    @staticmethod
    def unlink(side, path):
        os.unlink(side.at(path))

    @staticmethod
    def rename(side, old, new, noreplace):
        if noreplace:
            rename_noreplace(side.at(old), side.at(new))
        else:
            os.rename(side.at(old), side.at(new))

    @staticmethod
    def link(side, old, new):
        os.link(side.at(old), side.at(new), follow_symlinks=False)

    @staticmethod
    def symlink(side, target, path):
        os.symlink(target, side.at(path))

    @staticmethod
    def readlink(side, path):
        return os.readlink(side.at(path))

    @staticmethod
    def chmod(side, path, mode):
        os.chmod(side.at(path), mode)

    @staticmethod
    def utime(side, path, times):
        os.utime(side.at(path), ns=times, follow_symlinks=False)
        return os.lstat(side.at(path)).st_mtime_ns

    @staticmethod
    def readdir(side, path):
        found = []
        with os.scandir(side.at(path)) as entries:
            for entry in entries:
                found.append((entry.name, stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)))
        return sorted(e for e in found if e[0] != "lost+found")

    @staticmethod
    def read_all(side, path):
        with open(side.at(path), "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.read()

    @staticmethod
    def fill(side, path, first, count):
        """Many small files at once: names and inodes that push others out. How many there was room
        for."""
        folder = side.at(path)
        for i in range(first, first + count):
            name = os.path.join(folder, f"fill-{i:04}")
            try:
                with open(name, "wb") as file:
                    file.write(b"f" * (i % 7))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                if os.path.exists(name):
                    os.unlink(name)
                return i - first
        return count

    @staticmethod
    def clear(side, path):
        folder = side.at(path)
        gone = 0
        for name in os.listdir(folder):
            if name.startswith("fill-"):
                os.unlink(os.path.join(folder, name))
                gone += 1
        return gone


class Sequence:
    """Random calls; which ones depends on the seed alone, but for the slots that are open."""

    def __init__(self, seed, mount, model, fine_times=True):
        self.rng = random.Random(seed)
        self.fine_times = fine_times  # times of the mount change with every call
        self.mount = Side(mount)
        self.model = Side(model)
        self.log = []

    def name(self):
        rng = self.rng
        if rng.random() < 0.03:
            return rng.choice(("x" * 255, "y" * 256, "n" * 39, "n" * 40, "n" * 41))
        return rng.choice("abcdefghij") + rng.choice(("", "", "1", "2"))

    def path(self):
        rng = self.rng
        depth = rng.choice((1, 1, 2, 2, 2, 3, 4))
        words = [rng.choice(("d0", "d1", "d2", "e")) for _ in range(depth - 1)]
        return "/".join(words + [self.name() if rng.random() < 0.8 else
                                 rng.choice(("d0", "d1", "d2", "e"))])

    def folder(self):
        path = self.path()
        return os.path.dirname(path) if self.rng.random() < 0.8 else path

    def slot(self):
        slots = sorted(self.mount.files)
        return self.rng.choice(slots) if slots else None

    def size(self):
        return self.rng.choice((0, 1, 100, 1000, 1024, 4095, 4096, 4097, 8192, 50_000, 70_001,
                                1_000_000, SIZE_MAX))

    def data(self):
        rng = self.rng
        size = rng.choice((1, 10, 500, 1024, 4096, 4096, 5000, 12_288, 40_000, 40_000, 300_000))
        return rng.randbytes(size)

    def named_call(self):
        rng = self.rng
        kind = rng.choice(
            ("stat", "stat", "mkdir", "mkdir", "rmdir", "unlink", "rename", "rename", "rename",
             "link", "symlink", "readlink", "chmod", "utime", "readdir", "truncate", "read_all",
             "read_all", "fill", "clear"))
        path = self.path()
        more = {
            "mkdir": lambda: (rng.choice((0o755, 0o700)),),
            "rename": lambda: (self.path(), rng.random() < 0.2),
            "link": lambda: (self.path(),),
            "chmod": lambda: (rng.choice((0o644, 0o600, 0o4755, 0o2755, 0o1777)),),
            "utime": lambda: ((rng.randrange(2**31) * 10**9, rng.randrange(2**31) * 10**9),),
            "truncate": lambda: (self.size(),),
            "fill": lambda: (rng.randrange(4) * 200, rng.choice((20, 200))),
        }
        if kind == "symlink":
            return kind, (rng.choice(("a", "../d0", "d1/b", "t" * 59, "t" * 60, "t" * 900)), path)
        if kind in ("mkdir", "readdir", "fill", "clear"):
            path = self.folder() or "d0"
        return kind, (path, *more.get(kind, lambda: ())())

    def next_call(self):
        rng = self.rng
        slot = self.slot()
        if slot is None or (len(self.mount.files) < OPEN_MAX and rng.random() < 0.15):
            flags = rng.choice((os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT,
                                os.O_RDWR | os.O_CREAT | os.O_EXCL,
                                os.O_RDWR | os.O_CREAT | os.O_TRUNC,
                                os.O_RDWR | os.O_NOFOLLOW))
            free = next(i for i in range(OPEN_MAX + 1) if i not in self.mount.files)
            return "open", (free, self.path(), flags, rng.choice((0o644, 0o600)))
        if rng.random() < 0.5:
            return self.named_call()
        kind = rng.choice(("pwrite", "pwrite", "pwrite", "append", "pread", "pread", "pread",
                           "ftruncate", "fsync", "fstat", "store", "close"))
        offset = rng.choice((0, 1, 1000, 4096, rng.randrange(100_000), rng.randrange(SIZE_MAX)))
        more = {
            "pwrite": lambda: (self.data(), offset),
            "append": lambda: (self.data(),),
            "pread": lambda: (rng.choice((1, 4096, 100_000, SIZE_MAX)), offset,
                              rng.random() < 0.5),
            "ftruncate": lambda: (self.size(),),
            "store": lambda: (offset, rng.randbytes(rng.choice((1, 100, 5000)))),
        }
        return kind, (slot, *more.get(kind, lambda: ())())

    @staticmethod
    def outcome(side, kind, arguments):
        try:
            return getattr(Calls, kind)(side, *arguments)
        except OSError as error:
            return "error " + errno.errorcode.get(error.errno, str(error.errno))

    def times(self, kind, arguments):
        """Of whatever the call may touch, on both sides: (mtime, ctime) by path or slot."""
        out = {}
        names = {a for a in arguments if isinstance(a, str) and kind != "symlink"}
        names |= {os.path.dirname(n) for n in names}
        for name in names:
            found = []
            for side in (self.mount, self.model):
                try:
                    status = os.lstat(side.at(name))
                    found.append((status.st_ino, status.st_mtime_ns, status.st_ctime_ns))
                except OSError:
                    found.append(None)
            out[name] = found
        return out

    @staticmethod
    def short(value):
        if isinstance(value, bytes) and len(value) > 40:
            return f"<{len(value)} bytes {value[:8].hex()}>"
        if isinstance(value, tuple):
            return tuple(Sequence.short(v) for v in value)
        return value

    def step(self):
        kind, arguments = self.next_call()
        before = self.times(kind, arguments)
        got = self.outcome(self.mount, kind, arguments)
        if got == "error ENOSPC" or (kind in ("pwrite", "append", "fill") and isinstance(got, int)):
            arguments = self.as_far_as(kind, arguments, got)
        wanted = got if arguments is None else self.outcome(self.model, kind, arguments)
        self.log.append(f"{kind} {self.short(arguments)} -> {self.short(got)}")
        if got != wanted:
            raise AssertionError(self.difference(got, wanted))
        after = self.times(kind, arguments or ())
        for name, (mount, model) in after.items():
            was = before.get(name)
            if not self.fine_times or was is None or None in (*was, mount, model):
                continue
            if mount[0] != was[0][0] or model[0] != was[1][0]:
                continue  # another file
            for i, what in ((1, "mtime"), (2, "ctime")):
                if model[i] != was[1][i] and mount[i] == was[0][i]:
                    raise AssertionError(f"{what} of {name!r} stayed after {self.log[-1]}")

    def as_far_as(self, kind, arguments, got):
        """On a full disk: what of the call was done, to be done on the other side."""
        if kind == "fill":
            return (*arguments[:2], got)
        if isinstance(got, int):
            data = arguments[1][:got]
            return (arguments[0], data, *arguments[2:])
        if kind == "open":
            return None if arguments[2] & os.O_CREAT else arguments
        if kind == "store":
            # Some of the pages found room.
            slot, offset, data = arguments
            os.posix_fadvise(self.mount.files[slot], 0, 0, os.POSIX_FADV_DONTNEED)
            there = os.pread(self.mount.files[slot], len(data), offset)
            os.pwrite(self.model.files[slot], there, offset)
        return None

    def difference(self, got, wanted):
        text = "\n".join(self.log[-12:])
        if isinstance(got, bytes) and isinstance(wanted, bytes):
            at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b),
                      min(len(got), len(wanted)))
            return (f"step {len(self.log)}: {len(got)} bytes for {len(wanted)}, other from {at} on:"
                    f" {got[at:at + 16].hex()} for {wanted[at:at + 16].hex()}\n{text}")
        return f"step {len(self.log)}: {got!r} for {wanted!r}\n{text}"

    def run(self, steps):
        for _ in range(steps):
            self.step()

    def end(self):
        self.mount.close_all()
        self.model.close_all()


@unittest.skipIf(fuse_obstacle() is not None, fuse_obstacle())
class Model(MountCase):
    """One sequence for each kind of image, and one for a directory."""

    def model_root(self):
        # A file system in memory: its directories count links as ext4's do.
        folder = tempfile.mkdtemp(prefix="spillway-model-", dir="/dev/shm")
        self.addCleanup(call, "rm", "-rf", folder)
        return folder

    def image(self, *options, megabytes=96):
        image = self.path("image")
        subprocess.run(["mke2fs", "-q", "-F", *options, image, f"{megabytes}M"], check=True)
        return image

    def compare(self, source, seed, steps=STEPS, ram="8M", options=("--kernel-cache", "0"),
                fine_times=True):
        model = self.model_root()
        mount = self.served(source, "--ram", ram, *options)
        # One level down, so that a link to "../d0" stays inside.
        roots = [os.path.join(root, "tree") for root in (mount.mountpoint, model)]
        for root in roots:
            for name in ("", "d0", "d1", "d2", "d0/e", "d1/d2"):
                os.mkdir(os.path.join(root, name))
        sequence = Sequence(seed, *roots, fine_times)
        try:
            sequence.run(steps)
        finally:
            sequence.end()
        self.same_trees(model, mount.mountpoint, times=False)
        before = describe(mount.mountpoint)
        self.ends_well(mount)
        mount = self.served(source, "--ram", ram, *options)
        self.assertEqual(before, describe(mount.mountpoint))
        self.same_trees(model, mount.mountpoint, times=False)
        self.ends_well(mount)

    def check(self, image):
        done = call("e2fsck", "-fn", image)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def compare_image(self, *options, megabytes=96, **more):
        image = self.image(*options, megabytes=megabytes)
        self.compare(image, **more)
        self.check(image)

    def test_ext4(self):
        self.compare_image("-t", "ext4", seed=SEED)

    def test_ext4_with_the_kernels_caches(self):
        self.compare_image("-t", "ext4", seed=SEED + 1, options=())

    def test_ext4_of_small_blocks(self):
        self.compare_image("-t", "ext4", "-b", "1024", seed=SEED + 2)

    def test_ext2(self):
        self.compare_image("-t", "ext2", "-b", "4096", seed=SEED + 3)

    def test_ext2_of_small_blocks_and_inodes(self):
        self.compare_image("-t", "ext2", "-b", "1024", "-I", "128", seed=SEED + 4,
                           fine_times=False)

    def test_ext4_that_is_full(self):
        self.compare_image("-t", "ext4", "-b", "4096", "-m", "0", "-O", "^has_journal",
                           megabytes=8, seed=SEED + 5)

    def test_a_store_without_room_is_told(self):
        mount = self.served(self.image("-t", "ext4", "-b", "4096", megabytes=8), "--ram", "8M")
        with open(os.path.join(mount.mountpoint, "f"), "w+b") as file:
            file.truncate(1 << 20)
            with open(os.path.join(mount.mountpoint, "all"), "wb", buffering=0) as other:
                with self.assertRaises(OSError) as full:
                    while other.write(bytes(100_000)) > 0:
                        pass
                self.assertEqual(full.exception.errno, errno.ENOSPC)
                # Of the pages that follow some find room, the last ones do not.
                other.truncate(other.tell() - 50_000)
            with mmap.mmap(file.fileno(), 1 << 20) as area:
                area[:] = b"x" * (1 << 20)
                with self.assertRaises(OSError) as told:
                    area.flush()
            self.assertEqual(told.exception.errno, errno.ENOSPC)
        self.ends_well(mount)

    def test_directory(self):
        os.mkdir(self.path("tree"))
        self.compare(self.path("tree"), seed=SEED + 6, ram="16M")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
