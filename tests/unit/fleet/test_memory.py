"""Deaths for want of memory are told from other kills by what the kernel counts."""

import pytest

from clusterd.fleet.memory import FRESH, LIMIT, OTHER, PERHAPS, REMEDIES, Ledger

NOW = 1000.0


@pytest.mark.parametrize(
    ("kills", "hits", "ours", "why"),
    [
        (5, 2, True, ""),  # somebody's kill -9
        (6, 3, True, LIMIT),
        (6, 2, True, OTHER),  # the machine's memory, or that of a cgroup above
        (6, 2, False, PERHAPS),
        (5, 3, True, ""),  # the limit was run into, and reclaiming helped
    ],
)
def test_a_kill_is_explained_by_what_was_counted_since_the_last(
    kills: int, hits: int, ours: bool, why: str
) -> None:
    assert Ledger(kills=5, hits=2).explain(kills, hits, ours, NOW) == why
    assert not why or REMEDIES[why]


def test_each_killing_explains_one_death() -> None:
    ledger = Ledger()
    assert ledger.explain(2, 2, True, NOW) == LIMIT
    assert ledger.explain(2, 2, True, NOW + 0.01) == LIMIT
    assert ledger.explain(2, 2, True, NOW + 0.02) == ""


def test_killings_of_others_explain_nothing_later_on() -> None:
    """Three of the app's own children were ended with one worker."""
    ledger = Ledger()
    assert ledger.explain(4, 1, True, NOW) == LIMIT
    assert ledger.explain(4, 1, True, NOW + FRESH) == ""
    assert ledger.explain(5, 1, True, NOW + FRESH + 1) == OTHER


def test_a_counter_that_went_back_is_another_cgroups_and_explains_nothing() -> None:
    ledger = Ledger(kills=9)
    assert ledger.explain(1, 0, True, NOW) == ""
    assert ledger.explain(2, 0, True, NOW) == OTHER
