"""A B A B: every side has a turn in every round, and is started afresh for it.

So what the machine does meanwhile hits all sides alike, and no side has the warmer server.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from clusterd.bench.ladders import Plan
from clusterd.bench.load import Load
from clusterd.bench.results import Side, Turn
from clusterd.core.errors import ClusterdError

Take = Callable[[int, Load], Turn]  # a turn in a round, under a load


@dataclass(frozen=True, slots=True)
class Contestant:
    """A side, and how to have it serve: from entering to leaving what `serve` gives."""

    side: Side
    serve: Callable[[], AbstractContextManager[Take]]
    plan: Plan


@dataclass(slots=True)
class Played:
    """What came of it."""

    turns: list[Turn] = field(default_factory=list)
    failures: list[tuple[str, ClusterdError]] = field(default_factory=list)  # by side
    interrupted: bool = False

    def of(self, side: str, rounds: int) -> list[list[Turn]]:
        """A side's turns, by round."""
        return [
            [turn for turn in self.turns if turn.side == side and turn.round == number]
            for number in range(1, rounds + 1)
        ]


def play(
    contestants: Sequence[Contestant],
    rounds: int,
    *,
    stopped: Callable[[], bool],
    between: Callable[[int], None] = lambda _: None,
    done: Callable[[Turn], None] = lambda _: None,
) -> Played:
    """All rounds; `between` is called before each with its number, `done` after each turn.

    A side whose server does not come up, or cannot be measured, is left out from then on. A
    KeyboardInterrupt ends all, and what was measured until then is the result.
    """
    played = Played()
    try:
        for number in range(1, rounds + 1):
            out = {side for side, _ in played.failures}
            left = [one for one in contestants if one.side.name not in out]
            if not left or stopped():
                break
            between(number)
            for one in left:
                _turns(one, number, played, stopped, done)
                if stopped():
                    break
    except KeyboardInterrupt:
        played.interrupted = True
    played.interrupted = played.interrupted or stopped()
    return played


def _turns(
    one: Contestant,
    number: int,
    played: Played,
    stopped: Callable[[], bool],
    done: Callable[[Turn], None],
) -> None:
    """The turns of one side in one round. One that ended early is its last."""
    own: list[Turn] = []
    try:
        with one.serve() as take:
            while not stopped() and (load := one.plan.next(own)) is not None:
                turn = take(number, load)
                own.append(turn)
                played.turns.append(turn)
                done(turn)
                if turn.partial:
                    break
    except ClusterdError as error:
        played.failures.append((one.side.name, error))
