"""One process of the bare spin: for each line on stdin, seconds, it spins so long and prints what
it managed. `python -m clusterd.bench.spinner [CPU …]`

Apart from `bench.spin`, which imports more than so many processes should have to.
"""

import os
import sys
import time

CHUNK = 10_000  # counts between two looks at the clock

Sample = tuple[float, float]  # counts a second of wall time, and a second of CPU time


def count(seconds: float) -> Sample:
    """Spin for so long; how much was counted a second of wall and of CPU time."""
    counted = 0
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        for _ in range(CHUNK):
            pass
        counted += CHUNK
    return (
        counted / (time.perf_counter() - began),
        counted / max(time.process_time() - used, 1e-9),
    )


def main() -> None:
    """One process: says an empty line once it is there."""
    if cpus := [int(word) for word in sys.argv[1:]]:
        os.sched_setaffinity(0, cpus)
    print(flush=True)
    for line in sys.stdin:
        print(*count(float(line)), flush=True)


if __name__ == "__main__":
    main()
