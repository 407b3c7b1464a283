"""A second of each target, always the same one: what the script does for minutes."""

from random import Random

import pytest
import uvloop

from tests.fuzz.arena import Arena
from tests.fuzz.targets import TARGETS

ROUNDS = 150


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_damaged_does_damage(name: str, seed: int) -> None:
    async def test() -> None:
        arena, random = Arena(), Random(seed)
        with arena.listening():
            for _ in range(ROUNDS):
                await arena.round(random, TARGETS[name])
        assert arena.count == 2 * ROUNDS

    uvloop.run(test())


def test_what_is_not_damaged_is_answered() -> None:
    """The arena itself works: whole streams of each target bring no failure."""

    async def test() -> None:
        arena = Arena()
        with arena.listening():
            for target in TARGETS.values():
                for data in target.corpus:
                    await arena.fight(target, [target.begin + data])
        assert arena.server.answers[2] > 50

    uvloop.run(test())
