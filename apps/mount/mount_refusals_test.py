#!/usr/bin/env python3
"""What `spillway mount` does not serve, or serves read-only, and what it says then.

usage: mount_refusals_test.py SPILLWAY [unittest arguments]

Goal: whatever stands in the way, the command ends with 125 and one line that names the thing and
the remedy, nothing is mounted, and the image is what it was, byte for byte. Features of ext4 are
each served rightly (the tree reads back the same, e2fsck finds it clean) or refused by name.
"""

import errno
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import unittest

from mount_bed import SPILLWAY, MountCase, call, fuse_obstacle, make_tree

SERVED = ("64bit", "^64bit", "metadata_csum", "^metadata_csum", "^metadata_csum,uninit_bg",
          "metadata_csum_seed", "^extent,^64bit,^metadata_csum", "^flex_bg", "^has_journal",
          "meta_bg,^resize_inode", "large_dir", "^dir_index", "^filetype", "^huge_file",
          "sparse_super2", "^sparse_super", "stable_inodes", "orphan_file", "^ext_attr",
          "^dir_nlink", "^extra_isize", "fast_commit")
READ_ONLY = ("mmp", "ea_inode", "quota", "project", "verity")
REFUSED = ("encrypt", "casefold", "inline_data", "bigalloc")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def nobody():
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return None


