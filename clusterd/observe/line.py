"""One event as one line for people."""

import time
from collections.abc import Mapping
from typing import Any

from clusterd.core.terminal import clean_lines

SHORT = {"worker": "slot", "gen": "generation", "pid": "pid"}  # identity, as in the log
PLAIN = frozenset({"n", "time", "kind", "group", *SHORT.values()})


def event_line(event: Mapping[str, Any]) -> str:
    """`12:03:04 #17 readied worker=3 gen=2 pid=4711 seconds=0.01`; long text below it."""
    at = time.strftime("%H:%M:%S", time.localtime(float(event.get("time", 0))))
    words = [at, f"#{event.get('n', '?')}", str(event.get("kind", "?"))]
    group = event.get("group")
    words += [f"group={group}"] if group not in (None, "web") else []  # web goes without saying
    words += [f"{name}={event[key]}" for name, key in SHORT.items() if event.get(key) is not None]
    below = []
    for key, value in event.items():
        if key in PLAIN or value in (None, ""):
            continue
        if isinstance(value, str) and "\n" in value:
            below += ["    " + line for line in value.rstrip().splitlines()]
        else:
            words.append(f"{key}={_quoted(value)}")
    return clean_lines("\n".join([" ".join(words), *below]))


def _quoted(value: Any) -> str:
    """Quoted only where a blank would tear it apart."""
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return repr(text) if " " in text or not text.isprintable() else text
