"""Who waits for a reply until something has happened. Plain data, so that an upgrade carries them.

Each hears every event from then on, and answers once, or not yet.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from clusterd.core.events import Event, Kind

Reply = dict[str, Any]


def refused(error: str, remedy: str = "", **more: Any) -> Reply:
    """A reply that says no."""
    return {"ok": False, "error": error, "remedy": remedy, **more}


def done(**fields: Any) -> Reply:
    """A reply that says yes."""
    return {"ok": True, **fields}


class Waiter(ABC):
    """A request whose reply is still to come."""

    @abstractmethod
    def __call__(self, event: Event) -> Reply | None:
        """Hear an event; the reply once there is one."""


@dataclass
class RolloutsOver(Waiter):
    """Answers when the rollouts of all these generations have ended, or one has failed."""

    main: str  # the group whose generation the reply names first
    numbers: dict[str, int]  # group → generation
    left: dict[str, int]  # of those, whose end is still to come
    queued: list[str]  # groups whose rollout follows the one under way; its number is the next free
    more: dict[str, Any] = field(default_factory=dict)  # for the reply of a success

    def __call__(self, event: Event) -> Reply | None:
        name, generation = str(event.fields.get("group")), event.fields.get("generation")
        if name not in self.left:
            return None
        if name in self.queued:
            return self._begun(event, name)
        if self.left[name] != generation:
            return None
        if event.kind is Kind.ROLLOUT_FAILED:
            return self._failed(event, name)
        if event.kind is Kind.ROLLOUT_FINISHED:
            del self.left[name]
        told = {"generation": self.numbers[self.main], "generations": self.numbers}
        return None if self.left else done(**told, **self.more)

    def _begun(self, event: Event, name: str) -> Reply | None:
        """Does the one begin that had to wait, or will it never?"""
        if event.kind is Kind.ROLLOUT_STARTED and event.fields["generation"] >= self.left[name]:
            self.queued.remove(name)
            self.numbers[name] = self.left[name] = event.fields["generation"]
        elif event.kind is Kind.RELOAD_REFUSED:
            return refused(event.fields["reason"], event.fields.get("remedy", ""))
        elif event.kind in (Kind.PAUSED, Kind.GROUP_REMOVED):
            was = "paused" if event.kind is Kind.PAUSED else "removed"
            return refused(f"the group {name} was {was} before it came to that")
        return None

    def _failed(self, event: Event, name: str) -> Reply:
        """A rollout came to nothing: which, why, and what serves instead."""
        whose = f" of {name}" if len(self.numbers) > 1 else ""
        serving = event.fields["serving"]
        return refused(
            f"generation {self.left[name]}{whose} did not come up: {event.fields['reason']}",
            f"generation {serving} serves on",
            traceback=event.fields.get("traceback", ""),
            generation=serving,
        )


@dataclass
class Renewed(Waiter):
    """Answers when the certificates of all these were renewed, or could not be."""

    left: list[dict[str, Any]]  # of each group, what its event says
    names: list[str] = field(default_factory=list)

    def __call__(self, event: Event) -> Reply | None:
        mine = next((one for one in self.left if one.items() <= event.fields.items()), None)
        if mine is None:
            return None
        if event.kind is Kind.CERTIFICATES_REFUSED:
            remedy = event.fields["remedy"] or "the certificates in use stay"
            return refused(event.fields["reason"], remedy)
        self.left.remove(mine)
        self.names.extend(event.fields["names"])
        return None if self.left else done(names=self.names, expires=event.fields["expires"])


@dataclass
class Dumps(Waiter):
    """Answers when each of these processes has told where it is, or has ended."""

    left: set[int]  # pids
    texts: list[Reply] = field(default_factory=list)

    def __call__(self, event: Event) -> Reply | None:
        pid = event.fields.get("pid")
        if pid in self.left and event.kind in (Kind.DUMPED, Kind.EXITED):
            self.left.discard(pid)
            text = event.fields.get("traceback") or f"it ended: {event.fields.get('cause', '')}"
            keys = ("group", "slot", "generation", "pid")
            self.texts.append({**{key: event.fields.get(key) for key in keys}, "text": text})
        return None if self.left else done(dumps=self.texts)


@dataclass
class Restarted(Waiter):
    """Answers when a slot has another worker that is ready, or why it has not."""

    group: str
    slot: int

    def __call__(self, event: Event) -> Reply | None:
        fields = event.fields
        if fields.get("group") != self.group:
            return None
        gone = event.kind is Kind.SCALED and fields["size"] <= self.slot
        if gone or event.kind in (Kind.PAUSED, Kind.GROUP_REMOVED):
            return refused(f"slot {self.slot} is to have no worker any more")
        if fields.get("slot") != self.slot:
            return None
        if event.kind is Kind.READIED:
            return done(slot=self.slot, pid=fields["pid"])
        if event.kind in (Kind.WORKER_FAILED, Kind.SPAWN_FAILED):
            text = fields.get("traceback", "")
            return refused(fields["reason"], "what served there serves on", traceback=text)
        if event.kind is Kind.EXITED and fields.get("fault"):
            return refused(f"the new worker ended: {fields['cause']}")
        return None


@dataclass
class UpgradeOver(Waiter):
    """Answers when the master has become another, or says why it has not."""

    def __call__(self, event: Event) -> Reply | None:
        if event.kind is Kind.UPGRADED:
            return done(**{key: event.fields.get(key) for key in ("version", "previous")})
        if event.kind is Kind.UPGRADE_FAILED:
            text = event.fields.get("traceback", "")
            return refused(event.fields["reason"], event.fields["next"], traceback=text)
        return None


KINDS: dict[str, type[Waiter]] = {
    one.__name__: one for one in (RolloutsOver, Renewed, Dumps, Restarted, UpgradeOver)
}
