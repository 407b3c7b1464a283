"""Calls in their time and order."""

from functools import partial

from clusterd.bench.timers import NEVER, Timers


def test_what_is_due_is_called_in_order_and_once() -> None:
    timers, called = Timers(), list[str]()
    for when, name in ((30, "c"), (10, "a"), (20, "b"), (10, "a2")):
        timers.later(when, partial(called.append, name))
    assert timers.next == 10

    timers.run(20)
    assert called == ["a", "a2", "b"]
    assert timers.next == 30

    timers.run(30)
    assert called == ["a", "a2", "b", "c"]
    assert timers.next == NEVER


def test_what_a_call_adds_is_for_the_next_time() -> None:
    """Or one that is always due would keep the loop from everything else."""
    timers, called = Timers(), list[int]()

    def again() -> None:
        called.append(1)
        timers.later(0, again)

    timers.later(0, again)
    timers.run(5)
    assert len(called) == 1
    timers.run(5)
    assert len(called) == 2
