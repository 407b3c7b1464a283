"""What a generator is told and what it says: lines of JSON, over its stdin and stdout.

    parent: {an Order}
    generator: {"connected": 64}, or {"error": kind, "text": why}, and ends
    parent: go 123456789        (CLOCK_MONOTONIC, in ns: the same instant in all generators)
    generator: {"interval": {...}} every INTERVAL
    generator: {"done": {...}}, and ends

`stop`, or the end of its stdin, ends it early: the interval so far is said, and then that it is
done.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from clusterd.bench.interval import Interval
from clusterd.bench.load import Load, Target
from clusterd.core.plain import Hints, Reader, Unfit, Writer

STOP = b"stop\n"
_GO = b"go "
_HINTS = Hints({})


@dataclass(frozen=True, slots=True)
class Order:
    """What one generator is to do: its share of the load."""

    target: Target
    load: Load
    cpus: tuple[int, ...] = ()  # to run on; () for all
    seed: int = 0  # shuffles requests; of several generators, each has another
    phase: float = 0.0  # of its schedule, in parts of a step: several do not send in step

    def line(self) -> bytes:
        """As it is sent."""
        return json.dumps(Writer(_HINTS, {}, {}).write(Order, self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> "Order":
        """The inverse; raises Unfit for what is no order."""
        made: Order = Reader(_HINTS, {}, {}).read(cls, _plain(line), "order")
        return made


@dataclass(frozen=True, slots=True)
class Connected:
    """It can begin, with so many connections: fewer than were ordered if some were refused."""

    connections: int


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot begin: a kind of error (interval.py), and a sentence or two for people."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """It ended. Of what it sent, all is answered, failed, or `unanswered`: under way at the end."""

    sent: int = 0
    unanswered: int = 0
    behind: int = 0  # open loop: due but never sent
    seconds: float = 0.0  # that it was driving; the last interval may have been a short one
    texts: dict[str, str] = field(default_factory=dict)  # kind of error: what the last one said
    over: float = 0.0  # seconds after the start when the last answer was taken: late, or drained


Said = Connected | Failed | Done | Interval


def go(start: int) -> bytes:
    """The line that starts it at that monotonic time in ns."""
    return _GO + str(start).encode() + b"\n"


def told(line: bytes) -> int:
    """When to start, of a line that says so; 0 for any other."""
    number = line.removeprefix(_GO).strip()
    return int(number) if line.startswith(_GO) and number.isdigit() else 0


def say(what: Said) -> bytes:
    """The line that says it."""
    match what:
        case Connected(connections):
            plain: dict[str, Any] = {"connected": connections}
        case Failed(kind, text):
            plain = {"error": kind, "text": text}
        case Done():
            plain = {"done": asdict(what)}
        case Interval():
            # Field by field: asdict copies deeply, and 2000 counts would stall the open loop.
            plain = {"interval": {name: getattr(what, name) for name in Interval.__slots__}}
    return json.dumps(plain, separators=(",", ":")).encode() + b"\n"


def said(line: bytes) -> Said:
    """The inverse; raises Unfit for what no generator says."""
    plain = _plain(line)
    try:
        match plain:
            case {"connected": int(connections)}:
                return Connected(connections)
            case {"error": str(kind), "text": str(text)}:
                return Failed(kind, text)
            case {"done": dict(fields)}:
                return Done(**fields)
            case {"interval": dict(fields)}:
                for name in ("latency", "lag"):  # JSON's keys are text
                    fields[name] = {int(key): count for key, count in fields[name].items()}
                return Interval(**fields)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Unfit(f"no generator says {line[:80]!r}: {error}") from error
    raise Unfit(f"no generator says {line[:80]!r}")


def _plain(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise Unfit(f"not JSON: {line[:80]!r}") from error
