"""A kernel that fails on cue, for tests: `spawn@3=EAGAIN` makes the third spawn raise EAGAIN.

`zygote.fork_orphan@2=EAGAIN` speaks of a zygote's calls; cues without a role are the master's.
"""

import collections
import errno
import os
from collections.abc import Callable
from typing import Any, TypeVar

from clusterd.core.errors import ConfigError

VARIABLE = "CLUSTERD_TEST_FAULTS"
PACE = "CLUSTERD_TEST_PACE"  # how much faster than in life those who look now and then do so
ROLES = ("master", "zygote")


class FaultyKernel:
    """Wraps a kernel. The script: `call@n=ERRNO`, or `call@n-m=ERRNO` for a range, by commas."""

    def __init__(self, kernel: object, script: str, role: str = "master") -> None:
        self._kernel = kernel
        self._calls: collections.Counter[str] = collections.Counter()
        self._faults: dict[str, list[tuple[range, int]]] = {}
        for cue in filter(None, script.split(",")):
            where, _, name = cue.partition("=")
            whose, _, where = where.rpartition(".")
            if (whose or "master") not in ROLES:
                raise ValueError(f"{whose} makes no calls that can fail on cue")
            if (whose or "master") != role:
                continue
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


def pace() -> float:
    """How many times a test wants the pulse and autoscaling to run faster; 1 in life."""
    return float(os.environ.get(PACE, 1.0))


K = TypeVar("K")


def wrap(kernel: K, role: str = "master") -> K:
    """The kernel (or whatever makes a role's calls), or its faulty twin when a test asks for it."""
    script = os.environ.get(VARIABLE, "")
    try:
        return FaultyKernel(kernel, script, role) if script else kernel  # type: ignore[return-value]
    except (AttributeError, ValueError) as error:
        raise ConfigError(f"{VARIABLE}={script!r} cannot be read: {error}") from error
