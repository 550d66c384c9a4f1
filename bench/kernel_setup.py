"""Memory cgroups, zram devices and swap files that are always undone.

Used by bench/run and tools/demo. Everything is created through an `Undo` stack, which takes it
down in reverse order when the program ends: normally, by an exception, or by SIGINT, SIGTERM and
SIGHUP. Only SIGKILL can leave something behind; names carry the owner's process id, and
`remove_leftovers` (called first) takes down what dead owners left.

Nothing here touches what it did not make: cgroups are our own children, zram devices are added
with hot_add, and swap is enabled on our own device or file only.
"""

import atexit
import os
import re
import shutil
import signal
import subprocess
import sys
import time

NAME = "spillway-measure"
CGROUP_V1 = "/sys/fs/cgroup/memory"
CGROUP_V2_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
ZRAM_CONTROL = "/sys/class/zram-control"


class Missing(Exception):
    """This machine lacks something; the text says what, and what to do."""


def read_text(path):
    with open(path) as file:
        return file.read().strip()


def write_text(path, value):
    with open(path, "w") as file:
        file.write(str(value))


class Undo:
    """A stack of clean-up calls that runs exactly once, whatever ends the program."""

    def __init__(self):
        self.calls = []
        self.owner = os.getpid()
        atexit.register(self.run)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # SystemExit unwinds through `finally` blocks and ends in atexit.
            signal.signal(number, lambda caught, _frame: sys.exit(128 + caught))

    def push(self, call, *args):
        self.calls.append((call, args))

    def run(self):
        if os.getpid() != self.owner:
            return  # a forked child must not undo what its parent still uses
        # A second Ctrl-C must not stop the undoing half way.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while self.calls:
            call, args = self.calls.pop()
            try:
                call(*args)
            except Exception as error:  # go on: the others must be undone too
                print(f"could not undo {call.__qualname__}{args}: {error}", file=sys.stderr)