class Refusals(MountCase):
    def refused(self, *words, text, **more):
        done = call(SPILLWAY, "mount", *words, **more)
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertRegex(done.stderr, text)
        self.assertFalse(os.path.ismount(self.mountpoint))

    def image(self, *options, tree=None, megabytes=16):
        image = self.path("image")
        if os.path.exists(image):
            os.unlink(image)
        words = ["/sbin/mke2fs", "-q", "-F", "-t", "ext4", *options]
        if tree is not None:
            words += ["-d", tree]
        made = call(*words, image, f"{megabytes}M")
        return image if made.returncode == 0 else None

    def untouched(self, image, *words, text):
        before = digest(image)
        self.refused("--ram", "8M", *words, image, self.mountpoint, text=text)
        self.assertEqual(digest(image), before)

    def debugfs(self, image, command):
        done = call("/sbin/debugfs", "-w", "-R", command, image)
        self.assertEqual(done.returncode, 0, done.stderr)

    # --- Images

    def test_an_image_whose_journal_needs_recovery(self):
        image = self.image()
        self.debugfs(image, "feature needs_recovery")
        self.untouched(image, text="journal needs recovery.*e2fsck")
        self.untouched(image, "--read-only", text="journal needs recovery.*e2fsck")

    def test_an_image_that_the_kernel_left_without_unmounting(self):
        """As after a power failure: the journal is full of what is not yet in place."""
        image = self.image()
        disk = self.path("disk")
        shutil.copyfile(image, disk)
        folder = self.path("kernel")
        os.mkdir(folder)
        if call("mount", "-o", "loop,commit=600", disk, folder).returncode != 0:
            self.skipTest("the kernel cannot mount ext4 images here")
        self.addCleanup(call, "umount", folder)
        for i in range(20):
            with open(os.path.join(folder, f"f{i}"), "wb") as file:
                file.write(b"x" * 5000)
                os.fsync(file.fileno())
        subprocess.run(["sync", "-f", folder], check=True)
        self.refused("--ram", "8M", disk, self.mountpoint, text="mounted already.*loop")
        shutil.copyfile(disk, image)  # what a power failure leaves
        self.assertEqual(call("umount", folder).returncode, 0)
        self.untouched(image, text="journal needs recovery.*e2fsck")
        self.assertIn(call("/sbin/e2fsck", "-fy", image).returncode, (0, 1))
        mount = self.served(image, "--ram", "8M")
        with open(os.path.join(mount.mountpoint, "f19"), "rb") as file:
            self.assertEqual(file.read(), b"x" * 5000)
        mount.unmount()

    def test_an_image_that_was_not_unmounted(self):
        image = self.image()
        self.debugfs(image, "ssv state 0")
        self.untouched(image, text="not unmounted cleanly.*e2fsck")

    def test_features(self):
        tree = self.path("tree")
        make_tree(tree, 30)
        missing = []
        for feature in SERVED + READ_ONLY + REFUSED:
            with self.subTest(feature=feature):
                image = self.image("-O", feature, tree=tree)
                if image is None:
                    missing.append(feature)  # this mke2fs does not know it
                elif feature in REFUSED:
                    self.untouched(image, text=f"not supported: {feature}")
                elif feature in READ_ONLY:
                    self.untouched(image, text=f"only be read: {feature}.*--read-only")
                    self.serves(image, tree, "--read-only")
                else:
                    self.serves(image, tree)
        self.assertLess(len(missing), 8, missing)

    def serves(self, image, tree, *options):
        before = digest(image)
        mount = self.served(image, "--ram", "8M", *options)
        self.same_trees(tree, mount.mountpoint)
        if not options:
            os.mkdir(os.path.join(mount.mountpoint, "new"))
            with open(os.path.join(mount.mountpoint, "new", "file"), "wb") as file:
                file.write(b"new" * 10_000)
        self.ends_well(mount)
        if options:
            self.assertEqual(digest(image), before)
            return
        checked = call("/sbin/e2fsck", "-fn", image)
        self.assertEqual(checked.returncode, 0, checked.stdout)

    def test_unknown_features(self):
        image = self.image()
        self.debugfs(image, "feature FEATURE_I31")
        self.untouched(image, text="unknown incompatible feature")
        image = self.image()
        self.debugfs(image, "feature FEATURE_R31")
        self.untouched(image, text="unknown.*--read-only")
        mount = self.served(image, "--ram", "8M", "--read-only")
        with self.assertRaises(OSError) as caught:
            os.mkdir(os.path.join(mount.mountpoint, "d"))
        self.assertEqual(caught.exception.errno, errno.EROFS)
        mount.unmount()

    def test_an_image_smaller_than_it_says(self):
        image = self.image()
        os.truncate(image, 9 << 20)
        self.untouched(image, text="more blocks than the device has.*e2fsck")

    def test_no_images(self):
        for name, data in (("zeros", bytes(1 << 20)), ("text", b"hello " * 9999)):
            with open(self.path(name), "wb") as file:
                file.write(data)
            self.refused(self.path(name), self.mountpoint, text="no ext2, ext3 or ext4 image")
        with open(self.path("empty"), "wb"):
            pass
        self.refused(self.path("empty"), self.mountpoint, text="is empty")
        os.mkfifo(self.path("fifo"))
        self.refused(self.path("fifo"), self.mountpoint, text="neither a file")
        self.refused(self.path("none"), self.mountpoint, text="No such file")
        image = self.image("-b", "1024")
        self.debugfs(image, "ssv log_block_size 4")
        self.untouched(image, text="larger than 4 KiB")

    def test_an_image_in_use(self):
        image = self.image()
        mount = self.served(image, "--ram", "8M")
        other = self.path("other")
        os.mkdir(other)
        self.refused_at(other, image, "in use|mounted already")
        self.ends_well(mount)
        self.served(image, "--ram", "8M").unmount()

    def refused_at(self, other, image, text):
        done = call(SPILLWAY, "mount", "--ram", "8M", image, other)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (125, 1), done.stderr)
        self.assertRegex(done.stderr, text)
        self.assertFalse(os.path.ismount(other))

    # --- Mount points and sizes

    def test_mount_points(self):
        image = self.image()
        for name in ("file", "link"):
            with open(self.path("file"), "w", encoding="ascii") as file:
                file.write("x")
            if name == "link":
                os.symlink("file", self.path("link"))
            self.refused("--ram", "8M", image, self.path(name), text="is no directory")
        self.refused("--ram", "8M", image, self.path("none"), text="No such file")
        # Not empty: hidden meanwhile, as by mount(8), and there again afterwards.
        with open(os.path.join(self.mountpoint, "below"), "w", encoding="ascii") as file:
            file.write("below")
        mount = self.served(image, "--ram", "8M")
        self.assertEqual(os.listdir(self.mountpoint), ["lost+found"])
        # Mounted on already: one lies upon the other, and they go in turn.
        other = self.path("tree")
        os.mkdir(other)
        upper = self.served(other, "--ram", "8M")
        self.assertEqual(os.listdir(self.mountpoint), [])
        self.ends_well(upper)
        self.assertEqual(os.listdir(self.mountpoint), ["lost+found"])
        self.ends_well(mount)
        self.assertEqual(os.listdir(self.mountpoint), ["below"])

    def test_sizes(self):
        image = self.image()
        for size, text in (("0", "at least 8M"), ("7M", "at least 8M"), ("-5", "."), ("8Q", "."),
                           ("", "."), ("lots", "."), ("99999999T", ".")):
            before = digest(image)
            self.refused(f"--ram={size}", image, self.mountpoint, text=text)
            self.assertEqual(digest(image), before)

    # --- What the machine lacks

    def in_a_world_of_its_own(self, script, *words):
        """Runs a shell script in a mount namespace that goes with it."""
        return call("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh",
                    *words)

    def test_without_fuse(self):
        image = self.image()
        before = digest(image)
        for script, text in (
                ("mount -t tmpfs none /dev && exec \"$@\"", "/dev/fuse: is not there"),
                ("mount --bind /dev/null /dev/fuse && exec \"$@\"", "FUSE refused")):
            done = self.in_a_world_of_its_own(script, SPILLWAY, "mount", "--ram", "8M", image,
                                              self.mountpoint)
            if "unshare" in done.stderr or "mount:" in done.stderr.replace("spillway: mount", ""):
                self.skipTest("no mount namespaces here: " + done.stderr.strip())
            self.assertEqual(done.returncode, 125, done.stderr)
            self.assertIn(text, done.stderr)
            if "not there" in text:
                self.assertEqual(digest(image), before)
        # It was opened before, and is closed again.
        self.assertEqual(call("/sbin/e2fsck", "-n", image).stdout.count("clean"), 1)
        self.served(image, "--ram", "8M").unmount()

    def as_nobody(self, *words):
        return call("setpriv", f"--reuid={nobody()}", f"--regid={nobody()}", "--clear-groups",
                    *words)

    @unittest.skipIf(nobody() is None or shutil.which("setpriv") is None, "no user nobody")
    def test_an_ordinary_user(self):
        for path in (self.folder, self.mountpoint):
            os.chown(path, nobody(), -1)
        image = self.image()
        os.chmod(image, 0o600)
        program = self.path("spillway")
        shutil.copyfile(SPILLWAY, program)
        os.chmod(program, 0o755)
        if self.as_nobody(program, "--version").returncode != 0:
            self.skipTest("nobody cannot run programs here")
        done = self.as_nobody(program, "mount", "--ram", "8M", image, self.mountpoint)
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (125, 1), done.stderr)
        self.assertRegex(done.stderr, "cannot be opened|may not be written")
        os.chown(image, nobody(), -1)
        before = digest(image)
        done = self.as_nobody(program, "mount", "--ram", "8M", image, self.mountpoint)
        reaches = stat.S_IMODE(os.stat("/dev/fuse").st_mode) & 0o006 == 0o006
        if not reaches or shutil.which("fusermount3") is None:
            self.assertEqual(done.returncode, 125, done.stderr)
            self.assertRegex(done.stderr, "/dev/fuse|fusermount3")
            self.assertFalse(os.path.ismount(self.mountpoint))
            self.assertEqual(digest(image), before)
            self.assertEqual(call("/sbin/e2fsck", "-fn", image).returncode, 0)
            return
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(call, "umount", "-l", self.mountpoint)
        self.assertEqual(self.as_nobody("touch", os.path.join(self.mountpoint, "f")).returncode, 1)
        self.assertEqual(self.as_nobody("fusermount3", "-u", self.mountpoint).returncode, 0)

    @unittest.skipIf(nobody() is None or shutil.which("setpriv") is None, "no user nobody")
    def test_an_ordinary_user_without_fusermount3(self):
        tree = self.path("tree")
        os.mkdir(tree)
        for path in (self.folder, self.mountpoint, tree):
            os.chown(path, nobody(), -1)
        program = self.path("spillway")
        shutil.copyfile(SPILLWAY, program)
        os.chmod(program, 0o755)
        script = ("for f in /usr/bin/fusermount3 /bin/fusermount3; do "
                  "[ -e $f ] && mount --bind /dev/null $f; done; "
                  f"exec setpriv --reuid={nobody()} --regid={nobody()} --clear-groups \"$@\"")
        done = self.in_a_world_of_its_own(script, program, "mount", "--ram", "8M", tree,
                                          self.mountpoint)
        if "unshare" in done.stderr:
            self.skipTest("no mount namespaces here: " + done.stderr.strip())
        self.assertEqual(done.returncode, 125, done.stderr)
        self.assertRegex(done.stderr, "fusermount3.*install the package fuse3")


if __name__ == "__main__":
    if fuse_obstacle() is not None:
        print("skipped:", fuse_obstacle())
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
