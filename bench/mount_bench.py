#!/usr/bin/env python3
"""`spillway mount` against Debian's fuse2fs: the same image, the same work, in one run.

usage: bench/mount_bench.py [--quick] [--spillway PATH] [--rounds N] [--files N] [--megabytes N]
                            [--ram SIZE] [--json FILE]

An image is made by `mke2fs -d` of a generated source tree with one large file. In each round both
servers take turns; each serves a fresh copy of the image. Cold: the mount is new and the image was
dropped from the host's page cache. Warm: the same again. What makes files comes last, and its time
includes the unmounting that stores them. Medians over the rounds; ratio = fuse2fs / spillway, so
above 1 Spillway is faster.

Both keep the kernel's caches of names and attributes for one second, and pages of files between
opens, so a warm figure also tells what those do. Needs root, fuse2fs, mke2fs and /dev/fuse.

--quick: a smaller tree, less than a minute, a part of `make bench`. Where what it needs is missing,
it says so and is left out.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ENGINES = ("spillway", "fuse2fs")


def run(*words, **more):
    return subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          **more)


def make_tree(root, files, megabytes):
    """Folders of some forty small text files each, as sources are, and one large file."""
    rng = random.Random(7)
    words = ["static", "struct", "return", "page", "inode", "cache", "lookup", "u64", "Status",
             "(", ")", "{", "}", ";", "->", "buffer", "dentry", "if", "for", "while"]
    for i in range(files):
        folder = os.path.join(root, f"d{i // 400:03}", f"s{i // 40 % 10}")
        os.makedirs(folder, exist_ok=True)
        lines = (" ".join(rng.choices(words, k=10)) for _ in range(rng.choice((5, 40, 120, 400))))
        with open(os.path.join(folder, f"source_{i}.cc"), "w", encoding="ascii") as file:
            file.write("\n".join(lines))
    with open(os.path.join(root, "large"), "wb") as file:
        for _ in range(megabytes):
            file.write(rng.randbytes(1 << 20))


def work_find(root):
    run("find", root, "-name", "nothing")


def work_stat(root):
    """As `git status`: lstat of every file, by path."""
    for folder, _, names in os.walk(root):
        for name in names:
            os.lstat(os.path.join(folder, name))


def work_grep(root):
    subprocess.run(["grep", "-r", "-c", "--exclude=large", "needle in this haystack", root],
                   check=False, stdout=subprocess.DEVNULL)


def work_tar(root):
    # tar notices /dev/null and would not read; cat is no such file.
    run("sh", "-c", 'tar c --exclude=./large -C "$1" . | cat > /dev/null', "sh", root)


def work_sequential(root):
    with open(os.path.join(root, "large"), "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


READS = (("find", work_find), ("stat storm", work_stat), ("grep -r", work_grep),
         ("tar c", work_tar), ("sequential read", work_sequential))


def work_create(root):
    folder = os.path.join(root, "created")
    os.mkdir(folder)
    for i in range(2000):
        fd = os.open(os.path.join(folder, str(i)), os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"x" * 3000)
        os.close(fd)


def work_unlink(root):
    folder = os.path.join(root, "created")
    for i in range(2000):
        os.unlink(os.path.join(folder, str(i)))
    os.rmdir(folder)


class Mount:
    def __init__(self, engine, args, image, mountpoint):
        self.image = image
        self.mountpoint = mountpoint
        if engine == "spillway":
            words = [args.spillway, "mount", "-f", "-v", "--ram", args.ram, image, mountpoint]
        else:
            words = ["fuse2fs", "-f", "-o", "rw,entry_timeout=1,attr_timeout=1", image, mountpoint]
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        while not os.path.ismount(mountpoint):
            if self.process.poll() is not None:
                raise RuntimeError(f"{engine} ended: {words}")
            time.sleep(0.01)

    def peak_rss(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) / 1024
        return 0

    def finish(self):
        run("umount", self.mountpoint)
        self.process.wait(timeout=300)

    def abandon(self):
        if self.process.poll() is None:
            subprocess.run(["umount", "-l", self.mountpoint], check=False,
                           stderr=subprocess.DEVNULL)
            self.process.kill()
            self.process.wait()


def drop_from_cache(path):
    os.sync()
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def timed(work, *args):
    started = time.monotonic()
    work(*args)
    return time.monotonic() - started


def one_turn(engine, args, master, folder, times):
    image = os.path.join(folder, "image")
    mountpoint = os.path.join(folder, "mnt")
    shutil.copyfile(master, image)
    mount = None
    try:
        for name, work in READS:
            drop_from_cache(image)
            mount = Mount(engine, args, image, mountpoint)
            times.setdefault((name, "cold", engine), []).append(timed(work, mountpoint))
            times.setdefault((name, "warm", engine), []).append(timed(work, mountpoint))
            mount.finish()
        mount = Mount(engine, args, image, mountpoint)
        times.setdefault(("create 2,000", "", engine), []).append(timed(work_create, mountpoint))
        times.setdefault(("unlink 2,000", "", engine), []).append(
            timed(work_unlink, mountpoint) + timed(mount.finish))
        mount = Mount(engine, args, image, mountpoint)
        for _, work in READS:
            work(mountpoint)
        times.setdefault(("peak RSS, MiB", "", engine), []).append(mount.peak_rss())
        mount.finish()
        run("/sbin/e2fsck", "-fn", image)
    finally:
        if mount is not None:
            mount.abandon()
        os.unlink(image)


def table(times):
    out = ["| work | | Spillway, s | fuse2fs, s | ratio |", "|---|---|---|---|---|"]
    for name, state in dict.fromkeys((name, state) for name, state, _ in times):
        ours, theirs = (statistics.median(times[name, state, e]) for e in ENGINES)
        digits = 1 if name.startswith("peak") else 3
        out.append(f"| {name} | {state} | {ours:.{digits}f} | {theirs:.{digits}f} "
                   f"| {theirs / ours:.2f} |")
    return "\n".join(out)


def what_is_missing(args):
    if os.geteuid() != 0:
        return "needs root to mount"
    for needed in ("/dev/fuse", "/sbin/mke2fs", shutil.which("fuse2fs") or "fuse2fs"):
        if not os.path.exists(needed):
            return f"{needed} is missing"
    if not os.access(args.spillway, os.X_OK):
        return f"no spillway command at {args.spillway}: run `make build` first"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spillway", default=os.path.join(ROOT, "build/bin/spillway"))
    parser.add_argument("--quick", action="store_true", help="a smaller tree")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int)
    parser.add_argument("--megabytes", type=int)
    parser.add_argument("--ram", default="64M")
    parser.add_argument("--json")
    args = parser.parse_args()
    args.files = args.files or (3_000 if args.quick else 10_000)
    args.megabytes = args.megabytes or (64 if args.quick else 200)
    missing = what_is_missing(args)
    if missing:
        print(f"mount_bench: {missing}{': left out' if args.quick else ''}", file=sys.stderr)
        sys.exit(0 if args.quick else 1)
    folder = tempfile.mkdtemp(prefix="spillway-bench-")
    try:
        tree = os.path.join(folder, "tree")
        os.makedirs(tree)
        os.mkdir(os.path.join(folder, "mnt"))
        make_tree(tree, args.files, args.megabytes)
        master = os.path.join(folder, "master")
        run("/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, master,
            f"{args.megabytes * 2 + args.files // 50}M")
        shutil.rmtree(tree)
        times = {}
        for number in range(args.rounds):
            for engine in ENGINES if number % 2 == 0 else reversed(ENGINES):
                one_turn(engine, args, master, folder, times)
                print(f"round {number + 1}: {engine} done", file=sys.stderr)
        print(table(times))
        if args.json:
            with open(args.json, "w", encoding="ascii") as file:
                json.dump({" ".join(key): values for key, values in times.items()}, file, indent=1)
    finally:
        subprocess.run(["umount", "-l", os.path.join(folder, "mnt")], check=False,
                       stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