class MemoryGroup:
    """A memory cgroup (v1 or v2) of our own, empty and without limits until asked."""

    def __init__(self, undo, label):
        self.version, parent = find_memory_controller()
        self.path = os.path.join(parent, f"{NAME}-{os.getpid()}-{label}")
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise Missing(f"cannot make a memory cgroup in {parent} ({error.strerror}): run as "
                          "root, outside a container or in one that may manage cgroups") from error
        undo.push(self.remove)

    def file(self, v1, v2):
        return os.path.join(self.path, v1 if self.version == 1 else v2)

    def limit(self, limit_bytes, swap):
        """Allows `limit_bytes` of RAM. Without `swap`, nothing goes to swap: excess is killed."""
        write_text(self.file("memory.limit_in_bytes", "memory.max"), limit_bytes)
        if not swap:
            path = self.file("memory.memsw.limit_in_bytes", "memory.swap.max")
            if os.path.exists(path):
                write_text(path, limit_bytes if self.version == 1 else 0)
        elif self.version == 1:
            # Anonymous memory is all there is to reclaim here; say so plainly.
            write_text(os.path.join(self.path, "memory.swappiness"), 100)

    def wrap(self, command):
        """`command` so that it enters the group before it runs a line of the program."""
        procs = os.path.join(self.path, "cgroup.procs")
        return ["/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', procs, *command]

    def peak_bytes(self):
        path = self.file("memory.max_usage_in_bytes", "memory.peak")
        return int(read_text(path)) if os.path.exists(path) else None

    def usage_bytes(self):
        return int(read_text(self.file("memory.usage_in_bytes", "memory.current")))

    def remove(self):
        remove_group(self.path)


def remove_group(path):
    """Ends what still runs in our own group, then removes it."""
    for _ in range(100):
        try:
            pids = [int(pid) for pid in read_text(os.path.join(path, "cgroup.procs")).split()]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except (OSError, ProcessLookupError):
            time.sleep(0.05)  # a killed process leaves its group a moment later
    os.rmdir(path)


def find_memory_controller():
    """(1 or 2, the directory in which a child group gets a memory controller)."""
    if os.path.exists(f"{CGROUP_V1}/memory.limit_in_bytes"):
        return 1, CGROUP_V1
    for mount in CGROUP_V2_MOUNTS:
        try:
            if "memory" in read_text(f"{mount}/cgroup.subtree_control").split():
                return 2, mount
        except OSError:
            continue
    raise Missing("no memory cgroup controller: mount cgroup v1 memory at /sys/fs/cgroup/memory, "
                  "or enable it with: echo +memory > /sys/fs/cgroup/cgroup.subtree_control")


class Swap:
    """Swap space that is off until `on()`, so that runs can take turns with other swap."""

    def __init__(self, path):
        self.path = path
        self.active = False

    def on(self):
        run_tool("swapon", "--priority", "100", self.path)
        self.active = True

    def off(self):
        if self.active:
            run_tool("swapoff", self.path)
            self.active = False


class FileSwap(Swap):
    def __init__(self, undo, directory, size_bytes):
        super().__init__(os.path.join(directory, f"{NAME}-{os.getpid()}.swap"))
        free = shutil.disk_usage(directory).free
        if free < size_bytes + (256 << 20):
            raise Missing(f"{directory} has {free >> 20} MB free, the swap file needs "
                          f"{size_bytes >> 20} MB and some air: choose another with --dir")
        undo.push(self.remove)
        with open(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        run_tool("mkswap", self.path)

    def remove(self):
        self.off()
        if os.path.exists(self.path):
            os.unlink(self.path)


class ZramSwap(Swap):
    def __init__(self, undo, algorithm, size_bytes):
        if not os.path.isdir(ZRAM_CONTROL):
            subprocess.run(["modprobe", "zram"], check=False, stderr=subprocess.DEVNULL)
        try:
            self.number = int(read_text(f"{ZRAM_CONTROL}/hot_add"))
        except OSError as error:
            raise Missing("cannot add a zram device: needs root and the kernel's zram module "
                          f"({error.strerror})") from error
        super().__init__(f"/dev/zram{self.number}")
        undo.push(self.remove)
        self.sysfs = f"/sys/block/zram{self.number}"
        self.algorithm = algorithm
        if algorithm not in read_text(f"{self.sysfs}/comp_algorithm").replace("[", " ").replace(
                "]", " ").split():
            raise Missing(f"this kernel's zram has no {algorithm}")
        write_text(f"{self.sysfs}/comp_algorithm", algorithm)
        write_text(f"{self.sysfs}/disksize", size_bytes)
        # The label tells a later run whose device this was (see remove_leftovers).
        run_tool("mkswap", "--label", f"{NAME[:8]}{os.getpid()}"[:15], self.path)

    def used_bytes(self):
        """RAM the device holds now, with its allocator's overhead: mem_used_total."""
        return int(read_text(f"{self.sysfs}/mm_stat").split()[2])

    def peak_bytes(self):
        """The most it has held since reset_peak(): mem_used_max."""
        return int(read_text(f"{self.sysfs}/mm_stat").split()[4])

    def reset_peak(self):
        write_text(f"{self.sysfs}/mem_used_max", 0)

    def remove(self):
        self.off()
        remove_zram(self.number)


def remove_zram(number):
    for _ in range(50):
        try:
            write_text(f"/sys/block/zram{number}/reset", 1)
            write_text(f"{ZRAM_CONTROL}/hot_remove", number)
            return
        except OSError:
            time.sleep(0.1)  # udev may still be looking at the new device
    write_text(f"{ZRAM_CONTROL}/hot_remove", number)


def run_tool(*command):
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          check=False)
    if done.returncode != 0:
        raise Missing(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


def is_alive(pid):
    """Whether the process still runs; one that only waits to be reaped does not."""
    try:
        return read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def remove_leftovers(swap_directories=()):
    """Takes down groups, swap files and zram swap whose owner was killed."""
    # Groups first: a program that still runs in one would be pulled out of swap page by page.
    for parent in (CGROUP_V1, *CGROUP_V2_MOUNTS):
        for name in os.listdir(parent) if os.path.isdir(parent) else []:
            owner = re.match(rf"{NAME}-(\d+)-", name)
            if owner and not is_alive(owner[1]):
                remove_group(os.path.join(parent, name))
    active = [line.split()[0] for line in read_text("/proc/swaps").splitlines()[1:]]
    for directory in swap_directories:
        for name in os.listdir(directory) if os.path.isdir(directory) else []:
            owner = re.fullmatch(rf"{NAME}-(\d+)\.swap", name)
            if owner and not is_alive(owner[1]):
                path = os.path.join(directory, name)
                if os.path.realpath(path) in active:
                    run_tool("swapoff", path)
                os.unlink(path)
    for name in os.listdir("/sys/block"):
        if re.fullmatch(r"zram\d+", name) and read_text(f"/sys/block/{name}/disksize") != "0":
            remove_zram_of_dead_owner(f"/dev/{name}", active)


def remove_zram_of_dead_owner(path, active):
    label = subprocess.run(["swaplabel", path], stdout=subprocess.PIPE, text=True, check=False,
                           stderr=subprocess.DEVNULL).stdout
    owner = re.search(rf"LABEL:\s*{NAME[:8]}(\d+)", label)
    if owner and not is_alive(owner[1]):
        if path in active:
            run_tool("swapoff", path)
        remove_zram(int(path[len("/dev/zram"):]))
