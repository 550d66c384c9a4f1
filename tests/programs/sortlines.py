#!/usr/bin/env python3
"""Writes a deterministic file of unsorted text lines, for `sort -S 400M` and `sort -c`.

Two million lines of about 58 bytes (116 MB) by default, in about two seconds. Same arguments,
same bytes: a sorted result can be compared between runs by checksum.

    sortlines.py [--lines N] [--seed N] FILE
"""

import argparse
import sys

LINES_PER_WRITE = 20_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("file", help="where to write; - for standard output")
    args = parser.parse_args()

    # A 64-bit linear congruential generator (Knuth's MMIX constants): its high bits are random
    # enough to unsort a file, and one multiplication a line keeps this fast in plain Python.
    state = args.seed
    out = sys.stdout.buffer if args.file == "-" else open(args.file, "wb")
    with out:
        for start in range(0, args.lines, LINES_PER_WRITE):
            batch = []
            for number in range(start, min(start + LINES_PER_WRITE, args.lines)):
                state = (state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
                batch.append(f"{state >> 16:012x} line {number:08d} of a file that wants order\n")
            out.write("".join(batch).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
