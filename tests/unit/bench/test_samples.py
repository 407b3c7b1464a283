"""Sums at times between those at which they were looked at."""

from typing import Any

import pytest

from clusterd.bench.samples import Samples, Series, Sparing, ends
from clusterd.bench.tree import Process, Usage
from clusterd.core.errors import NotRunning


def test_a_sum_lies_straight_between_its_neighbours_and_flat_outside() -> None:
    series = Series()
    for at, value in [(10.0, 1.0), (12.0, 3.0), (13.0, 3.0)]:
        series.note(at, value)
    assert [series.when(at) for at in (0.0, 10.0, 11.0, 12.0, 12.5, 99.0)] == [1, 1, 2, 3, 3, 3]
    assert series.between(10.5, 11.0) == pytest.approx(0.5)
    assert Series().between(1.0, 2.0) == 0.0


def test_a_sum_never_falls() -> None:
    series = Series()
    for at, value in [(0.0, 5.0), (1.0, 2.0), (2.0, 6.0)]:
        series.note(at, value)
    assert series.between(0.0, 1.0) == 0.0
    assert series.between(0.0, 2.0) == 1.0


def test_what_costs_much_is_done_seldom() -> None:
    now = [100.0]
    seldom = Sparing(clock=lambda: now[0])
    assert seldom.due()
    began, now[0] = now[0], now[0] + 0.010  # it took 10 ms, so the next is 2 s from now
    seldom.did(began)
    now[0] += 1.99
    assert not seldom.due()
    now[0] += 0.02
    assert seldom.due()


@pytest.mark.parametrize(
    ("duration", "times"),
    [(0.5, [0.0, 0.25, 0.5]), (0.6, [0.0, 0.25, 0.5, 0.6]), (0.1, [0.0, 0.1])],
)
def test_looks_are_due_at_the_ends_of_intervals(duration: float, times: list[float]) -> None:
    assert list(ends(duration, 0.25)) == pytest.approx(times)


class Told:
    """A tree and an insight that say what they are told to."""

    def __init__(self, usages: list[Usage], counts: list[dict[int, int] | None]) -> None:
        self._usages, self._counts = iter(usages), iter(counts)

    def look(self) -> Usage:
        return next(self._usages)

    def workers(self) -> list[int]:
        return [11, 12, 13]

    def requests(self) -> dict[int, int]:
        counts = next(self._counts)
        if counts is None:
            raise NotRunning("it is busy")
        return counts

    def reload(self) -> None:
        raise AssertionError


def usage(at: float, cpu: float, by_pid: dict[int, float]) -> Usage:
    alive = [Process(pid, "S", 1, 0.0, 0) for pid in by_pid]
    return Usage(at, cpu, by_pid, alive)


def sampled(usages: list[Usage], counts: list[dict[int, int] | None]) -> Samples:
    told: Any = Told(usages, counts)
    samples = Samples(told, told)
    for _ in usages:
        samples.take(last=True)
    return samples


def test_a_late_look_does_not_move_cpu_time_into_another_interval() -> None:
    """A server that uses half a core, looked at too late by 40 ms at the begin of a window."""
    samples = sampled(
        [usage(at, at / 2, {11: at / 2}) for at in (0.0, 0.25, 0.54, 0.75, 1.01)], [{}] * 5
    )
    used = samples.between(0.5, 1.0)
    assert used.cpu == pytest.approx(0.25)
    assert used.cpu_by_worker == {11: pytest.approx(0.25)}
    assert used.requests_by_worker == {}


def test_a_worker_that_comes_and_one_that_goes_both_count() -> None:
    samples = sampled(
        [
            usage(0.0, 0.0, {10: 0.0, 11: 0.0}),
            usage(1.0, 1.0, {10: 0.0, 11: 1.0}),
            usage(2.0, 2.0, {10: 0.0, 11: 1.5, 12: 0.5}),
            usage(3.0, 3.0, {10: 0.0, 11: 1.5, 12: 1.5}),
        ],
        [{}] * 4,
    )
    used = samples.between(0.0, 3.0)
    assert used.cpu_by_worker == {11: pytest.approx(1.5), 12: pytest.approx(1.5)}  # 10 serves none
    assert samples.between(1.0, 2.0).cpu_by_worker[12] == pytest.approx(0.5)
    assert used.processes == 3


def test_a_server_that_does_not_tell_just_now_is_asked_again() -> None:
    looks = [usage(at, 0.0, {}) for at in (0.0, 1.0, 2.0)]
    samples = sampled(looks, [{11: 5}, None, {11: 25, 12: 7}])
    # Counts carry the time at which they were asked for, and so lie within any window around it.
    assert samples.between(0.0, float("inf")).requests_by_worker == {11: 20, 12: 7}
