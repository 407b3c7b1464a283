"""Notice a standard library that the import replaced, as gevent and eventlet do.

clusterd's own threads, locks and loop are the standard library's. Where those became greenlets, a
worker is ready and responds to nothing.
"""

import _thread
import os
import select
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

MONKEYS = frozenset({"gevent", "eventlet"})  # whatever these replace, their scheduler comes along
# What must not be replaced by others either; the rest may be (socket.socket by a proxy's, say).
ESSENTIAL = frozenset({"_thread.start_new_thread", "_thread.allocate_lock", "select.select"})
PARTS: tuple[tuple[ModuleType, str], ...] = (
    (_thread, "start_new_thread"),
    (_thread, "allocate_lock"),
    (threading, "Thread"),
    (select, "select"),
    (socket, "socket"),
    (time, "sleep"),
    (os, "fork"),
)


@dataclass(frozen=True, slots=True)
class Replaced:
    """Parts of the standard library that are no longer its own, and the package that did it."""

    names: tuple[str, ...]
    by: str


def originals() -> dict[str, object]:
    """Return the parts as they are now, by name."""
    return {f"{module.__name__}.{name}": getattr(module, name) for module, name in PARTS}


def replaced(before: Mapping[str, object]) -> list[Replaced]:
    """Return what was replaced since, by the package that did it, where it must not be."""
    return compared(before, originals())


def compared(before: Mapping[str, object], now: Mapping[str, object]) -> list[Replaced]:
    """Return what must not have been replaced between the two, by the package that did it."""
    found: dict[str, list[str]] = {}
    for name, part in now.items():
        if not _is_still(part, before[name]):
            by = _package(part)
            if by in MONKEYS or name in ESSENTIAL:
                found.setdefault(by, []).append(name)
    return [Replaced(tuple(names), by) for by, names in found.items()]


def _is_still(now: object, before: object) -> bool:
    """Tell whether it is the same, or only wrapped or derived, as tracing libraries do."""
    if isinstance(now, type) and isinstance(before, type):
        return issubclass(now, before)
    inner: object = now
    for _ in range(8):  # wrappers upon wrappers
        if inner is before:
            return True
        inner = getattr(inner, "__wrapped__", None)
    return False


def _package(thing: object) -> str:
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return str(module).partition(".")[0]
