#!/usr/bin/env python3
"""kill -9 of `spillway mount`: what fsync confirmed is there after e2fsck -fy.

usage: mount_kill_test.py SPILLWAY [unittest arguments]

Goal: a program that writes, renames, links, truncates and removes files, and notes what was
confirmed, is interrupted by SIGKILL of the server at a random moment; e2fsck -fy repairs the image,
finds nothing wrong the second time, and all that was confirmed is there byte for byte. On ext4
with a journal and without, and on ext2. SPW_KILL_ROUNDS says how often, SPILLWAY_SEED when.
"""

import os
import random
import shutil
import sys
import threading
import time
import unittest

from mount_bed import SEED, SPILLWAY, MountCase, Served, call, fuse_obstacle

ROUNDS = int(os.environ.get("SPW_KILL_ROUNDS", "10"))
KINDS = (("-t", "ext4"), ("-t", "ext4", "-O", "^has_journal"), ("-t", "ext2"),
         ("-t", "ext4", "-b", "1024"))


class Writer:
    """Changes files below a folder until a call fails, and knows what must be there.

    Each name is in one of three states: certain (the bytes that it has), open (the contents that
    it may have, None for "is not there"), or unknown.
    """

    def __init__(self, folder, seed):
        self.folder = folder
        self.rng = random.Random(seed)
        self.names = {}  # name: set of what it may hold; confirmed ones only
        self.now = {}  # name: contents
        self.calls = 0

    def path(self, name):
        return os.path.join(self.folder, name)

    def sync_folder(self, folder):
        fd = os.open(self.path(folder), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def confirm(self, *names):
        for name in names:
            self.names[name] = {self.now.get(name)}

    def may_become(self, name, contents):
        if name in self.names:
            self.names[name].add(contents)

    def step(self):
        rng = self.rng
        folder = rng.choice(("a", "b"))
        name = f"{folder}/{rng.randrange(40)}" + "n" * rng.choice((0, 0, 100))
        kind = rng.randrange(12)
        if kind < 5:
            self.replace(name)
        elif kind < 7:
            self.append(name)
        elif kind < 8:
            self.shorten(name)
        elif kind < 9 and name in self.now:
            self.may_become(name, None)
            os.unlink(self.path(name))
            del self.now[name]
        elif kind < 11:
            self.atomic(name)
        else:
            self.folders(rng)
        self.calls += 1

    def replace(self, name):
        """Some are confirmed, some are not."""
        data = self.rng.randbytes(self.rng.choice((0, 3, 4096, 9000, 60_000, 300_000)))
        self.names.pop(name, None)
        fd = os.open(self.path(name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        try:
            os.write(fd, data)
            self.now[name] = data
            if self.rng.randrange(2):
                os.fsync(fd)
                self.sync_folder(os.path.dirname(name))
                self.confirm(name)
        finally:
            os.close(fd)

    def append(self, name):
        """Holes in between, so that maps of blocks grow."""
        if name not in self.now:
            return
        self.names.pop(name, None)
        data = bytearray(self.now[name])
        fd = os.open(self.path(name), os.O_WRONLY)
        try:
            for _ in range(self.rng.randrange(30)):
                at = len(data) + self.rng.choice((0, 5000, 9000))
                part = self.rng.randbytes(500)
                os.pwrite(fd, part, at)
                data += bytes(at - len(data)) + part
            self.now[name] = bytes(data)
            os.fsync(fd)
            self.sync_folder(os.path.dirname(name))
            self.confirm(name)
        finally:
            os.close(fd)

    def shorten(self, name):
        if name not in self.now:
            return
        self.names.pop(name, None)
        size = self.rng.randrange(len(self.now[name]) + 1)
        os.truncate(self.path(name), size)
        self.now[name] = self.now[name][:size]

    def atomic(self, name):
        """As editors do: the new contents take the name when they are safe."""
        data = self.rng.randbytes(self.rng.choice((10, 5000, 40_000)))
        other = os.path.join(os.path.dirname(name), "new")
        fd = os.open(self.path(other), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
        try:
            os.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.may_become(name, data)
        os.rename(self.path(other), self.path(name))
        self.now[name] = data
        if self.rng.randrange(2):
            self.sync_folder(os.path.dirname(name))
            self.confirm(name)

    def folders(self, rng):
        """Folders that come and go, so that their blocks are used again."""
        folder = self.path(f"scratch{rng.randrange(4)}")
        if os.path.isdir(folder):
            shutil.rmtree(folder)
        else:
            os.mkdir(folder)
            for i in range(rng.randrange(60)):
                with open(os.path.join(folder, f"{i}" + "s" * 150), "wb") as file:
                    file.write(b"s" * i * 50)

    def run(self):
        try:
            for folder in ("a", "b"):
                os.makedirs(self.path(folder), exist_ok=True)
            while True:
                self.step()
        except OSError:
            pass  # the server is gone


@unittest.skipIf(fuse_obstacle() is not None, fuse_obstacle())
@unittest.skipIf(not os.path.exists("/sbin/mke2fs"), "mke2fs is not installed")
class Kill(MountCase):
    def one_round(self, image, number, confirmed):
        rng = random.Random(SEED * 1000 + number)
        mount = Served(image, self.mountpoint, "--ram", "8M", "--sync-interval",
                       rng.choice(("0", "1")))
        self.addCleanup(mount.abandon)
        writer = Writer(os.path.join(mount.mountpoint, f"round{number}"), rng.random())
        os.mkdir(writer.folder)
        thread = threading.Thread(target=writer.run)
        thread.start()
        time.sleep(rng.uniform(0.05, 1.0))
        mount.process.kill()
        mount.wait()
        call("umount", "-l", self.mountpoint)
        thread.join()
        repaired = call("/sbin/e2fsck", "-fy", image)
        self.assertIn(repaired.returncode, (0, 1), repaired.stdout + repaired.stderr)
        again = call("/sbin/e2fsck", "-fn", image)
        self.assertEqual(again.returncode, 0, again.stdout + again.stderr)
        confirmed[writer.folder] = writer.names
        mount = Served(image, self.mountpoint, "--ram", "8M", "--read-only")
        self.addCleanup(mount.abandon)
        for folder, names in confirmed.items():
            for name, allowed in names.items():
                path = os.path.join(folder, name)
                found = None
                if os.path.exists(path):
                    with open(path, "rb") as file:
                        found = file.read()
                self.assertIn(found, allowed, f"round {number}, {path}:\n{repaired.stdout}")
        mount.unmount()
        # What was not confirmed is not known to the next round.
        return writer.calls, len(writer.names)

    def test_what_fsync_confirmed_survives_sigkill(self):
        calls = names = 0
        for kind in KINDS:
            image = self.path("image")
            made = call("/sbin/mke2fs", "-q", "-F", *kind, image, "128M")
            self.assertEqual(made.returncode, 0, made.stderr)
            confirmed = {}
            share = range(KINDS.index(kind), ROUNDS, len(KINDS))
            for number in share:
                did, sure = self.one_round(image, number, confirmed)
                calls += did
                names += sure
        print(f"\n{ROUNDS} rounds: {calls} steps, {names} confirmed names checked")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
