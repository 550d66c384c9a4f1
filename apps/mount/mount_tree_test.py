#!/usr/bin/env python3
"""`spillway mount` of a real source tree of more than 10,000 files, under a budget.

usage: mount_tree_test.py SPILLWAY [unittest arguments]

Goal: find, grep, tar, diff, storms of stat and a compilation find on the mounted image what they
find in the tree; names, inodes, blocks and pages together stay below the budget all the time, and
give frames back when something else needs them. Afterwards e2fsck finds the image clean.
The tree is made of headers and documents of this machine; where it has too few, of made-up files.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
import unittest

from mount_bed import SEED, WAIT, MountCase, call

FILES = 10_500
BYTES_MAX = 24 << 10  # of one file
RAM = 32 << 20
SOURCES = ("/usr/include", "/usr/share/perl", "/usr/lib/python3", "/usr/lib/python3.11",
           "/usr/share/doc", "/usr/share")


def real_files():
    """Files of this machine, the same ones as long as its packages are."""
    for source in SOURCES:
        for folder, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                if not os.path.islink(path) and os.path.isfile(path) and \
                        os.path.getsize(path) <= BYTES_MAX:
                    yield path


def make_source_tree(root):
    count = 0
    for path in real_files():
        copy = root + path
        if os.path.exists(copy):
            continue
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copyfile(path, copy)
        count += 1
        if count == FILES:
            break
    rng = random.Random(SEED)
    while count < FILES:
        folder = os.path.join(root, "made", str(count // 60))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"file_{count}.h"), "wb") as file:
            file.write(rng.randbytes(rng.randrange(BYTES_MAX)))
        count += 1
    program = os.path.join(root, "program")
    os.makedirs(program)
    for i in range(20):
        with open(os.path.join(program, f"part{i}.c"), "w", encoding="ascii") as file:
            file.write(f'#include "part.h"\nint part{i}(int x) {{ return x * {i} + OFFSET; }}\n')
    with open(os.path.join(program, "part.h"), "w", encoding="ascii") as file:
        file.write("#define OFFSET 7\n" +
                   "".join(f"int part{i}(int);\n" for i in range(20)))
    with open(os.path.join(program, "main.c"), "w", encoding="ascii") as file:
        calls = " + ".join(f"part{i}({i})" for i in range(20))
        file.write(f'#include <stdio.h>\n#include "part.h"\n'
                   f'int main(void) {{ printf("%d\\n", {calls}); return 0; }}\n')


@unittest.skipIf(not os.path.exists("/sbin/mke2fs"), "mke2fs is not installed")
class Tree(MountCase):
    def output_of(self, root, *words):
        done = subprocess.run(words, cwd=root, capture_output=True, timeout=WAIT, check=False)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        return sorted(line for line in done.stdout.splitlines() if b"lost+found" not in line)

    def tar_of(self, root):
        words = ["tar", "c", "--sort=name", "--format=pax", "--exclude=./lost+found", "--mtime=@0",
                 "--pax-option=delete=atime,delete=ctime", "."]
        tar = subprocess.run(words, cwd=root, capture_output=True, timeout=WAIT, check=True)
        return hashlib.sha256(tar.stdout).hexdigest()

    def storm(self, root):
        """As `git status`: lstat of every file by its path."""
        out = {}
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(f for f in folders if f != "lost+found")
            for name in names:
                path = os.path.join(folder, name)
                about = os.lstat(path)
                out[os.path.relpath(path, root)] = (about.st_mode, about.st_size,
                                                    int(about.st_mtime))
        return out

    def compile(self, folder):
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            return None
        parts = [f"part{i}" for i in range(0, 20)] + ["main"]
        for part in parts:
            done = call(compiler, "-c", f"{part}.c", "-o", f"{part}.o", cwd=folder)
            self.assertEqual(done.returncode, 0, done.stderr)
        done = call(compiler, "-o", "program", *[f"{part}.o" for part in parts], cwd=folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        return call(os.path.join(folder, "program")).stdout

    def within_budget(self, mount):
        stats = mount.stats()
        self.assertEqual(stats["MemTotal"] << 10, RAM)
        self.assertLessEqual(stats["MemUsedMax"], stats["MemTotal"])
        # Pages of files and of blocks are Cached, objects are Slab: nothing is left out.
        self.assertLessEqual(stats["Cached"] + stats["Slab"], stats["MemUsed"])
        self.assertGreater(stats["Cached"] + stats["Slab"], stats["MemUsed"] * 9 // 10)
        for kind in ("dentry_objects", "inode_objects", "buffer_objects", "buffer_pages"):
            self.assertGreater(stats[kind], 0, kind)
        return stats

    def test_a_source_tree(self):
        tree, image = self.path("tree"), self.path("image")
        make_source_tree(tree)
        with open(os.path.join(tree, "large"), "wb") as file:
            file.write(random.Random(SEED).randbytes(1 << 20) * 40)
        made = call("/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image, "300M")
        self.assertEqual(made.returncode, 0, made.stderr)
        begun = time.monotonic()
        mount = self.served(image, "--ram", str(RAM))
        root = mount.mountpoint

        find = ("find", ".", "-printf", "%y %s %m %p\\n")
        files = self.output_of(root, "find", ".", "-type", "f")
        self.assertGreater(len(files), 10_000)
        folders_too = [line for line in self.output_of(root, *find) if line[:1] == b"f"]
        self.assertEqual(folders_too, [line for line in self.output_of(tree, *find)
                                       if line[:1] == b"f"])
        self.within_budget(mount)
        expected = self.storm(tree)
        for _ in range(2):
            self.assertEqual(self.storm(root), expected)
        names = self.within_budget(mount)
        grep = ("grep", "-r", "-c", "-I", "--exclude=large", "struct", ".")
        self.assertEqual(self.output_of(root, *grep), self.output_of(tree, *grep))
        self.assertEqual(self.tar_of(root), self.tar_of(tree))
        done = call("diff", "-r", "--no-dereference", "-x", "lost+found", tree, root)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

        # A reader of something large needs the frames: names, inodes and blocks give theirs back.
        self.storm(root)
        before = self.within_budget(mount)
        for _ in range(2):
            with open(os.path.join(root, "large"), "rb") as file:
                # Not from what the kernel keeps of it.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while file.read(1 << 20):
                    pass
        after = self.within_budget(mount)
        self.assertLess(after["dentry_objects"] + after["inode_objects"],
                        before["dentry_objects"] + before["inode_objects"])
        self.assertLess(after["Slab"], before["Slab"])
        self.assertGreater(after["dentry_pruned"] + after["inode_pruned"],
                           before["dentry_pruned"] + before["inode_pruned"])
        self.assertGreater(after["buffer_released"], names["buffer_released"])

        built = self.compile(os.path.join(root, "program"))
        self.assertEqual(built, self.compile(os.path.join(tree, "program")))
        copy = os.path.join(root, "copy")
        shutil.copytree(os.path.join(tree, "program"), copy)
        shutil.rmtree(os.path.join(root, "program"))
        done = call("diff", "-r", os.path.join(tree, "program"), copy)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        peak = self.within_budget(mount)["MemUsedMax"]
        self.ends_well(mount)
        checked = call("/sbin/e2fsck", "-fn", image)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        print(f"\n{len(files)} files, {time.monotonic() - begun:.1f} s, at most {peak >> 10} of "
              f"{RAM >> 20} MiB used; dentries and inodes {before['dentry_objects']} and "
              f"{before['inode_objects']}, after the large file {after['dentry_objects']} and "
              f"{after['inode_objects']}")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
