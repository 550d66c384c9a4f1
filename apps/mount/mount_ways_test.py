#!/usr/bin/env python3
"""What programs do with a file system besides reading and writing, on a mounted image.

usage: mount_ways_test.py SPILLWAY [unittest arguments]

Goal: large sparse files, names of 255 bytes, special files, statfs, links, listings of directories
that change, and the removal of directories of 20,000 entries do what they do elsewhere; what is
not offered is refused with the errno that programs expect. e2fsck finds the image clean.
"""

import ctypes
import errno
import os
import shutil
import socket
import stat
import sys
import unittest

from mount_bed import MountCase, call

GIB = 1 << 30


@unittest.skipIf(not os.path.exists("/sbin/mke2fs"), "mke2fs is not installed")
class Ways(MountCase):
    def mounted(self, *options, megabytes=128, kind="ext4", tree=None):
        self.image = self.path("image")
        words = ["/sbin/mke2fs", "-q", "-F", "-t", kind, *options]
        if tree is not None:
            words += ["-d", tree]
        made = call(*words, self.image, f"{megabytes}M")
        self.assertEqual(made.returncode, 0, made.stderr)
        return self.served(self.image, "--ram", "16M")

    def ended(self, mount):
        self.ends_well(mount)
        checked = call("/sbin/e2fsck", "-fn", self.image)
        self.assertEqual(checked.returncode, 0, checked.stdout)

    def test_sparse_files_of_many_gigabytes(self):
        mount = self.mounted()
        path = os.path.join(mount.mountpoint, "sparse")
        places = (0, 2 * GIB - 3, 4 * GIB - 3, 4 * GIB + 4096, 100 * GIB + 5)
        with open(path, "wb", buffering=0) as file:
            for at in places:
                os.pwrite(file.fileno(), b"abcdef", at)
        self.assertEqual(os.path.getsize(path), places[-1] + 6)
        self.assertLess(os.stat(path).st_blocks * 512, 1 << 20)
        self.ended(mount)
        mount = self.served(self.image, "--ram", "16M")
        with open(path, "rb", buffering=0) as file:
            for at in places:
                self.assertEqual(os.pread(file.fileno(), 6, at), b"abcdef")
            self.assertEqual(os.pread(file.fileno(), 100, 50 * GIB), bytes(100))
            with self.assertRaises(OSError) as caught:
                os.truncate(path, 1 << 62)
            self.assertIn(caught.exception.errno, (errno.EFBIG, errno.EINVAL))
        os.truncate(path, 4 * GIB)
        with open(path, "rb", buffering=0) as file:
            self.assertEqual(os.pread(file.fileno(), 6, 4 * GIB - 3), b"abc")
        self.ended(mount)

    def test_names_and_kinds_of_files(self):
        mount = self.mounted("-b", "4096")
        root = mount.mountpoint
        for name in ("n" * 255, "\u00e4" * 127, " ", "a\nb", "-", "\\"):
            with open(os.path.join(root, name), "w", encoding="utf-8") as file:
                file.write(name)
        with self.assertRaises(OSError) as caught:
            os.mkdir(os.path.join(root, "n" * 256))
        self.assertEqual(caught.exception.errno, errno.ENAMETOOLONG)
        os.mkfifo(os.path.join(root, "fifo"))
        with socket.socket(socket.AF_UNIX) as one:
            here = os.getcwd()
            os.chdir(root)
            one.bind("socket")
            os.chdir(here)
        if os.geteuid() == 0:
            os.mknod(os.path.join(root, "null"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
            os.mknod(os.path.join(root, "wide"), stat.S_IFBLK | 0o600, os.makedev(300, 70_000))
        os.symlink("t" * 59, os.path.join(root, "short"))
        os.symlink("t" * 4000, os.path.join(root, "long"))
        with open(os.path.join(root, "first"), "w", encoding="ascii") as file:
            file.write("x")
        for i in range(50):
            os.link(os.path.join(root, "first"), os.path.join(root, f"link{i}"))
        self.ended(mount)
        mount = self.served(self.image, "--ram", "16M", "--read-only")
        for name in ("n" * 255, "\u00e4" * 127, " ", "a\nb", "-", "\\"):
            with open(os.path.join(root, name), encoding="utf-8") as file:
                self.assertEqual(file.read(), name)
        modes = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK}
        if os.geteuid() == 0:
            modes |= {"null": stat.S_IFCHR, "wide": stat.S_IFBLK}
            self.assertEqual(os.lstat(os.path.join(root, "wide")).st_rdev,
                             os.makedev(300, 70_000))
        for name, mode in modes.items():
            self.assertEqual(stat.S_IFMT(os.lstat(os.path.join(root, name)).st_mode), mode)
        self.assertEqual(os.readlink(os.path.join(root, "short")), "t" * 59)
        self.assertEqual(os.readlink(os.path.join(root, "long")), "t" * 4000)
        self.assertEqual(os.stat(os.path.join(root, "link49")).st_nlink, 51)
        self.ended(mount)

    def test_statfs_counts(self):
        mount = self.mounted("-b", "4096", "-N", "5000")
        before = os.statvfs(mount.mountpoint)
        self.assertEqual((before.f_bsize, before.f_files, before.f_namemax),
                         (4096, before.f_files, 255))
        self.assertGreaterEqual(before.f_files, 5000)
        with open(os.path.join(mount.mountpoint, "f"), "wb") as file:
            file.write(bytes(10 << 20))
            file.flush()
            os.fsync(file.fileno())
        after = os.statvfs(mount.mountpoint)
        self.assertEqual(after.f_ffree, before.f_ffree - 1)
        self.assertAlmostEqual(before.f_bfree - after.f_bfree, 2560, delta=8)
        os.unlink(os.path.join(mount.mountpoint, "f"))
        again = os.statvfs(mount.mountpoint)
        self.assertEqual((again.f_ffree, again.f_bfree), (before.f_ffree, before.f_bfree))
        self.ended(mount)

    def test_what_is_not_offered_is_refused(self):
        mount = self.mounted()
        path = os.path.join(mount.mountpoint, "f")
        with open(path, "wb") as file:
            file.write(b"0123456789" * 1000)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        fd = os.open(path, os.O_RDWR)
        for mode in (0, 1, 3, 0x10):
            self.assertEqual(libc.fallocate(fd, mode, 0, 100_000), -1)
            self.assertEqual(ctypes.get_errno(), errno.EOPNOTSUPP)
        # The C library writes zeros then.
        os.posix_fallocate(fd, 0, 100_000)
        self.assertEqual(os.fstat(fd).st_size, 100_000)
        self.assertEqual(os.pread(fd, 10_010, 0), b"0123456789" * 1000 + bytes(10))
        os.close(fd)
        with self.assertRaises(OSError) as caught:
            os.setxattr(path, "user.name", b"value")
        self.assertEqual(caught.exception.errno, errno.EOPNOTSUPP)
        libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p,
                                   ctypes.c_uint]
        os.mkdir(os.path.join(mount.mountpoint, "d"))
        self.assertEqual(libc.renameat2(-100, path.encode(), -100,
                                        os.path.join(mount.mountpoint, "d").encode(), 2), -1)
        self.assertEqual(ctypes.get_errno(), errno.EINVAL)
        self.ended(mount)

    # --- Directories that are read while they change

    def test_a_directory_of_many_entries_is_listed_once_each_and_removed(self):
        for hashed in (False, True):
            with self.subTest(hashed=hashed):
                tree = self.path("tree" + str(hashed))
                os.makedirs(os.path.join(tree, "d"))
                names = {f"entry-{i:05}" + "e" * (i % 40)
                         for i in range(20_000 if hashed else 4000)}
                if hashed:
                    for name in names:
                        os.close(os.open(os.path.join(tree, "d", name),
                                         os.O_CREAT | os.O_WRONLY))
                mount = self.mounted("-N", "30000", tree=tree)
                if hashed:
                    self.ends_well(mount)
                    self.assertIn(call("/sbin/e2fsck", "-fyD", self.image).returncode, (0, 1))
                    mount = self.served(self.image, "--ram", "16M")
                folder = os.path.join(mount.mountpoint, "d")
                if not hashed:
                    for name in names:
                        os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY))
                listed = os.listdir(folder)
                self.assertEqual(len(listed), len(names))
                self.assertEqual(set(listed), names)
                self.listed_while_it_changes(folder, names)
                done = call("find", folder, "-name", "entry-0*", "-delete")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertEqual(set(os.listdir(folder)),
                                 {n for n in names if not n.startswith("entry-0")})
                done = call("rm", "-r", folder)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertFalse(os.path.exists(folder))
                self.ended(mount)

    def listed_while_it_changes(self, folder, names):
        """What is there all the time is seen exactly once; others may be seen or not."""
        seen = []
        others = {f"other-{i}" for i in range(1000)}
        with os.scandir(folder) as entries:
            for i, entry in enumerate(entries):
                seen.append(entry.name)
                if i % 50 == 0 and i < 40_000:
                    other = os.path.join(folder, f"other-{i // 50}")
                    os.close(os.open(other, os.O_CREAT | os.O_WRONLY))
                    if i % 100 == 0:
                        os.unlink(other)
        kept = [name for name in seen if name not in others]
        self.assertEqual(len(kept), len(set(kept)))
        self.assertEqual(set(kept), names)
        for name in others & set(os.listdir(folder)):
            os.unlink(os.path.join(folder, name))

    def test_a_tree_is_removed_while_others_add_to_it(self):
        mount = self.mounted()
        root = os.path.join(mount.mountpoint, "t")
        for i in range(30):
            os.makedirs(os.path.join(root, f"d{i}", "inner"))
            for j in range(100):
                with open(os.path.join(root, f"d{i}", f"f{j}"), "wb") as file:
                    file.write(b"x" * j)
        shutil.rmtree(root)
        self.assertEqual(os.listdir(mount.mountpoint), ["lost+found"])
        self.ended(mount)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
