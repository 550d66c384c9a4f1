#!/usr/bin/env python3
"""CPU masks under memory pressure.

Touches more than fits in random order, which makes a memory manager that serves faults in this
process busy, and meanwhile asks for CPU masks: this thread's own, a new thread's, a new process's.
All must have every CPU that the program started with. Exit code 0 only then.
"""

import os
import random
import subprocess
import sys
import threading

PAGES = 40_000
CHILD = "import os; print(len(os.sched_getaffinity(0)))"


def main():
    cpus = len(os.sched_getaffinity(0))
    pages = [bytearray(os.urandom(1024) + bytes(3072)) for _ in range(PAGES)]
    chooser = random.Random(1)
    wrong = 0
    for turn in range(60):
        for _ in range(800):
            page = pages[chooser.randrange(PAGES)]
            page[5] = (page[5] + 1) & 255
        seen = []
        thread = threading.Thread(target=lambda: seen.append(
            len(os.sched_getaffinity(threading.get_native_id()))))
        thread.start()
        thread.join()
        if turn % 10 == 0:
            out = subprocess.run([sys.executable, "-S", "-c", CHILD], capture_output=True,
                                 text=True, check=True).stdout
            seen.append(int(out))
        seen.append(len(os.sched_getaffinity(0)))
        wrong += sum(count != cpus for count in seen)
    print(f"affinity: {cpus} CPUs, {wrong} wrong masks")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
