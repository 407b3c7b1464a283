"""Give each worker random numbers of its own.

Workers are copies of one image: without this, all workers of a generation would draw the same
"random" session keys and jitter. CPython reseeds the functions of `random` after `os.fork`, but a
worker may be born in other ways; nothing reseeds numpy's generators or instances of `Random`.

A generator that was given a seed keeps it: its numbers are the same in all workers on purpose, as
they would be if each worker imported for itself. So the import is watched for seeds.
"""

import gc
import random
import sys
import weakref
from types import FrameType
from typing import Any, Self

from clusterd.kernel.observed import Observed

ENTROPY = 128  # bits that numpy asks for where it is given no seed

# What imports of this process made without a seed; the process's own, as the generators are.
_instances: list[weakref.ref[random.Random]] = []
_bit_generators: list[Any] = []  # numpy's: the part of a Generator or RandomState with the state


def reseed() -> None:
    """Seed anew the functions of `random` and `numpy.random`, and what a `Watch` has found."""
    random.seed()
    for reference in _instances:
        if (instance := reference()) is not None:
            random.Random.seed(instance)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    for each in _bit_generators:
        each.state = type(each)().state


class Watch:
    """While used as a context manager, find the generators that are made without a seed."""

    def __init__(self) -> None:
        self._unseeded: dict[int, weakref.ref[random.Random]] = {}
        self._entropy: set[int] = set()
        self._seed: Any = random.Random.seed
        # numpy keeps a bound method of it, and remembers what it returned.
        self._drawn = Observed(random.SystemRandom.getrandbits, self._note)

    def __enter__(self) -> Self:
        self._drawn.__enter__()
        random.Random.seed = self._watched()  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        random.Random.seed = self._seed  # type: ignore[method-assign]
        self._drawn.__exit__()
        _instances.extend(self._unseeded.values())
        if self._entropy:
            _bit_generators.extend(_unseeded(self._entropy))
        self._unseeded.clear()
        self._entropy.clear()

    def _note(self, drawn: int, _: FrameType | None) -> None:
        if drawn.bit_length() > ENTROPY // 2:
            self._entropy.add(drawn)

    def _watched(self) -> Any:
        seed, unseeded = self._seed, self._unseeded

        # Its name and arguments, since a bound method of it may be kept: then it only seeds.
        def watched(self: random.Random, a: Any = None, version: int = 2) -> None:
            seed(self, a, version)
            if a is None:
                unseeded[id(self)] = weakref.ref(self)
            else:
                unseeded.pop(id(self), None)

        watched.__name__, watched.__qualname__ = "seed", "Random.seed"
        return watched


def _unseeded(entropy: set[int]) -> list[Any]:
    """Return the living BitGenerators whose seed is one of these numbers."""
    numpy: Any = sys.modules.get("numpy.random")
    base = getattr(numpy, "BitGenerator", None)
    if base is None:
        return []
    # Most imports make no other than numpy's own, which `reseed` knows: spare them the search.
    mine = getattr(numpy.get_state.__self__, "_bit_generator", None)
    entropy -= {getattr(getattr(mine, "seed_seq", None), "entropy", None)}
    if not entropy:
        return []
    kinds = _subclasses(base)
    made = [each for each in gc.get_objects() if type(each) in kinds]
    return [each for each in made if getattr(each.seed_seq, "entropy", None) in entropy]


def _subclasses(kind: type) -> set[type]:
    """Return all classes below this one."""
    below: set[type] = set(kind.__subclasses__())
    return below.union(*(_subclasses(each) for each in below))
