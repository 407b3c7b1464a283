"""`python -m tests.soak [--seed N] [--minutes M]`, or `--replay FILE` of a run that failed.

Exit status 1: something did not hold. The operations that lead there are written down, and then
shortened: those are dropped without which it fails all the same.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.soak import drive

RUNS = 20  # to shorten a failure


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--replay", type=Path, help="operations as JSON lines")
    parser.add_argument("--shorten", type=int, default=RUNS, metavar="RUNS")
    chosen = parser.parse_args()
    what = f"seed {chosen.seed}"
    steps = drive.drawn(chosen.seed, chosen.minutes)
    if chosen.replay:
        what, steps = str(chosen.replay), iter(drive.load(chosen.replay))
    place = Path(tempfile.mkdtemp(prefix="clusterd-soak-"))
    with (place / "operations").open("w") as record:
        outcome = drive.run(steps, record)
    print(f"{what}: {len(outcome.steps)} operations, {outcome.responses} responses")
    if not outcome.found:
        return 0
    (place / "log").write_text(outcome.log)
    print("\n".join(outcome.found), f"\nin {place}/operations, and the log beside it", flush=True)

    def fails(steps: object) -> bool:
        found = drive.run(steps).found  # type: ignore[arg-type]
        print(f"{len(steps)} operations: {found or 'all holds'}", flush=True)  # type: ignore[arg-type]
        return bool(found)

    short = drive.shorten(outcome.steps, fails, chosen.shorten)
    (place / "short").write_text("".join(f"{drive.dump(step)}\n" for step in short))
    print(f"{len(short)} of them are enough: --replay {place}/short")
    return 1


if __name__ == "__main__":
    sys.exit(main())
