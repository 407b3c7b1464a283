"""What one process logged last, from the lines of a log, in text or JSON. Pure."""

import json
import re
from collections import deque
from collections.abc import Sequence

from clusterd.core.events import Kind
from clusterd.core.terminal import clean

MOST = 8  # lines
WIDTH = 200  # characters of a line
JOURNALED = tuple(kind.replace("_", " ") for kind in Kind)  # the master's own lines of it
TEXT = re.compile(r"(?P<when>\S+ \S+) (?P<level>[A-Z]+) (?P<identity>(?:\w+=\S+ )*)(?P<rest>.*)")


def last_lines(log: Sequence[str], pid: int, generation: int) -> list[str]:
    """The last lines of a worker's own, oldest first; what the master says of it is left out."""
    found: deque[str] = deque(maxlen=MOST)
    belongs = False  # lines of a traceback go with the line above them
    for line in log:
        if belongs and line.startswith("    "):
            found.append(clean(line)[:WIDTH])
            continue
        shown = _json(line, pid, generation) if line[:1] == "{" else _text(line, pid, generation)
        belongs = shown is not None
        if shown is not None:
            found += [clean(part)[:WIDTH] for part in shown.splitlines()]
    return list(found)


def _json(line: str, pid: int, generation: int) -> str | None:
    try:
        told = json.loads(line)
    except ValueError:
        return None
    if not isinstance(told, dict) or (told.get("pid"), told.get("gen")) != (pid, generation):
        return None
    if told.get("message") in JOURNALED:
        return None
    known = ("time", "level", "message", "traceback", "group", "worker", "gen", "pid", "name")
    more = [f"{key}={value}" for key, value in told.items() if key not in known]
    head = " ".join([str(told.get("time", "")), str(told.get("level", "")).upper(),
                     str(told.get("message", "")), *more])  # fmt: skip
    trace = [f"    {part}" for part in str(told.get("traceback") or "").splitlines()]
    return "\n".join([head, *trace])


def _text(line: str, pid: int, generation: int) -> str | None:
    match = TEXT.fullmatch(line)
    if match is None:
        return None
    identity = match["identity"].split()
    if f"pid={pid}" not in identity or f"gen={generation}" not in identity:
        return None
    return f"{match['when']} {match['level']} {match['rest']}"
