"""Run a coroutine of a store where no event loop runs."""

import importlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from clusterd.core.errors import Bug
from clusterd.jobs.store import Store

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


def run(store: Store, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of this store to its end, and return its result."""
    if not store.is_networked:
        return drive(coroutine)
    # Imported here: a store in a file needs neither a thread nor a loop.
    result: T = importlib.import_module("clusterd.jobs.loop_thread").submit(coroutine).result()
    return result
