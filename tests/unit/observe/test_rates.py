"""What two snapshots say about the time between them."""

import pytest

from clusterd.observe import rates
from clusterd.observe.rates import NOTHING, Rates, quantile
from tests.unit.observe.shots import latency, shot, worker


def test_a_workers_rates_come_from_what_it_did_meanwhile() -> None:
    old = shot(worker(0, requests=1000, latency=latency(b11=5)), uptime=100.0)
    new = shot(worker(0, requests=1200, latency=latency(b11=105, b15=100), cpu=6.0), uptime=102.0)
    (found,) = rates.workers(old, new).values()
    assert found.requests == pytest.approx(100.0)
    assert found.p50 == pytest.approx(0.002048)
    assert found.p99 == pytest.approx(0.0325, rel=0.02)
    assert found.cpu == pytest.approx(0.5)


def test_cpu_time_is_divided_by_the_time_between_pulses() -> None:
    """It is written at a pulse, which is not when we look: 1 s of CPU in 1.5 s between them."""
    old = shot(worker(0, heartbeat_age=0.1), uptime=100.0)
    new = shot(worker(0, cpu=6.0, heartbeat_age=0.6), uptime=102.0)
    assert rates.workers(old, new)["web", 4100, 0].cpu == pytest.approx(1 / 1.5)
    silent = shot(worker(0, cpu=5.0, heartbeat_age=2.1), uptime=102.0)
    assert rates.workers(old, silent)["web", 4100, 0].cpu is None


def test_a_newcomer_and_an_older_master_have_none() -> None:
    old = shot(worker(0), uptime=100.0)
    new = shot(worker(0), worker(1), uptime=102.0)
    assert rates.workers(old, new)["web", 4101, 1] == NOTHING
    assert rates.workers(None, new)["web", 4100, 0] == NOTHING
    bare = shot({"slot": 0, "pid": 4100, "row": 0, "generation": 1, "phase": "ready",
                 "requests": 2000})  # fmt: skip
    later = bare._replace(uptime=bare.uptime + 10)
    assert rates.workers(bare, later)["web", 4100, 0] == Rates(requests=0.0)


def test_the_whole_counts_those_who_are_gone_and_never_goes_back() -> None:
    old = shot(worker(0), worker(1), totals={"requests": 2000}, uptime=100.0)
    new = shot(worker(0), totals={"requests": 2100}, uptime=110.0)
    assert rates.whole(old, new).requests == pytest.approx(10.0)
    assert rates.whole(new, old._replace(uptime=120.0)).requests == 0.0
    assert rates.whole(None, new) == NOTHING


@pytest.mark.parametrize(
    ("uptimes", "compared"),
    [([], None), ([5.0], None), ([4.0, 5.0], 4.0), ([1.0, 2.0, 3.0, 4.0, 5.0], 3.0),
     ([90.0, 4.0, 5.0], 4.0), ([90.0, 5.0], None)],
)  # fmt: skip
def test_it_looks_two_seconds_back_but_never_behind_a_restart(
    uptimes: list[float], compared: float | None
) -> None:
    found = rates.since([shot(worker(0), uptime=uptime) for uptime in uptimes])
    assert (found and found.uptime) == compared


def test_another_master_tells_nothing_of_this_one() -> None:
    assert rates.since([shot(uptime=1.0, pid=1), shot(uptime=5.0, pid=2)]) is None


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [
        ({}, 0.5, None),
        ({"b0": 1}, 1.0, 1e-6),
        ({"b1": 4}, 0.5, 1.5e-6),
        ({"b11": 100}, 0.5, 1.536e-3),
        ({"b11": 99, "b21": 1}, 0.99, 2.048e-3),
        ({"b11": 98, "b21": 2}, 0.99, 1.572864),
        ({"b31": 1}, 0.99, 2**30 * 1.99 / 1e6),
    ],
)
def test_a_quantile_lies_within_its_bucket(
    counts: dict[str, int], share: float, seconds: float | None
) -> None:
    assert quantile(latency(**counts), share) == pytest.approx(seconds)
