"""What is known of a run, kept in a file after each step, so that a run can be resumed."""

import difflib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.mutation.draw import Mutant
from tests.mutation.mutations import Mutation, find


@dataclass
class Outcome:
    mutant: Mutant
    diff: str
    near: bool = False  # the unit tests have run
    far: bool = False  # the tests with real processes, too
    noticed: str = ""  # by which test
    equivalent: str = ""  # why no test could notice; written by hand
    lost: bool = False  # the source has changed since, and has no such place

    @property
    def survived(self) -> bool:
        return not (self.noticed or self.equivalent or self.lost)


@dataclass
class Record:
    path: Path
    outcomes: list[Outcome] = field(default_factory=list)

    def save(self) -> None:
        text = json.dumps([asdict(outcome) for outcome in self.outcomes], indent=1)
        beside = self.path.with_suffix(".new")
        beside.write_text(f"{text}\n")
        beside.replace(self.path)

    def load(self) -> None:
        self.outcomes = [_outcome(kept) for kept in json.loads(self.path.read_text())]

    def begin(self, mutants: list[Mutant], sources: dict[str, bytes]) -> None:
        self.outcomes = [Outcome(one, diff(sources[one.path], one.mutation)) for one in mutants]

    def follow(self, sources: dict[str, bytes]) -> None:
        """Find the places again where the sources have changed since they were drawn."""
        for outcome in self.outcomes:
            path, drawn = outcome.mutant.path, outcome.mutant.mutation
            source = sources.get(path, b"")
            if diff(source, drawn) == outcome.diff:
                continue
            alike = [one for one in find(source) if one.kind == drawn.kind]
            alike = [one for one in alike if diff(source, one) == outcome.diff]
            outcome.lost = not alike
            if alike:
                nearest = min(alike, key=lambda one: abs(one.line - drawn.line))
                outcome.mutant = Mutant(path, nearest)


def _outcome(kept: dict[str, Any]) -> Outcome:
    mutant = Mutant(kept["mutant"]["path"], Mutation(**kept["mutant"]["mutation"]))
    return Outcome(**{**kept, "mutant": mutant})


def diff(source: bytes, mutation: Mutation) -> str:
    """Return the lines that differ, as `-` and `+`."""
    texts = (source, mutation.apply(source))
    before, after = (text.decode("utf-8", "replace").splitlines() for text in texts)
    lines = difflib.unified_diff(before, after, lineterm="", n=0)
    return "\n".join(line for line in list(lines)[2:] if not line.startswith("@@"))


def summary(outcomes: list[Outcome]) -> str:
    """Return the survivors, those that count for nothing, and the score."""
    lines = []
    for outcome in outcomes:
        if outcome.survived:
            missing = "" if outcome.far else " (unit tests only)" if outcome.near else " (not run)"
            lines.append(f"{outcome.mutant.place}: survived{missing}\n{outcome.diff}")
    for outcome in outcomes:
        if outcome.equivalent or outcome.lost:
            why = f"equivalent: {outcome.equivalent}" if outcome.equivalent else "no longer there"
            lines.append(f"{outcome.mutant.place}: {why}")
    tried = [one for one in outcomes if one.near and not one.equivalent and not one.lost]
    noticed, counted = sum(bool(one.noticed) for one in tried), len(tried)
    if counted:
        lines.append(f"noticed {noticed} of {counted}: {100 * noticed / counted:.1f} %")
    return "\n".join(lines)
