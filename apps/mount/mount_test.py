#!/usr/bin/env python3
"""`spillway mount` as users meet it: real programs on a mounted image or directory.

usage: mount_test.py SPILLWAY [unittest arguments]

Goal: what is read is byte-identical, what was written is there after unmounting and e2fsck finds
the image clean, after SIGKILL everything that fsync confirmed is there, and no cache exceeds the
budget. Skipped where /dev/fuse cannot be opened.
"""

import errno
import hashlib
import os
import random
import re
import select
import signal
import stat
import subprocess
import sys
import threading
import unittest

from mount_bed import SEED, SPILLWAY, WAIT, MountCase, call, describe, make_tree


class OnBoth:
    """Cases that hold for images and for directories."""

    def test_walk_is_byte_identical(self):
        tree = self.path("tree")
        make_tree(tree, 3000)
        source = self.source(tree)
        mount = self.served(source, "--ram", "16M")
        self.same_trees(tree, mount.mountpoint)
        # Once more, from the caches.
        self.same_trees(tree, mount.mountpoint)
        done = call("diff", "-r", "--no-dereference", "-x", "lost+found", "-x", "fifo", tree,
                    mount.mountpoint)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        tars = []
        for root in (tree, mount.mountpoint):
            tar = subprocess.run(
                ["tar", "c", "--sort=name", "--format=pax", "--exclude=./lost+found", "--mtime=@0",
                 "--pax-option=delete=atime,delete=ctime", "."], cwd=root, capture_output=True,
                timeout=WAIT, check=True).stdout
            tars.append(hashlib.sha256(tar).hexdigest())
        self.assertEqual(*tars)
        stats = mount.stats()
        self.assertLessEqual(stats["MemUsedMax"], stats["MemTotal"])
        self.ends_well(mount)
        self.check(source)

    def change(self, roots, seed):
        """The same random changes below each root."""
        rng = random.Random(seed)
        names = [f"n{i}" for i in range(60)] + ["long" + "z" * 240 + str(i) for i in range(5)]
        folders = ["."] + [f"d{i}" for i in range(6)]
        for _ in range(1500):
            kind = rng.randrange(10)
            path = os.path.join(rng.choice(folders), rng.choice(names))
            other = os.path.join(rng.choice(folders), rng.choice(names))
            data = rng.randbytes(rng.choice((1, 100, 5000, 50000)))
            at = rng.choice((0, 0, 1, 4096, 10_000, 200_000))
            outcomes = set()
            for root in roots:
                outcomes.add(self.one_change(kind, os.path.join(root, path),
                                             os.path.join(root, other), data, at))
            self.assertEqual(len(outcomes), 1, (kind, path, other, outcomes))

    @staticmethod
    def one_change(kind, path, other, data, at):
        try:
            if kind <= 3:
                fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
                try:
                    os.pwrite(fd, data, at)
                    return os.pread(fd, 300_000, 0)
                finally:
                    os.close(fd)
            if kind == 4:
                os.truncate(path, at)
            elif kind == 5:
                os.unlink(path)
            elif kind == 6:
                os.rename(path, other)
            elif kind == 7:
                os.link(path, other)
            elif kind == 8:
                os.symlink(data[:100].hex(), path)
            elif os.path.isdir(os.path.dirname(path)):
                os.chmod(path, 0o600 + at % 64)
            else:
                os.mkdir(os.path.dirname(path))
            return "done"
        except OSError as error:
            return error.errno

    def test_random_changes(self):
        tree, model = self.path("tree"), self.path("model")
        for root in (tree, model):
            for i in range(6):
                os.makedirs(os.path.join(root, f"d{i}"))
        source = self.source(tree)
        mount = self.served(source, "--ram", "8M")
        self.change((mount.mountpoint, model), SEED)
        self.same_trees(model, mount.mountpoint, times=False)
        before = describe(mount.mountpoint)
        self.ends_well(mount)
        self.check(source)
        mount = self.served(source, "--ram", "8M")
        after = describe(mount.mountpoint)
        self.assertEqual(before, after)
        self.ends_well(mount)

    def test_attributes(self):
        os.mkdir(self.path("tree"))
        source = self.source(self.path("tree"))
        mount = self.served(source, "--ram", "8M")
        path = os.path.join(mount.mountpoint, "f")
        with open(path, "wb") as file:
            file.write(b"x")
        os.chmod(path, 0o4711)
        os.chown(path, 12, 34)
        os.chmod(path, 0o4711)
        os.utime(path, ns=(5_000_000_001, 7_000_000_002))
        folder = os.path.join(mount.mountpoint, "d")
        os.mkdir(folder, 0o2775)
        os.chown(folder, -1, 77)
        os.chmod(folder, 0o2775)
        os.mkdir(os.path.join(folder, "inner"))
        self.assertEqual(os.stat(os.path.join(folder, "inner")).st_gid, 77)
        self.ends_well(mount)
        self.check(source)
        mount = self.served(source, "--read-only", "--ram", "8M")
        about = os.stat(path)
        self.assertEqual((stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid),
                         (0o4711, 12, 34))
        self.assertEqual(about.st_mtime_ns, 7_000_000_002)
        self.assertTrue(os.stat(os.path.join(folder, "inner")).st_mode & stat.S_ISGID)
        self.assertEqual(os.stat(folder).st_nlink, 3)
        for change in (lambda: os.unlink(path), lambda: os.mkdir(folder + "2"),
                       lambda: os.truncate(path, 0)):
            with self.assertRaises(OSError) as caught:
                change()
            self.assertEqual(caught.exception.errno, errno.EROFS)
        self.ends_well(mount)

    def test_open_files_outlive_their_names(self):
        os.mkdir(self.path("tree"))
        source = self.source(self.path("tree"))
        mount = self.served(source, "--ram", "8M")
        path = os.path.join(mount.mountpoint, "f")
        with open(path, "w+b") as file:
            file.write(b"a" * 100_000)
            file.flush()
            os.unlink(path)
            with open(path, "wb") as other:
                other.write(b"b" * 50_000)
            file.seek(0)
            self.assertEqual(file.read(), b"a" * 100_000)
            self.assertEqual(os.fstat(file.fileno()).st_nlink, 0)
        with open(path, "rb") as other:
            self.assertEqual(other.read(), b"b" * 50_000)
        self.ends_well(mount)
        self.check(source)

    def test_many_at_once(self):
        tree = self.path("tree")
        make_tree(tree, 400)
        source = self.source(tree)
        mount = self.served(source, "--ram", "8M")
        expected = describe(tree)
        problems = []

        def read():
            for _ in range(3):
                if describe(mount.mountpoint, leave_out=("lost+found", *writers)) != expected:
                    problems.append("a reader saw something else")

        def write(name):
            rng = random.Random(name)
            folder = os.path.join(mount.mountpoint, name)
            os.mkdir(folder)
            for i in range(150):
                data = rng.randbytes(rng.choice((10, 5000, 100_000)))
                path = os.path.join(folder, str(i % 40))
                with open(path, "wb") as file:
                    file.write(data)
                with open(path, "rb") as file:
                    if file.read() != data:
                        problems.append(f"{path} reads differently")
                if i % 3 == 0:
                    os.rename(path, path + "r")
                    os.unlink(path + "r")

        writers = [f"w{i}" for i in range(3)]
        threads = [threading.Thread(target=read) for _ in range(3)]
        threads += [threading.Thread(target=write, args=(name,)) for name in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
        self.ends_well(mount)
        self.check(source)

    def test_budget_holds(self):
        tree = self.path("tree")
        os.mkdir(tree)
        rng = random.Random(SEED)
        for i in range(20):
            with open(os.path.join(tree, f"big{i}"), "wb") as file:
                file.write(rng.randbytes(10 << 20))
        for i in range(100):
            os.mkdir(os.path.join(tree, f"d{i}"))
            for j in range(200):
                os.close(os.open(os.path.join(tree, f"d{i}", f"f{j}"), os.O_CREAT | os.O_WRONLY))
        source = self.source(tree, megabytes=400)
        mount = self.served(source, "--ram", "16M")
        for i in range(20):
            with open(os.path.join(tree, f"big{i}"), "rb") as left, \
                    open(os.path.join(mount.mountpoint, f"big{i}"), "rb") as right:
                self.assertEqual(left.read(), right.read())
        seen = 0
        for folder, _, files in os.walk(mount.mountpoint):
            seen += sum(1 for name in files if os.lstat(os.path.join(folder, name)))
        self.assertEqual(seen, 20 + 20_000)
        stats = mount.stats()
        self.assertEqual(stats["MemTotal"], 16 << 10)
        self.assertLessEqual(stats["MemUsedMax"], stats["MemTotal"])
        self.assertGreater(stats["pgsteal"], 30_000)  # 200 MB went through 16
        peak = mount.peak_rss()
        # Beside the frames: program and libraries, tables, buffers of the threads, nodes.
        print(f"\n{self.id()}: peak RSS {peak >> 20} MiB with --ram 16M, used "
              f"{stats['MemUsedMax'] >> 10} MiB")
        self.assertLess(peak, (16 << 20) + (40 << 20))
        self.ends_well(mount)

    def test_sigterm_stores_everything(self):
        os.mkdir(self.path("tree"))
        source = self.source(self.path("tree"))
        mount = self.served(source, "--ram", "8M")
        path = os.path.join(mount.mountpoint, "f")
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"unsynced")
        mount.process.send_signal(signal.SIGTERM)
        rest = mount.wait()
        with self.assertRaises(OSError):  # the file system is gone
            os.close(fd)
        self.assertEqual(mount.process.returncode, 0, rest)
        self.assertFalse(os.path.ismount(mount.mountpoint))
        self.check(source)
        mount = self.served(source, "--ram", "8M")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"unsynced")
        self.ends_well(mount)

    def test_kill_keeps_what_fsync_confirmed(self):
        os.mkdir(self.path("tree"))
        source = self.source(self.path("tree"), megabytes=200)
        for seed in range(3):
            mount = self.served(source, "--ram", "8M")
            rng = random.Random(SEED * 100 + seed)
            confirmed = {}
            folder = os.path.join(mount.mountpoint, f"round{seed}")
            os.mkdir(folder)
            for i in range(120):
                name = f"f{rng.randrange(60)}"
                data = rng.randbytes(rng.choice((0, 3, 4096, 30_000, 300_000)))
                path = os.path.join(folder, name)
                confirmed.pop(name, None)
                fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
                os.write(fd, data)
                if i % 2:
                    os.fsync(fd)
                    at = os.open(folder, os.O_RDONLY)
                    os.fsync(at)
                    os.close(at)
                    confirmed[name] = data
                os.close(fd)
            mount.kill()
            self.repair(source)
            mount = self.served(source, "--ram", "8M")
            for name, data in confirmed.items():
                with open(os.path.join(folder, name), "rb") as file:
                    self.assertEqual(file.read(), data, name)
            self.ends_well(mount)
            self.check(source)


