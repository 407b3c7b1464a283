"""`python -m tests.fuzz [--minutes M] [--seed N] [TARGET …]`, or `--replay FILE` of a failure.

Exit status 1: something was found, and is written down. Memory is measured after a tenth of the
time and at the end; a stream that takes longer than any should ends the run with a traceback.
"""

import argparse
import faulthandler
import sys
import tempfile
import time
from pathlib import Path
from random import Random

import uvloop

from tests.fuzz.arena import Arena, Failure
from tests.fuzz.targets import TARGETS

HANG = 20  # seconds that one stream may take
BLOCKS = 3000  # of memory that may be more at the end; a stream that left one each would be seen
BYTES = 32 * 1024 * 1024  # that the process may have grown by


def rss() -> int:
    """Bytes of memory that the process has (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def attack(names: list[str], minutes: float, seed: int) -> int:
    """Until the time is over; the number of streams."""
    random, arena = Random(seed), Arena()
    began = told = time.monotonic()
    until = began + 60 * minutes
    blocks = size = 0
    with arena.listening():
        while (now := time.monotonic()) < until:
            faulthandler.dump_traceback_later(HANG, exit=True)
            for _ in range(50):
                await arena.round(random, TARGETS[random.choice(names)])
            if not blocks and now > began + 6 * minutes:
                blocks, size = arena.blocks(), rss()
            if now > told + 10:
                told = now
                print(f"{arena.count} streams, {rss() >> 20} MiB", flush=True)
        faulthandler.cancel_dump_traceback_later()
        more, grown = arena.blocks() - blocks, rss() - size
    print(f"{arena.count} streams, {more} blocks and {grown >> 10} KiB more than at first")
    assert more < BLOCKS, "memory grows: blocks"
    assert grown < BYTES, "memory grows: bytes"
    return arena.count


async def again(written: str) -> None:
    """One failure, as it was written down."""
    name, *lines = written.splitlines()
    arena = Arena()
    with arena.listening():
        print(await arena.fight(TARGETS[name], [bytes.fromhex(line) for line in lines]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--replay", type=Path)
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(unknown)}")
    if options.replay:
        uvloop.run(again(options.replay.read_text()))
        return 0
    print(f"seed {options.seed}", flush=True)
    try:
        uvloop.run(attack(options.targets or list(TARGETS), options.minutes, options.seed))
    except Failure as failure:
        with tempfile.NamedTemporaryFile("w", prefix="fuzz-", delete=False) as file:
            pieces = [piece.hex() for piece in failure.pieces]
            file.write("\n".join([failure.target.name, *pieces]))
        print(f"{failure.target.name}: {failure}\n{b''.join(failure.pieces)[:2000]!r}")
        print(f"again: python -m tests.fuzz --replay {file.name}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
