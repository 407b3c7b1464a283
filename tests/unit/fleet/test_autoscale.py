"""Autoscaling follows what fills workers, quickly up and slowly down, and never flaps."""

from dataclasses import replace

import pytest

from clusterd.fleet.autoscale import Autoscale, Reading, Rules, Wish

RULES = Rules()
STEP = RULES.interval


class Day:
    """A group whose workers share a load, and the sizes that it had."""

    def __init__(self, size: int, lowest: int = 1, highest: int = 16, cpus: int = 64) -> None:
        self.size = size
        self.now = 1000.0
        self.scale = Autoscale(lowest, highest, cpus)
        self.cpu = dict.fromkeys(range(highest + 1), 0.0)
        self.sizes = [size]
        self.reasons: list[str] = []

    def look(self, cpu: float = 0.0, **fills: float) -> None:
        """One look later. `cpu`: cores' worth of work, shared by all workers."""
        self.now += STEP
        readings: dict[object, Reading] = {}
        for who in range(self.size):
            self.cpu[who] += STEP * min(1.0, cpu / self.size)
            readings[who] = replace(Reading(self.now, self.cpu[who], 0, 0, 0), **fills)
        wish = self.scale.judge(self.size, readings, self.now)
        if wish is not None:
            self.size = wish.size
            self.sizes.append(wish.size)
            self.reasons.append(wish.reason)

    def run(self, seconds: float, cpu: float = 0.0, **fills: float) -> "Day":
        end = self.now + seconds
        while self.now < end:
            self.look(cpu, **fills)
        return self


def test_a_load_that_fits_changes_nothing() -> None:
    assert Day(4).run(7200, cpu=2.4).sizes == [4]


def test_a_peak_shorter_than_ten_seconds_changes_nothing() -> None:
    day = Day(4)
    for _ in range(100):
        day.run(STEP, cpu=4).run(STEP, cpu=2)
    assert day.sizes == [4]


def test_a_lasting_load_has_workers_added_until_it_fits() -> None:
    day = Day(2).run(300, cpu=6)
    assert day.sizes == [2, 3, 4, 5, 7, 9]
    assert 6 / day.size < RULES.busy
    assert day.reasons[0] == "workers are 100% busy for 10 s, by their CPU"


def test_growth_is_a_quarter_at_a_time_and_ends_at_the_highest() -> None:
    assert Day(8, highest=12).run(600, cpu=99).sizes == [8, 10, 12]


def test_a_quiet_group_shrinks_one_a_minute_to_the_lowest() -> None:
    day = Day(5, lowest=2).run(59)
    assert day.sizes == [5]
    day.run(5)
    assert day.sizes == [5, 4]
    assert day.reasons == ["workers are 0% busy for 60 s"]
    assert day.run(3600).sizes == [5, 4, 3, 2]


def test_who_is_taken_away_would_not_be_missed() -> None:
    """Two at 35 % are one at 70 %: too close to a hundred to be worth it."""
    assert Day(2).run(7200, cpu=0.7).sizes == [2]


@pytest.mark.parametrize("load", [0.3, 0.9, 1.7, 2.4, 3.3, 4.8, 7.7, 11.0])
def test_a_steady_load_finds_one_size_and_stays(load: float) -> None:
    for start in (1, 4, 16):
        day = Day(start).run(1800, cpu=load)
        after = day.size
        assert day.run(3600, cpu=load).sizes[-1] == after
        rises = sorted(day.sizes)
        assert day.sizes in (rises, rises[::-1]), "it went up and came back"
        assert load / day.size < RULES.busy


def test_a_day_goes_up_and_down_once() -> None:
    day = Day(2)
    for load in (1, 3, 6, 8, 6, 3, 1):
        day.run(3600, cpu=load)
    peak = day.sizes.index(max(day.sizes))
    assert day.sizes[: peak + 1] == sorted(day.sizes[: peak + 1])
    assert day.sizes[peak:] == sorted(day.sizes[peak:], reverse=True)
    assert max(day.sizes) <= 12
    assert day.size <= 3


@pytest.mark.parametrize(
    ("fills", "what"),
    [({"threads": 1.0}, "threads"), ({"connections": 0.9}, "connections"), ({"late": 0.5}, "loop")],
)
def test_what_fills_a_worker_without_cpu_counts_as_well(fills: dict[str, float], what: str) -> None:
    day = Day(2).run(15, **fills)
    assert day.size == 3
    assert what in day.reasons[0]


def test_a_loop_that_does_not_turn_is_full() -> None:
    scale = Autoscale(1, 4, 8)
    blocked: dict[object, Reading] = {"one": Reading(1000.0, 5.0, 0, 0, 0)}
    wishes = [scale.judge(1, blocked, 1000.0 + STEP * look) for look in range(1, 4)]
    assert wishes == [None, None, Wish(2, "workers are 100% busy for 10 s, by their event loop")]


def test_used_up_cpus_are_no_reason_to_share_them() -> None:
    """Two cores' worth of work by two workers on two cores: a third adds only switching."""
    assert Day(2, cpus=2).run(3600, cpu=2, late=0.3).sizes == [2]
    assert Day(1, cpus=2).run(3600, cpu=2, late=0.3).sizes == [1, 2]


def test_what_was_seen_before_a_change_counts_no_more() -> None:
    day = Day(2).run(10, cpu=2)
    day.scale.rest()
    assert day.run(10, cpu=2).sizes == [2]
    assert day.run(5, cpu=2).sizes == [2, 3]


def test_only_those_seen_twice_are_judged() -> None:
    """A worker that was just born has no past: what it used since then is no share of a second."""
    scale = Autoscale(1, 4, 8)
    for look in range(1, 20):
        born: dict[object, Reading] = {look: Reading(1000.0 + look, 50.0, 0, 0, 0)}
        assert scale.judge(1, born, 1000.0 + STEP * look) is None


@pytest.mark.parametrize(("size", "within"), [(1, 3), (20, 8)])
def test_a_size_that_is_not_allowed_is_put_right_at_once(size: int, within: int) -> None:
    wish = Autoscale(3, 8, 64).judge(size, {}, 1000.0)
    assert wish == Wish(within, "3 to 8 are allowed")


def test_it_is_due_again_after_the_interval() -> None:
    scale = Autoscale(1, 2, 8)
    scale.judge(1, {}, 1000.0)
    assert scale.due == 1000.0 + STEP


def test_a_test_may_let_time_run_faster() -> None:
    fast = RULES.faster(20)
    assert (fast.interval, fast.busy_for, fast.calm_for) == (0.25, 0.5, 3.0)
    assert (fast.busy, fast.calm) == (RULES.busy, RULES.calm)
