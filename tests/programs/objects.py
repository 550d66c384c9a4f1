#!/usr/bin/env python3
"""A heap of small Python objects, about 350 MB by default, built, scanned and verified.

The kind of program that containers kill: three quarters of a million dicts, each holding
integers, a string and a tuple. Every value is a function of the record's number, so a lost,
swapped or zeroed page cannot go unnoticed. Exit code 0 only if every value is right; the last
line says what was checked.

    objects.py [--count N] [--lookups N] [--seed N]
"""

import argparse
import random
import sys


def mix(number):
    """A 32-bit scramble (the finaliser of MurmurHash3): neighbours share no digits."""
    number &= 0xFFFFFFFF
    number ^= number >> 16
    number = (number * 0x85EBCA6B) & 0xFFFFFFFF
    number ^= number >> 13
    number = (number * 0xC2B2AE35) & 0xFFFFFFFF
    return number ^ (number >> 16)


def make_record(number):
    scrambled = mix(number)
    return {"id": number, "key": scrambled, "name": f"record-{number:08d}",
            "pair": (number ^ 0x5A5A, scrambled & 0xFFFF)}


def is_right(record, number):
    scrambled = mix(number)
    return (len(record) == 4 and record["id"] == number and record["key"] == scrambled
            and record["name"] == f"record-{number:08d}"
            and record["pair"] == (number ^ 0x5A5A, scrambled & 0xFFFF))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=750_000, help="records to build")
    parser.add_argument("--lookups", type=int, help="random look-ups (default: count / 20)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    lookups = args.count // 20 if args.lookups is None else args.lookups

    records = [make_record(number) for number in range(args.count)]
    total = sum(record["id"] for record in records)
    wrong = 0 if total == args.count * (args.count - 1) // 2 else 1
    wrong += sum(not is_right(record, number) for number, record in enumerate(records))
    chooser = random.Random(args.seed)
    for _ in range(lookups):
        number = chooser.randrange(args.count)
        wrong += not is_right(records[number], number)
    print(f"objects: {args.count} records, scanned, all verified, {lookups} looked up: "
          f"{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
