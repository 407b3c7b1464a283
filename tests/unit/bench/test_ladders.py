"""Which load comes next: searches and ladders against a server that is a formula."""

import math
from collections.abc import Callable

import pytest

from clusterd.bench.ladders import (
    CONFIRMATIONS,
    NEAR,
    PROBES,
    Connections,
    Fixed,
    Highest,
    keeps_up,
    searched,
)
from clusterd.bench.load import Load
from clusterd.bench.results import GeneratorUse, Turn

LOAD = Load(duration=9.0)


def turn(load: Load, capacity: float = math.inf, errors: int = 0, busy: float = 0.1) -> Turn:
    """One that answers as much as is asked, up to its capacity."""
    answered = min(load.rate, capacity)
    return Turn(
        "a",
        1,
        load,
        seconds=load.duration,
        requests=round(answered * load.duration),
        errors={"timeout": errors} if errors else {},
        generator=GeneratorUse(1, busiest=busy),
    )


def played(plan: Highest, measure: Callable[[Load], Turn]) -> list[Turn]:
    """All turns until the plan has enough."""
    turns: list[Turn] = []
    while (load := plan.next(turns)) is not None:
        turns.append(measure(load))
        assert len(turns) <= PROBES + CONFIRMATIONS
    return turns


def test_fixed_loads_come_in_their_order_and_end() -> None:
    one, other = Load(rate=1.0), Load(rate=2.0)
    plan = Fixed((one, other))
    assert plan.next([]) is one
    assert plan.next([turn(one)]) is other
    assert plan.next([turn(one), turn(other)]) is None


@pytest.mark.parametrize("capacity", [3.0, 40.0, 999.0, 1000.0, 5200.0, 48_000.0, 1_000_000.0])
def test_a_search_finds_the_highest_rate_and_confirms_it_at_full_length(capacity: float) -> None:
    plan = Highest(LOAD, lambda turn: turn.load.rate <= capacity)
    turns = played(plan, turn)
    found, failing = plan.found(turns)
    assert capacity / NEAR**2 <= found <= capacity
    assert turns[-1].load.duration == LOAD.duration
    assert all(one.load.duration < LOAD.duration for one in turns[:-1])
    assert failing
    assert len(turns) <= 14


def test_a_search_takes_a_hint_from_what_an_overwhelmed_server_answered() -> None:
    plan = Highest(LOAD, lambda _: True)
    turns = played(plan, lambda load: turn(load, capacity=7000.0))
    rates = [one.load.rate for one in turns]
    assert rates[:4] == [1000.0, 4000.0, 16000.0, 7000.0]


def test_a_rate_that_does_not_last_is_tried_lower() -> None:
    """Short turns may keep what long ones do not."""
    plan = Highest(
        LOAD, lambda turn: turn.load.rate <= (800 if turn.load.duration == 9.0 else 1200)
    )
    turns = played(plan, turn)
    found, _ = plan.found(turns)
    assert 600 < found <= 800
    assert [one.load.duration for one in turns].count(9.0) > 1


def test_a_server_that_keeps_nothing_ends_the_search_with_nothing() -> None:
    plan = Highest(LOAD, lambda _: False)
    turns = played(plan, turn)
    assert plan.found(turns)[0] == 0.0
    assert min(one.load.rate for one in turns) == 1.0
    told = searched("p99<1ms", "a", plan, [turns])
    assert told is not None
    assert told.rate == 0.0


def test_a_server_without_limit_ends_the_search_too() -> None:
    plan = Highest(LOAD, lambda _: True)
    assert plan.found(played(plan, turn))[0] > 1e6


def search(plan: Highest, number: int, busy: float = 0.2, waited: int = 0) -> list[Turn]:
    """All turns of a round."""

    def made(load: Load) -> Turn:
        one = turn(load, busy=busy)
        one.round, one.waited = number, waited
        return one

    return played(plan, made)


def test_a_search_of_rounds_is_the_middle_one() -> None:
    plan = Highest(LOAD, lambda turn: turn.load.rate <= (5000, 3000, 4000)[turn.round])
    told = searched("p99<50ms", "a", plan, [search(plan, number) for number in range(3)])
    assert told is not None
    assert 3600 <= told.rate <= 4000
    assert (told.slo, told.side) == ("p99<50ms", "a")


@pytest.mark.parametrize(
    ("busy", "waited", "bound"),
    [(0.99, 0, "generator"), (0.2, 0, "server"), (0.2, 2000, "server or the connections")],
)
def test_a_search_says_what_was_in_the_way(busy: float, waited: int, bound: str) -> None:
    plan = Highest(LOAD, lambda turn: turn.load.rate <= 3000)
    told = searched("", "a", plan, [search(plan, 1, busy, waited)])
    assert told is not None
    assert told.bounded_by == bound


def test_a_search_that_was_broken_off_does_not_say_that_no_rate_keeps_it() -> None:
    plan = Highest(LOAD, lambda turn: turn.load.rate <= 3000)
    turns = search(plan, 1)
    told = searched("", "a", plan, [turns[:-1], []])
    assert told is not None
    assert (told.rate, told.bounded_by) == (plan.highest(turns[:-1]), "early end")
    assert searched("", "a", plan, [turns[:-1], turns]) == searched("", "a", plan, [turns])
    assert searched("", "a", plan, [[], []]) is None
    assert searched("", "a", Highest(LOAD, lambda _: False), [turns[:1]]) is None


def test_errors_and_falling_behind_keep_no_target() -> None:
    load = Load(rate=1000.0, duration=1.0)
    assert keeps_up(turn(load))
    assert not keeps_up(turn(load, capacity=900.0))
    assert not keeps_up(turn(load, errors=10))
    assert keeps_up(turn(load, errors=1))
    late = turn(load)
    late.partial = True
    assert not keeps_up(late)
    assert not keeps_up(Turn("a", 1, load, seconds=1.0))


def climbed(plan: Connections, most: int) -> list[int]:
    """The steps of a ladder up to a server that holds so many."""
    turns: list[Turn] = []
    while (load := plan.next(turns)) is not None:
        one = Turn("a", 1, load, seconds=1.0, requests=1000)
        one.errors = {"connect": 500} if load.connections > most else {}
        turns.append(one)
    return [one.load.connections for one in turns]


def test_a_ladder_climbs_to_its_top_or_to_where_the_server_lets_go() -> None:
    plan = Connections(LOAD, 1, 3000)
    assert climbed(plan, 10_000) == [1, 4, 16, 64, 256, 1024, 3000]
    assert climbed(plan, 100) == [1, 4, 16, 64, 256]
    assert climbed(Connections(LOAD, 8, 8), 100) == [8]


def test_a_step_without_any_answer_ends_a_ladder() -> None:
    plan = Connections(LOAD, 1, 64)
    assert plan.next([Turn("a", 1, Load(connections=1), seconds=1.0)]) is None
