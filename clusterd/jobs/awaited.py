"""A coroutine that is missed when it is not awaited."""

import importlib
import sys
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar

R = TypeVar("R")


class MustBeAwaited(Coroutine[Any, Any, R]):
    """Passes everything on to a coroutine; logs an ERROR where it is dropped without a start.

    Python's own RuntimeWarning goes to stderr once for each place, where nobody sees it; and what
    is lost is a job.
    """

    __slots__ = ("_coroutine", "_is_begun", "_place", "_what")

    def __init__(self, coroutine: Coroutine[Any, Any, R], what: str) -> None:
        """`what` is lost; the caller of our caller is who forgot."""
        self._coroutine = coroutine
        self._is_begun = False
        self._what = what
        frame = sys._getframe(2)
        self._place = (frame.f_code.co_filename, frame.f_lineno)

    def __await__(self) -> Generator[Any, Any, R]:
        self._is_begun = True
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        self._is_begun = True
        return self._coroutine.send(value)

    def throw(self, kind: Any, value: Any = None, trace: TracebackType | None = None) -> Any:
        self._is_begun = True
        return self._coroutine.throw(kind if value is None else value)

    def close(self) -> None:
        self._is_begun = True  # on purpose
        self._coroutine.close()

    def __del__(self) -> None:
        if self._is_begun:
            return
        self._coroutine.close()  # so that Python does not say it again
        # Imported here, since logging is not needed otherwise; it fails where Python itself ends.
        log = importlib.import_module("clusterd.core.log")
        log.get_logger("clusterd.jobs").error(
            "not enqueued, since the coroutine was not awaited: %s, at %s:%d",
            self._what,
            *self._place,
        )