class OnDirectory(OnBoth, MountCase):
    def source(self, tree, megabytes=0):
        del megabytes
        return tree

    def check(self, source):
        pass

    def repair(self, source):
        pass

    def test_what_lies_above_cannot_be_reached(self):
        os.mkdir(self.path("tree"))
        with open(self.path("secret"), "w", encoding="ascii") as file:
            file.write("x")
        mount = self.served(self.path("tree"), "--ram", "8M")
        os.symlink("../secret", os.path.join(mount.mountpoint, "l"))
        self.assertEqual(os.readlink(self.path("tree", "l")), "../secret")
        # Who follows it is the reader, from where he stands, not the server.
        self.assertTrue(os.path.islink(os.path.join(mount.mountpoint, "l")))
        self.assertEqual(os.stat(os.path.join(mount.mountpoint, "..")).st_ino,
                         os.stat(self.folder).st_ino)
        self.ends_well(mount)


@unittest.skipIf(not os.path.exists("/sbin/mke2fs"), "mke2fs is not installed")
class OnImage(OnBoth, MountCase):
    KIND = ("-t", "ext4")

    def source(self, tree, megabytes=128):
        image = self.path("image")
        done = call("/sbin/mke2fs", "-q", "-F", *self.KIND, "-N", "40000", "-d", tree, image,
                    f"{megabytes}M")
        self.assertEqual(done.returncode, 0, done.stderr)
        return image

    def check(self, source):
        done = call("/sbin/e2fsck", "-fn", source)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def repair(self, source):
        done = call("/sbin/e2fsck", "-fy", source)
        self.assertIn(done.returncode, (0, 1), done.stdout + done.stderr)

    def test_full_disk(self):
        os.mkdir(self.path("tree"))
        image = self.path("small")
        done = call("/sbin/mke2fs", "-q", "-F", *self.KIND, image, "16M")
        self.assertEqual(done.returncode, 0, done.stderr)
        mount = self.served(image, "--ram", "8M")
        caught = None
        written = 0
        with open(os.path.join(mount.mountpoint, "f"), "wb", buffering=0) as file:
            try:
                while written < 64 << 20:
                    written += file.write(b"z" * 65536)
                os.fsync(file.fileno())
            except OSError as error:
                caught = error.errno
        self.assertEqual(caught, errno.ENOSPC)
        with open(os.path.join(mount.mountpoint, "f"), "rb") as file:
            self.assertEqual(file.read(), b"z" * written)
        os.unlink(os.path.join(mount.mountpoint, "f"))
        with open(os.path.join(mount.mountpoint, "g"), "wb") as file:
            file.write(b"again" * 100_000)
        self.ends_well(mount)
        self.check(image)

    def test_one_server_for_one_image(self):
        os.mkdir(self.path("tree"))
        image = self.source(self.path("tree"))
        mount = self.served(image, "--ram", "8M")
        os.mkdir(self.path("second"))
        refused = call(SPILLWAY, "mount", "--ram", "8M", image, self.path("second"))
        self.assertEqual(refused.returncode, 125)
        self.assertRegex(refused.stderr, "in use|mounted")
        self.ends_well(mount)

    def test_the_sandbox_is_on(self):
        os.mkdir(self.path("tree"))
        mount = self.served(self.source(self.path("tree")), "--ram", "8M")
        with open(f"/proc/{mount.process.pid}/status", encoding="ascii") as file:
            status = file.read()
        self.assertRegex(status, r"Seccomp:\s+2")
        self.assertRegex(status, r"NoNewPrivs:\s+1")
        self.ends_well(mount)

    def test_refusals(self):
        for name, text in (("empty", b""), ("zeros", bytes(1 << 20)), ("text", b"hello " * 9999)):
            with open(self.path(name), "wb") as file:
                file.write(text)
            refused = call(SPILLWAY, "mount", "--ram", "8M", self.path(name), self.mountpoint)
            self.assertEqual(refused.returncode, 125, name)
            self.assertEqual(len(refused.stderr.splitlines()), 1, refused.stderr)
            self.assertFalse(os.path.ismount(self.mountpoint))


