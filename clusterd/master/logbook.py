"""The log is a rendering of the journal: every event becomes one line."""

import logging
from typing import Any

from clusterd.config import internal
from clusterd.config.kinds import MAIN
from clusterd.core.events import Event, Kind
from clusterd.core.log import LOGGER, fields, get_logger
from clusterd.core.stacks import fold

NAMES = {"slot": "worker", "generation": "gen"}  # an identity, as every line shows it
# Who failed has said its traceback on a line of its own; these sum it up.
SUMMED_UP = frozenset({Kind.ROLLOUT_FAILED, Kind.GAVE_UP})
STACKS = frozenset({Kind.DUMPED, Kind.BLOCKED, Kind.HALTED, Kind.BUSY, Kind.STALLED})

MOST_URLS = 4  # in one line


def write(event: Event) -> None:
    """Log an event: its kind as the sentence, its fields after it, a traceback below."""
    logger, level = get_logger(), level_of(event)
    if not logger.isEnabledFor(level):
        return
    named: dict[str, Any] = {NAMES.get(key, key): value for key, value in event.fields.items()}
    if named.get("group") == MAIN:
        del named["group"]  # it goes without saying
    trace = named.pop("traceback", "")
    if event.kind in SUMMED_UP:
        trace = ""
    elif event.kind in STACKS:
        trace = "\n".join(fold(trace))  # the journal has every frame
    shown = {key: value for key, value in named.items() if value not in (None, "")}
    sentence = event.kind.replace("_", " ")
    record = logger.makeRecord(LOGGER, level, "", 0, sentence, (), None, extra=fields(**shown))
    record.exc_text = trace or None
    if event.kind is Kind.READY:
        record.spoken = ready(event)
    logger.handle(record)


def ready(event: Event) -> str:
    """Return the line about the end of a start, as people read it."""
    urls, count = event.fields.get("urls", []), event.fields["workers"]
    where = f" on {', '.join(urls[:MOST_URLS])}" if urls else ""
    more = f" and {len(urls) - MOST_URLS} more" if len(urls) > MOST_URLS else ""
    plural = "s" * (count != 1)
    return f"ready{where}{more} in {event.fields['seconds']:.1f} s, {count} worker{plural}"


def level_of(event: Event) -> int:
    """How grave the line is: what groups of our own do as they should is nobody's concern."""
    ours = event.fields.get("group") in internal.NAMES and event.kind != Kind.LISTENING
    return logging.DEBUG if ours and event.level == logging.INFO else event.level
