"""How long a process may serve: the limits that chance draws, and what they come to."""

import pytest

from clusterd.core.recycling import IN_A_ROW, Limits, Scales, verdict

MIB = 2**20


def scales(*sizes: int) -> Scales:
    """Looks at the memory, with a limit of one MiB."""
    looked = Scales(MIB)
    for size in sizes:
        looked.weigh(size)
    return looked


@pytest.mark.parametrize(
    ("limits", "requests", "age", "sizes", "why"),
    [
        (Limits(), 10**9, 1e9, [], ""),
        (Limits(requests=100), 99, 1e9, [], ""),
        (Limits(requests=100), 100, 0, [], "max_requests: 100 served"),
        (Limits(requests=100), 140, 0, [], "max_requests: 140 served, its limit was 100"),
        (Limits(age=60), 10**9, 59.9, [], ""),
        (Limits(age=60), 0, 60, [], "max_age: 1m00s old"),
        (Limits(memory=MIB), 10**9, 1e9, [2 * MIB] * (IN_A_ROW - 1), ""),
        (
            Limits(memory=MIB),
            0,
            0,
            [2 * MIB] * IN_A_ROW,
            "max_memory: 2 MiB, 2 MiB, 2 MiB in a row, the limit",
        ),
        (Limits(100, 60, MIB), 100, 60, [2 * MIB] * IN_A_ROW, "max_requests"),
    ],
)
def test_a_worker_is_to_go_when_a_limit_is_reached(
    limits: Limits, requests: int, age: float, sizes: list[int], why: str
) -> None:
    assert verdict(limits, requests, age, scales(*sizes)).startswith(why)
    assert bool(verdict(limits, requests, age, scales(*sizes))) == bool(why)


@pytest.mark.parametrize(
    ("given", "chance", "limits"),
    [
        ((0, 0, 0, 0), 1.0, Limits()),
        ((1000, 0, 0, 0), 0.0, Limits(1000)),
        ((1000, 0, 0, 0), 1.0, Limits(1100)),  # a tenth, where nobody says how much
        ((1000, 500, 0, 0), 0.5, Limits(1250)),
        ((0, 500, 0, 0), 1.0, Limits()),  # of a limit that there is not
        ((0, 0, 3600, 0), 0.5, Limits(age=3780)),
        ((0, 0, 0, MIB), 1.0, Limits(memory=MIB)),
    ],
)
def test_chance_lengthens_a_life_so_that_workers_do_not_go_together(
    given: tuple[int, int, float, int], chance: float, limits: Limits
) -> None:
    assert Limits.drawn(*given, lambda: chance) == limits


def test_only_the_latest_looks_in_a_row_count() -> None:
    assert not scales(2 * MIB, 2 * MIB, MIB, 2 * MIB, 2 * MIB).verdict
    assert scales(MIB, *[2 * MIB] * 3).verdict.endswith("the limit is 1 MiB")
    assert scales(MIB, *range(2 * MIB, 9 * MIB, MIB)).verdict.startswith("max_memory: 6 MiB, 7 MiB")


def test_a_limit_that_was_always_too_low_is_said_to_be() -> None:
    assert scales(*[2 * MIB] * 3).verdict.endswith("it was beyond it from the first look on")
