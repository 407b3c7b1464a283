"""The decision table of vitals: total, and each verdict at its time and not before."""

import itertools

import pytest

from clusterd.core.vitals import TABLE, Condition, Mark, Marks, Verdict, due, judge

DEFAULTS = Marks(5.0, 30.0, 300.0)
C, V = Condition, Verdict


def test_the_table_is_total() -> None:
    assert set(TABLE) == set(itertools.product(Condition, Mark))


@pytest.mark.parametrize(
    ("condition", "reported", "replaced"),
    [(C.BLOCKED, 5.0, 30.0), (C.HALTED, 5.0, 30.0), (C.BUSY, 5.0, 300.0), (C.STALLED, 30.0, 300.0)],
)
def test_each_condition_is_reported_first_and_then_replaced(
    condition: Condition, reported: float, replaced: float
) -> None:
    assert judge(condition, reported - 0.1, DEFAULTS) is V.NOTHING
    assert judge(condition, reported, DEFAULTS) is V.REPORT
    assert judge(condition, replaced - 0.1, DEFAULTS) is V.REPORT
    assert judge(condition, replaced, DEFAULTS) is V.REPLACE
    assert judge(condition, 1e9, DEFAULTS) is V.REPLACE
    assert due(condition, V.REPORT, DEFAULTS) == reported
    assert due(condition, V.REPLACE, DEFAULTS) == replaced


@pytest.mark.parametrize("condition", Condition)
def test_without_hang_dump_nobody_looks(condition: Condition) -> None:
    assert judge(condition, 1e9, Marks(0.0, 30.0, 300.0)) is V.NOTHING
    assert due(condition, V.REPORT, Marks(0.0, 30.0, 300.0)) is None


@pytest.mark.parametrize("condition", Condition)
def test_a_time_of_zero_is_never(condition: Condition) -> None:
    never = Marks(5.0, 0.0, 0.0)
    assert judge(condition, 1e9, never) < V.REPLACE
    assert due(condition, V.REPLACE, never) is None


def test_times_in_another_order_are_each_for_their_own() -> None:
    """A stall_timeout below hang_timeout replaces no blocked worker."""
    odd = Marks(5.0, 30.0, 10.0)
    assert judge(C.BLOCKED, 20.0, odd) is V.REPORT
    assert judge(C.BUSY, 20.0, odd) is V.REPLACE