class Commands(MountCase):
    def refused(self, *words, text):
        done = call(SPILLWAY, "mount", *words)
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn(text, done.stderr)

    def test_refusals_name_the_thing_and_the_remedy(self):
        tree = self.path("tree")
        os.mkdir(tree)
        with open(self.path("file"), "w", encoding="ascii") as file:
            file.write("x")
        self.refused(text="is missing")
        self.refused(tree, text="is missing")
        self.refused(tree, self.mountpoint, "more", text="one word too many")
        self.refused(self.path("none"), self.mountpoint, text="No such file")
        self.refused(tree, self.path("none"), text="No such file")
        self.refused(tree, self.path("file"), text="is no directory")
        os.mkdir(os.path.join(tree, "inside"))
        self.refused(tree, os.path.join(tree, "inside"), text="wait for itself")
        self.refused("--ram", "1M", tree, self.mountpoint, text="at least 8M")
        self.refused("--sync-interval", "x", tree, self.mountpoint, text="number of seconds")
        self.refused("--kernel-cache=-1", tree, self.mountpoint, text="number of seconds")

    def test_background_and_statistics(self):
        tree = self.path("tree")
        os.mkdir(tree)
        done = call(SPILLWAY, "mount", "--ram", "8M", tree, self.mountpoint)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.addCleanup(call, "umount", "-l", self.mountpoint)
        self.assertTrue(os.path.ismount(self.mountpoint))
        with open(os.path.join(self.mountpoint, ".spillway", "stats"), encoding="ascii") as file:
            text = file.read()
        for word in ("MemTotal:", "dentry_hits", "inode_cache", "pid"):
            self.assertIn(word, text)
        self.assertEqual(os.listdir(self.mountpoint), [])
        self.assertEqual(os.listdir(os.path.join(self.mountpoint, ".spillway")), [])
        pidfd = os.pidfd_open(int(re.search(r"^pid (\d+)", text, re.M).group(1)))
        self.assertEqual(call("umount", self.mountpoint).returncode, 0)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        self.assertTrue(poll.poll(WAIT * 1000))
        os.close(pidfd)

    def test_a_real_entry_is_not_hidden(self):
        tree = self.path("tree")
        os.makedirs(os.path.join(tree, ".spillway"))
        with open(os.path.join(tree, ".spillway", "own"), "w", encoding="ascii") as file:
            file.write("mine")
        mount = self.served(tree, "--ram", "8M")
        self.assertEqual(os.listdir(os.path.join(mount.mountpoint, ".spillway")), ["own"])
        self.assertIn("has an entry .spillway of its own", "".join(mount.lines))
        self.ends_well(mount)

    def test_the_name_of_the_statistics_is_taken(self):
        tree = self.path("tree")
        os.mkdir(tree)
        mount = self.served(tree, "--ram", "8M")
        folder = os.path.join(mount.mountpoint, ".spillway")
        with self.assertRaises(FileExistsError):
            os.mkdir(folder)
        os.mkdir(os.path.join(mount.mountpoint, "d"))
        with self.assertRaises(PermissionError):
            os.rename(os.path.join(mount.mountpoint, "d"), folder)
        with self.assertRaises(PermissionError):
            os.rmdir(folder)
        self.ends_well(mount)
        self.assertEqual(os.listdir(tree), ["d"])

    def test_statistics_at_the_end(self):
        tree = self.path("tree")
        os.mkdir(tree)
        rest = self.ends_well(self.served(tree, "--ram", "8M", "--stats"))
        self.assertIn("MemTotal:", rest)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
