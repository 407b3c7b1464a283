"""How often things happened, for metrics: the journal forgets its oldest events, counts do not."""

import signal
from dataclasses import dataclass, field

from clusterd.core.events import Event, Kind
from clusterd.core.vitals import Condition

Counts = dict[str, dict[str, int]]  # by group ('' for the whole), by word

OUTCOMES = {
    Kind.ROLLOUT_FINISHED: "finished",
    Kind.ROLLOUT_FAILED: "failed",
    Kind.RELOAD_REFUSED: "refused",
}
CONDITIONS = tuple(Condition)  # that a worker is replaced for, as the reason's first word
PLANNED = ("replaced", "recycled")  # who dies before it comes to that has died of something else


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
        elif event.kind in (Kind.LEAVING, Kind.RETIRED, Kind.KILLED, Kind.BREACH):
            self._foresee(event, pid)
        elif event.kind is Kind.EXITED:
            add(self.exits, group, self._cause(event, pid))
        elif event.kind is Kind.ZYGOTE_EXITED:
            self.doomed.pop(pid, None)

    def _foresee(self, event: Event, pid: str) -> None:
        """What makes a worker's end what it is, said before it. The first word counts."""
        reason = str(event.fields.get("reason", ""))
        if event.kind is Kind.KILLED:
            self.doomed.setdefault(pid, "overdue")
        elif event.kind is Kind.BREACH:
            self.doomed[pid] = "breach"
        elif event.kind is Kind.LEAVING:
            condition = reason.partition(" ")[0].rstrip(":")
            self.doomed.setdefault(pid, condition if condition in CONDITIONS else "replaced")
        elif reason == "recycled":
            self.doomed[pid] = reason

    def _cause(self, event: Event, pid: str) -> str:
        """Why a worker ended, in a word: one of `observe.catalogue.CAUSES`."""
        doom, code = self.doomed.pop(pid, ""), int(event.fields.get("code", 0))
        asked = bool(event.fields.get("asked"))
        if "out of memory" in str(event.fields.get("cause", "")):
            return "oom"
        if doom and (asked or doom not in PLANNED):
            return doom
        if asked:
            return "asked"
        if code >= 0:
            return "status"
        return "killed" if code == -signal.SIGKILL else "signal"


def add(counts: Counts, group: str, word: str) -> None:
    """One more."""
    of_group = counts.setdefault(group, {})
    of_group[word] = of_group.get(word, 0) + 1
