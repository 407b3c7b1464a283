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
SUMMED_UP = frozenset({Kind.ROLLOUT_FAILED})
STACKS = frozenset({Kind.DUMPED, Kind.BLOCKED, Kind.HALTED, Kind.BUSY, Kind.STALLED})

# What follows from the end of a start that failed: `gave up` is the line to read.
AFTERMATH = frozenset(
    {Kind.STOPPING, Kind.STOPPED, Kind.EXITED, Kind.ZYGOTE_EXITED, Kind.KILLED, Kind.RETIRED}
)
# Steps of a reload, of which `--dev` shows the end only. What fails is at another level.
STEPS = frozenset(
    {
        Kind.SIGNALLED,
        Kind.ROLLOUT_STARTED,
        Kind.ZYGOTE_SPAWNED,
        Kind.ZYGOTE_READIED,
        Kind.ZYGOTE_EXITED,
        Kind.SPAWNED,
        Kind.READIED,
        Kind.CANARY_READIED,
        Kind.RETIRED,
        Kind.EXITED,
    }
)
MOST_URLS = 4  # in one line


class Logbook:
    """Writes events of one cluster to the log. `dev`: a person watches each reload."""

    def __init__(self, dev: bool = False) -> None:
        self.dev = dev
        self.gave_up = False
        self._began = 0.0  # wall-clock time of the latest rollout

    def __call__(self, event: Event) -> None:
        level = level_of(event)
        if self.gave_up and event.kind in AFTERMATH:
            level = logging.DEBUG
        if self.dev and level == logging.INFO and event.kind in STEPS:
            level = logging.DEBUG
        self.gave_up |= event.kind is Kind.GAVE_UP
        spoken = ""
        if event.kind is Kind.ROLLOUT_STARTED:
            self._began = event.time
        elif self.dev and event.kind is Kind.ROLLOUT_FINISHED:
            seconds = max(0.0, event.time - self._began)
            spoken = f"reloaded in {seconds:.1f} s, generation {event.fields['generation']} serves"
        write(event, level, spoken)


def write(event: Event, level: int, spoken: str = "") -> None:
    """Log an event: its kind as the sentence, its fields after it, a traceback below."""
    logger = get_logger()
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
    if event.kind is Kind.GAVE_UP:
        record.spoken = f"gave up: {event.fields.get('reason', '')}"
        record.after = event.fields.get("remedy", "")
    if spoken:
        record.spoken = spoken
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
    if event.fields.get("final"):
        return logging.DEBUG  # it is said once, by `gave up`
    ours = event.fields.get("group") in internal.NAMES and event.kind != Kind.LISTENING
    return logging.DEBUG if ours and event.level == logging.INFO else event.level
