"""Observe the calls of a function of the standard library for a while.

Others keep the function itself for ever (`from uuid import uuid4`, a bound method in a C module),
so the function stays, and its code is exchanged. `sys.monitoring` does not exist on Python 3.11,
and a tool id that we held would be missing for a tracer of the application.
"""

import sys
from collections.abc import Callable
from types import CodeType, FrameType, FunctionType
from typing import Any, Self

Note = Callable[[Any, FrameType | None], None]  # takes what was returned, and the caller's frame


class Observed:
    """While used as a context manager, have `note` called after each call of the function.

    Does nothing with a function that has free variables, or none of Python code: the exchanged
    code would have to have the same variables.
    """

    def __init__(self, function: object, note: Note) -> None:
        possible = isinstance(function, FunctionType) and not function.__closure__
        self._function: Any = function if possible else None
        self._note = note
        self._code: CodeType | None = None

    def __enter__(self) -> Self:
        if self._function is not None:
            self._code = self._function.__code__
            self._function.__code__ = self._observing(self._function)
        return self

    def __exit__(self, *_: object) -> None:
        if self._code is not None:
            self._function.__code__ = self._code
            self._code = None

    def _observing(self, function: FunctionType) -> CodeType:
        """Return code that does what the function does, then calls `note`."""
        code = function.__code__
        original = FunctionType(code, function.__globals__, code.co_name, function.__defaults__)
        original.__kwdefaults__ = function.__kwdefaults__
        note = self._note

        def observe(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            try:
                note(result, sys._getframe(2))
            except Exception:
                return result  # an odd frame or value must not fail the application's import
            return result

        # As a constant, since the function's globals are another module's.
        template = _template.__code__
        constants = tuple(observe if one == 0.5 else one for one in template.co_consts)
        return template.replace(
            co_consts=constants,
            co_name=code.co_name,
            co_filename=code.co_filename,
            co_firstlineno=code.co_firstlineno,
        )


def _template(*args: Any, **kwargs: Any) -> Any:
    observe: Any = 0.5
    return observe(*args, **kwargs)
