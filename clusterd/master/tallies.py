"""How often things happened, for metrics: the journal forgets its oldest events, counts do not."""

from collections.abc import Callable
from dataclasses import dataclass, field

from clusterd.core.events import Event, Kind

Counts = dict[str, dict[str, int]]  # by group ('' for the whole), by word

OUTCOMES = {
    Kind.ROLLOUT_FINISHED: "finished",
    Kind.ROLLOUT_FAILED: "failed",
    Kind.RELOAD_REFUSED: "refused",
}


@dataclass
class Tallies:
    """Counts since the start; plain data, so that an upgrade can take them along."""

    events: Counts = field(default_factory=dict)  # by kind
    exits: Counts = field(default_factory=dict)  # of workers, by cause
    rollouts: Counts = field(default_factory=dict)  # by outcome
    doomed: dict[str, str] = field(default_factory=dict)  # pid → why that worker is to end

    def hear(self, event: Event) -> None:
        """Take in one event of the journal."""
        group, pid = str(event.fields.get("group", "")), str(event.fields.get("pid", ""))
        add(self.events, group, str(event.kind))
        if event.kind in OUTCOMES:
            add(self.rollouts, group, OUTCOMES[event.kind])
        elif event.kind in REASONS:
            self.doomed.setdefault(pid, REASONS[event.kind](event))
        elif event.kind is Kind.EXITED:
            add(self.exits, group, self._cause(event, pid))

    def _cause(self, event: Event, pid: str) -> str:
        """Why a worker ended, in a word."""
        doom, code = self.doomed.pop(pid, ""), int(event.fields.get("code", 0))
        if event.fields.get("oom"):
            return "oom"
        if doom:
            return doom
        if event.fields.get("asked"):
            return "asked"
        if code >= 0:
            return "status"
        return "killed" if code == -9 else "signal"


def _why_it_leaves(event: Event) -> str:
    return "recycled" if event.fields.get("recycle") else "replaced"


# What is said of a worker before it ends, and makes its end what it is.
REASONS: dict[Kind, Callable[[Event], str]] = {
    Kind.LEAVING: _why_it_leaves,
    Kind.KILLED: lambda _event: "overdue",
}


def add(counts: Counts, group: str, word: str) -> None:
    """One more."""
    of_group = counts.setdefault(group, {})
    of_group[word] = of_group.get(word, 0) + 1
