"""Messages to the master are checked: their senders run code of others.

Each field has a type and a bound. What passes here can be written to the journal, compared and
counted with. What a number or a name means (a row, a condition) is for its handler to judge.
"""

import json
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NoReturn

from clusterd.core.vitals import Condition
from clusterd.ipc.messages import (
    WIRE,
    Certified,
    Draining,
    Dumped,
    Failed,
    Hello,
    Leaving,
    Loaded,
    Message,
    Ready,
    Unspawned,
    Unwell,
)

FROM_ZYGOTES: frozenset[type[Message]] = frozenset({Loaded, Failed, Unspawned, Certified})
FROM_WORKERS: frozenset[type[Message]] = frozenset(
    {Hello, Ready, Leaving, Unwell, Draining, Dumped, Failed, Certified}
)
SAID_OF_ITSELF = (Condition.BUSY, Condition.STALLED, "recovered", "silent")  # `Unwell.kind`

SHORT = 256  # characters of a word: a stage, a condition, a fingerprint
LONG = 16 * 1024  # of a reason or advice; reasons of a failed import may have 8 KiB
STACKS = 64 * 1024  # of a traceback: a packet holds no more
MOST_ITEMS = 64  # of a list: a renewal names 50 servers at most
GREATEST = 2**53  # of a number, either way: exact in JSON and as a float
LAST_YEAR = 253_402_300_799.0  # seconds since 1970; the calendar of Python ends in 9999
WORDS = frozenset({"stage", "kind", "fingerprint"})
TEXTS = frozenset({"text", "traceback"})


class Malformed(Exception):
    """Not a message that this sender may send; the text says why.

    `is_foreign`: another version of clusterd has such a message, perhaps.
    """

    def __init__(self, reason: str, is_foreign: bool = False) -> None:
        super().__init__(reason)
        self.is_foreign = is_foreign


def decode(body: bytes, allowed: frozenset[type[Message]]) -> Message:
    """The message in a packet; raises Malformed."""
    try:
        parsed = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"what came is no message: {body[:100]!r}") from error
    match parsed:
        case [str(name), dict(given)]:
            kind = KINDS.get(name)
        case _:
            raise Malformed(f"what came is no message: {body[:100]!r}")
    if kind is None or kind not in allowed:
        raise Malformed(f"it may not send {name[:SHORT]!r}", is_foreign=name not in WIRE)
    checks = CHECKS[name]
    if strange := given.keys() - checks.keys():
        raise Malformed(f"a {name} has no field {min(strange)[:SHORT]!r}", is_foreign=True)
    for field, value in given.items():
        if not checks[field](value):
            raise Malformed(f"a {name} with a {field} of {repr(value)[:SHORT]}")
    try:
        return kind(**given)
    except TypeError as error:
        raise Malformed(f"a {name} that lacks fields", is_foreign=True) from error


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _is_int(value: Any) -> bool:
    return type(value) is int and abs(value) <= GREATEST


def _is_float(value: Any) -> bool:
    return _is_int(value) or (
        type(value) is float and math.isfinite(value) and abs(value) <= GREATEST
    )


def _is_bool(value: Any) -> bool:
    return type(value) is bool


def _is_text(most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and len(value) <= most


def _is_list(value: Any) -> bool:
    is_list = type(value) is list and len(value) <= MOST_ITEMS
    return is_list and all(type(item) is str and len(item) <= LONG for item in value)


def _check(name: str, kind: object) -> Callable[[Any], bool]:
    """The check of a field: by its type, and for texts by their use."""
    if kind is str:
        return _is_text(SHORT if name in WORDS else STACKS if name in TEXTS else LONG)
    by_type: dict[object, Callable[[Any], bool]] = {
        int: _is_int,
        float: _is_float,
        bool: _is_bool,
        list[str]: _is_list,
    }
    return by_type[kind]


ALL: frozenset[type[Message]] = FROM_ZYGOTES | FROM_WORKERS
KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in ALL}
CHECKS: dict[str, dict[str, Callable[[Any], bool]]] = {
    name: {field.name: _check(field.name, field.type) for field in fields(kind)}
    for name, kind in KINDS.items()
}
CHECKS["Certified"]["expires"] = lambda value: _is_float(value) and 0 <= value <= LAST_YEAR
CHECKS["Unwell"]["kind"] = lambda value: value in SAID_OF_ITSELF
