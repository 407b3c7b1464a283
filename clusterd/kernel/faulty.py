"""A kernel that fails on cue, for tests: `spawn@3=EAGAIN` makes the third spawn raise EAGAIN."""

import collections
import errno
import os
from collections.abc import Callable
from typing import Any

from clusterd.core.errors import ConfigError
from clusterd.kernel.real import Kernel

VARIABLE = "CLUSTERD_TEST_FAULTS"


class FaultyKernel:
    """Wraps a kernel. The script: `call@n=ERRNO`, or `call@n-m=ERRNO` for a range, by commas."""

    def __init__(self, kernel: Kernel, script: str) -> None:
        self._kernel = kernel
        self._calls: collections.Counter[str] = collections.Counter()
        self._faults: dict[str, list[tuple[range, int]]] = {}
        for cue in filter(None, script.split(",")):
            where, _, name = cue.partition("=")
            call, _, span = where.partition("@")
            first, _, last = span.partition("-")
            getattr(kernel, call)  # a misspelt cue fails here, not silently
            calls = range(int(first), int(last or first) + 1)
            self._faults.setdefault(call, []).append((calls, getattr(errno, name)))

    def __getattr__(self, call: str) -> Callable[..., Any]:
        real: Callable[..., Any] = getattr(self._kernel, call)

        def maybe(*args: object, **kwargs: object) -> Any:
            self._calls[call] += 1
            for calls, code in self._faults.get(call, ()):
                if self._calls[call] in calls:
                    raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        return maybe


def wrap(kernel: Kernel) -> Kernel:
    """The kernel, or its faulty twin when the test variable is set."""
    script = os.environ.get(VARIABLE, "")
    try:
        return FaultyKernel(kernel, script) if script else kernel  # type: ignore[return-value]
    except (AttributeError, ValueError) as error:
        raise ConfigError(f"{VARIABLE}={script!r} cannot be read: {error}") from error
