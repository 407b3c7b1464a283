"""Runs of operations: drawn from a seed or read from a file, recorded, judged, and shortened."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TextIO

from tests.soak.judges import faults
from tests.soak.operations import OPERATIONS, Arguments, draw
from tests.soak.world import World

Step = tuple[str, Arguments]


@dataclass
class Outcome:
    """A run: what was done, and what did not hold after the last of it."""

    steps: list[Step]
    found: list[str]
    responses: int = 0
    log: str = ""  # of the last cluster


def drawn(seed: int, minutes: float) -> Iterator[Step]:
    """Operations for so long; the same ones for the same seed."""
    random, until = Random(seed), time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        yield draw(random)


def dump(step: Step) -> str:
    name, arguments = step
    return json.dumps({"operation": name, **arguments})


def load(file: Path) -> list[Step]:
    """The operations of a recorded run, a JSON object each line."""
    steps = [json.loads(line) for line in file.read_text().splitlines()]
    return [(step.pop("operation"), step) for step in steps]


def run(steps: Iterable[Step], record: TextIO | None = None) -> Outcome:
    """Do one after another on a fresh cluster, and end with a stop; up to what does not hold."""
    outcome = Outcome([], [])
    world = World()
    try:
        for step in steps:
            name, arguments = step
            outcome.steps.append(step)
            if record is not None:
                print(dump(step), file=record, flush=True)
            outcome.found = _judged(world, name, arguments)
            if outcome.found:
                return outcome
        outcome.steps.append(LAST)
        outcome.found = _judged(world, *LAST)
        return outcome
    finally:
        outcome.responses, outcome.log = world.load.responses, world.server.log()
        world.dispose()


LAST: Step = ("stop_and_start", {})  # so that the end of each run is judged, too


def _judged(world: World, name: str, arguments: Arguments) -> list[str]:
    try:
        OPERATIONS[name].act(world, **arguments)
        return faults(world.observe(name))
    except (OSError, AssertionError) as error:
        return [f"{name}: {error!r}"]


def shorten(
    steps: Sequence[Step], fails: Callable[[Sequence[Step]], bool], tries: int = 30
) -> list[Step]:
    """The steps without those that the failure does not need: halves first, then single ones.

    A fault that comes by chance may keep more of them than it needs: at most `tries` runs.
    """
    kept, size = list(steps), max(1, len(steps) // 2)
    while tries > 0:
        start, dropped = 0, False
        while start < len(kept) and tries > 0:
            candidate = kept[:start] + kept[start + size :]
            tries -= 1
            if candidate and fails(candidate):
                kept, dropped = candidate, True
            else:
                start += size
        if size == 1 and not dropped:
            break
        size = max(1, size // 2)
    return kept
