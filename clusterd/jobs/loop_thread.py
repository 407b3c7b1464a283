"""One event loop in a thread, for coroutines of stores that a plain function waits for.

A Django view or a script has no loop that could wait for the network. The thread starts at the
first use and ends with the process; after a fork the child starts its own.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """A thread that runs an event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine in the loop's thread; return its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._running())

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="jobs store", daemon=True).start()
                self._loop = loop
            return self._loop


_thread = LoopThread()


def submit(coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
    """Run a coroutine in this process's loop thread; return its future."""
    return _thread.submit(coroutine)


def _forget() -> None:
    """Begin anew in a forked child: the thread is not there, and its lock may be held for ever.

    The parent's loop is kept, not closed: it shares its epoll descriptor with the parent.
    """
    global _thread
    _of_parents.append(_thread)
    _thread = LoopThread()


_of_parents: list[LoopThread] = []
os.register_at_fork(after_in_child=_forget)
