"""A B A B, started afresh each time; what fails is left out, what is interrupted is kept."""

import contextlib
from collections.abc import Callable, Iterator

from clusterd.bench.errors import ServerFailed
from clusterd.bench.ladders import Fixed
from clusterd.bench.load import Load
from clusterd.bench.results import Side, Turn
from clusterd.bench.rounds import Contestant, Take, play

Measure = Callable[[str, int, Load], Turn]
LOADS = (Load(rate=1.0), Load(rate=2.0))


class Arena:
    """Sides that keep a diary. `measure` may raise, or return another turn."""

    def __init__(self, measure: Measure = lambda side, number, load: Turn(side, number, load)):
        self.diary: list[str] = []
        self.measure = measure

    def side(self, name: str, loads: tuple[Load, ...] = LOADS[:1]) -> Contestant:
        return Contestant(Side(name), lambda: self.serve(name), Fixed(loads))

    @contextlib.contextmanager
    def serve(self, name: str) -> Iterator[Take]:
        self.diary.append(f"start {name}")

        def take(number: int, load: Load) -> Turn:
            self.diary.append(f"{name}{number} at {load.rate:g}")
            return self.measure(name, number, load)

        try:
            yield take
        finally:
            self.diary.append(f"stop {name}")


def test_every_side_is_started_afresh_in_every_round() -> None:
    arena = Arena()
    seen: list[int] = []
    done: list[Turn] = []
    played = play(
        [arena.side("a"), arena.side("b", LOADS)],
        2,
        stopped=lambda: False,
        between=seen.append,
        done=done.append,
    )
    a = ["start a", "a{} at 1", "stop a"]
    b = ["start b", "b{} at 1", "b{} at 2", "stop b"]
    assert arena.diary == [line.format(number) for number in (1, 2) for line in a + b]
    assert seen == [1, 2]
    assert done == played.turns
    assert [len(turns) for turns in played.of("b", 2)] == [2, 2]
    assert not played.interrupted
    assert not played.failures


def test_a_side_that_fails_is_left_out_and_the_others_go_on() -> None:
    def measure(side: str, number: int, load: Load) -> Turn:
        if side == "a":
            raise ServerFailed("a exited with 3")
        return Turn(side, number, load)

    arena = Arena(measure)
    played = play([arena.side("a"), arena.side("b")], 2, stopped=lambda: False)
    assert [turn.side for turn in played.turns] == ["b", "b"]
    assert [(side, str(error)) for side, error in played.failures] == [("a", "a exited with 3")]
    assert arena.diary.count("start a") == arena.diary.count("stop a") == 1


def test_nothing_goes_on_where_all_have_failed() -> None:
    def measure(side: str, number: int, load: Load) -> Turn:
        raise ServerFailed("no")

    arena = Arena(measure)
    assert play([arena.side("a")], 5, stopped=lambda: False).turns == []
    assert arena.diary.count("start a") == 1


def test_a_turn_cut_short_is_the_last_of_its_side_in_the_round() -> None:
    def measure(side: str, number: int, load: Load) -> Turn:
        return Turn(side, number, load, partial=number == 1)

    arena = Arena(measure)
    played = play([arena.side("a", LOADS)], 2, stopped=lambda: False)
    assert [(turn.round, turn.load.rate) for turn in played.turns] == [(1, 1.0), (2, 1.0), (2, 2.0)]


def test_an_interrupt_keeps_what_was_measured_and_stops_the_server() -> None:
    stop: list[bool] = []

    def measure(side: str, number: int, load: Load) -> Turn:
        if side == "b":
            stop.append(True)  # as the handler does; the turn was returned all the same
        return Turn(side, number, load, partial=side == "b")

    arena = Arena(measure)
    played = play(
        [arena.side("a"), arena.side("b"), arena.side("c")], 2, stopped=lambda: bool(stop)
    )
    assert [turn.side for turn in played.turns] == ["a", "b"]
    assert played.interrupted
    assert arena.diary[-1] == "stop b"


def test_an_interrupt_between_turns_keeps_those_before() -> None:
    def measure(side: str, number: int, load: Load) -> Turn:
        if number == 2:
            raise KeyboardInterrupt
        return Turn(side, number, load)

    arena = Arena(measure)
    played = play([arena.side("a")], 3, stopped=lambda: False)
    assert len(played.turns) == 1
    assert played.interrupted
    assert arena.diary[-1] == "stop a"
