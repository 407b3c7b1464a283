"""Draw the changes of a run. The same seed and the same sources give the same changes."""

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from tests.mutation.mutations import Mutation, changes, find


@dataclass(frozen=True)
class Mutant:
    """A change of a file, whose path begins with `clusterd/`."""

    path: str
    mutation: Mutation

    @property
    def place(self) -> str:
        return f"{self.path}:{self.mutation.line}"


def package(path: str) -> str:
    """Return the package of a file, or its own name where it stands right in clusterd/."""
    return path.split("/")[1].removesuffix(".py")


def shares(lines: Mapping[str, int], count: int) -> dict[str, int]:
    """Divide a count among packages by their lines, by largest remainder."""
    total = sum(lines.values())
    exact = {name: count * size / total for name, size in lines.items()}
    given = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (given[name] - exact[name], name))
    for name in by_remainder[: count - sum(given.values())]:
        given[name] += 1
    return given


def draw(sources: Mapping[str, bytes], seed: int, count: int) -> list[Mutant]:
    """Return a sample spread over the packages by their lines.

    Within a package each kind of change has the same chance, and each change of a kind: else half
    of a sample would be constants and calls. A package with fewer changes gives what it has.
    """
    rng = random.Random(seed)
    lines: dict[str, int] = defaultdict(int)
    found: dict[str, dict[str, list[Mutant]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(sources):
        lines[package(path)] += sources[path].count(b"\n")
        for mutation in find(sources[path]):
            found[package(path)][mutation.kind].append(Mutant(path, mutation))
    drawn = []
    for name, wanted in sorted(shares(lines, count).items()):
        kinds = found[name]
        while wanted and kinds:
            kind = rng.choice(sorted(kinds))
            mutant = kinds[kind].pop(rng.randrange(len(kinds[kind])))
            if not kinds[kind]:
                del kinds[kind]
            if changes(sources[mutant.path], mutant.mutation):
                drawn.append(mutant)
                wanted -= 1
    return drawn
