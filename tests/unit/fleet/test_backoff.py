"""What keeps dying young waits longer and longer, and what grew up is forgiven."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.fleet.backoff import GROWN_UP, LONGEST, Backoff, delay


def test_the_first_young_death_costs_nothing() -> None:
    assert Backoff().died(50.0, 0.0, 0.5) == 0.0


def test_delays_double_from_a_tenth_to_half_a_minute() -> None:
    delays = [delay(deaths, 0.0) for deaths in range(1, 14)]
    assert delays[:5] == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8])
    assert delays[-1] == LONGEST


@given(deaths=st.integers(0, 10**6), jitter=st.floats(0, 1))
def test_jitter_only_shortens_and_by_a_fifth_at_most(deaths: int, jitter: float) -> None:
    assert 0.8 * delay(deaths, 0.0) <= delay(deaths, jitter) <= delay(deaths, 0.0)


def test_a_long_life_forgives_all_before() -> None:
    tally = Backoff()
    for _ in range(5):
        tally.died(100.0, 0.1, 0.0)
    assert tally.died(200.0, GROWN_UP, 0.0) == 0.0
    assert tally.deaths == 0
    assert tally.died(201.0, 0.1, 0.0) == 0.0, "it counts from the beginning again"


def test_it_remembers_when_the_row_of_deaths_began() -> None:
    tally = Backoff()
    for now in (10.0, 11.0, 12.0):
        tally.died(now, 0.0, 0.0)
    assert tally.first_death == 10.0
    assert tally.until == pytest.approx(12.0 + 0.2)
