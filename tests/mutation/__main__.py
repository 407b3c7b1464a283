"""`python -m tests.mutation --seed N [--sample 120] [--package worker]`.

Makes a seeded sample of small changes to clusterd, one at a time in a copy of the tree, and runs
the tests that should notice. First the unit tests for all, then real processes for those that none
has noticed. Takes an hour or two for 120. Prints those that survive, and the score.

A run that was interrupted goes on where it was, also after the sources have changed: the record has
all that is known. To have a
survivor left out of the score, write into the record's `equivalent` why no test could notice it.
After new tests, `--again` runs the tests for the survivors once more.
"""

import argparse
import signal
import sys
from pathlib import Path

from tests.mutation import fitting
from tests.mutation.draw import draw, package
from tests.mutation.record import Outcome, Record, summary
from tests.mutation.trial import Copy, copied

ROOT = Path(__file__).parents[2]


def sources(root: Path, only: str | None) -> dict[str, bytes]:
    found = sorted((root / "clusterd").rglob("*.py"))
    texts = {str(path.relative_to(root)): path.read_bytes() for path in found}
    return {path: text for path, text in texts.items() if only in (None, package(path))}


def try_near(copy: Copy, outcome: Outcome) -> None:
    """Run the unit tests."""
    outcome.noticed = first_failure(copy, fitting.near(copy.root, outcome.mutant.path))
    outcome.near = True


def try_far(copy: Copy, outcome: Outcome) -> None:
    """Run the tests with real processes."""
    outcome.noticed = first_failure(copy, fitting.far(copy.root, outcome.mutant.path))
    outcome.far = True


def first_failure(copy: Copy, steps: list[list[str]]) -> str:
    """Return the test that fails, and fails again by itself: once could be a busy machine."""
    for tests in steps:
        if (failed := copy.run(tests)) and copy.run([failed] if "::" in failed else tests):
            return failed
    return ""


def fails_anyway(copy: Copy, failed: str) -> bool:
    """Return whether a test fails without any change, as where the machine has changed meanwhile:
    then it has noticed nothing."""
    return "::" in failed and all(copy.run([failed]) for _ in range(2))


def run(record: Record, copy: Copy, processes: bool) -> None:
    for attempt, done in ((try_near, "near"), (try_far, "far")):
        if attempt is try_far and not processes:
            break
        for number, outcome in enumerate(record.outcomes, 1):
            if outcome.survived and not getattr(outcome, done):
                with copy.changed(outcome.mutant):
                    attempt(copy, outcome)
                if fails_anyway(copy, outcome.noticed):
                    sys.exit(f"{outcome.noticed} fails without a change, too")
                record.save()
                verdict = outcome.noticed or "SURVIVED"
                print(f"{number}. {outcome.mutant.place} {verdict}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=int, default=120, metavar="N")
    parser.add_argument("--package", help="only this package of clusterd")
    parser.add_argument("--record", type=Path, help="default: mutation-SEED.json")
    parser.add_argument("--units-only", action="store_true", help="no tests with real processes")
    parser.add_argument("--again", action="store_true", help="run the tests for survivors again")
    chosen = parser.parse_args()
    record = Record(chosen.record or Path(f"mutation-{chosen.seed}.json"))
    texts = sources(ROOT, chosen.package)
    if record.path.exists():
        record.load()
        record.follow(texts)
    else:
        record.begin(draw(texts, chosen.seed, chosen.sample), texts)
    for outcome in record.outcomes:
        if chosen.again and outcome.survived:
            outcome.near = outcome.far = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and leave no copy and no process
    with copied(ROOT) as copy:
        run(record, copy, processes=not chosen.units_only)
    print(summary(record.outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
