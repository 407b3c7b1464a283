"""The journal's vocabulary: every kind of event, how grave it is, and one numbered event."""

import enum
import logging
from dataclasses import dataclass, field
from typing import Any


class Kind(enum.StrEnum):
    """What can happen, as operators (`clusterd events`) and tests read it."""

    # the master and its sockets
    STARTED = "started"
    LISTENING = "listening"
    UNBOUND = "unbound"
    SIGNALLED = "signalled"
    ORDERED = "ordered"  # a control command was taken
    RUNS_AS_ROOT = "runs_as_root"  # the workers, though no setting asks for that
    INSECURE_PATHS = "insecure_paths"  # others may change what root relies on, and that is allowed
    READY = "ready"  # the first time the whole size is ready
    STOPPING = "stopping"
    STOPPED = "stopped"
    PAUSED = "paused"
    RESUMED = "resumed"
    SCALED = "scaled"
    REOPENED = "reopened"
    GAVE_UP = "gave_up"
    UPGRADE_STARTED = "upgrade_started"  # in place: the new version is being tried
    UPGRADED = "upgraded"  # we are the new version
    UPGRADE_FAILED = "upgrade_failed"
    GROUP_ADDED = "group_added"  # by a reload
    GROUP_REMOVED = "group_removed"
    # zygotes
    ZYGOTE_SPAWNED = "zygote_spawned"
    ZYGOTE_READIED = "zygote_readied"
    IMPORT_PER_WORKER = "import_per_worker"  # the import left what must not cross a fork
    ZYGOTE_FAILED = "zygote_failed"
    ZYGOTE_EXITED = "zygote_exited"
    # workers
    SPAWNED = "spawned"
    SPAWN_FAILED = "spawn_failed"
    READIED = "readied"
    WORKER_FAILED = "worker_failed"  # it said why before it left: lifespan, import
    LEAVING = "leaving"  # it asked to be replaced
    RETIRED = "retired"
    KILLED = "killed"
    BREACH = "breach"  # it broke the rules of its channel to the master, and is killed
    EXITED = "exited"
    BACKED_OFF = "backed_off"
    DUMPED = "dumped"
    # what the application has started, and what has outlived its worker
    ORPHANS_ENDED = "orphans_ended"  # they were sent SIGTERM
    ORPHANS_KILLED = "orphans_killed"
    ORPHANS_SPARED = "orphans_spared"  # left alone: they changed their session on purpose
    # vitals (`core.vitals`)
    BLOCKED = "blocked"
    HALTED = "halted"
    BUSY = "busy"
    STALLED = "stalled"
    RECOVERED = "recovered"
    # rollouts
    RELOAD_REFUSED = "reload_refused"
    ROLLOUT_STARTED = "rollout_started"
    CANARY_READIED = "canary_readied"
    ROLLOUT_FINISHED = "rollout_finished"
    ROLLOUT_FAILED = "rollout_failed"
    # certificates
    CERTIFICATES_RENEWED = "certificates_renewed"
    CERTIFICATES_REFUSED = "certificates_refused"
    # trouble of our own that we live through
    TROUBLE = "trouble"


WARNINGS = frozenset(
    {
        Kind.IMPORT_PER_WORKER,
        Kind.BACKED_OFF,
        Kind.KILLED,
        Kind.BREACH,
        Kind.SPAWN_FAILED,
        Kind.DUMPED,
        Kind.BLOCKED,
        Kind.HALTED,
        Kind.BUSY,
        Kind.STALLED,
        Kind.ORPHANS_KILLED,
        Kind.ORPHANS_SPARED,
        Kind.RUNS_AS_ROOT,
        Kind.INSECURE_PATHS,
        Kind.TROUBLE,
    }
)
ERRORS = frozenset(
    {
        Kind.ZYGOTE_FAILED,
        Kind.WORKER_FAILED,
        Kind.RELOAD_REFUSED,
        Kind.ROLLOUT_FAILED,
        Kind.CERTIFICATES_REFUSED,
        Kind.UPGRADE_FAILED,
        Kind.GAVE_UP,
    }
)


@dataclass(frozen=True, slots=True)
class Event:
    """One numbered line of history. `time` is wall-clock seconds, for people only."""

    number: int
    time: float
    kind: Kind
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> int:
        """The `logging` level that this event is logged at."""
        if self.kind in ERRORS and self.fields.get("asked"):
            return logging.INFO  # somebody ended it on purpose: a stop during a reload, say
        if self.kind in ERRORS or self.fields.get("fault"):
            return logging.ERROR
        return logging.WARNING if self.kind in WARNINGS else logging.INFO

    def flat(self) -> dict[str, Any]:
        """The event as one flat JSON object: n, time, kind, then its fields."""
        return {"n": self.number, "time": self.time, "kind": str(self.kind), **self.fields}
