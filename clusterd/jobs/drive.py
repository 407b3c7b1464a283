"""Run a coroutine of a store where no event loop runs."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from clusterd.core.errors import Bug

T = TypeVar("T")


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result. Raises Bug where it suspends.

    A store that needs no network suspends only to wait for a lock, and only where a loop runs.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise Bug("a coroutine of the job store waited where no event loop runs")
