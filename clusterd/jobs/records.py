"""What is passed to and from a store. Times are whole microseconds since the epoch, UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from clusterd.jobs.states import Event, State

MOST_PAYLOAD = 1024 * 1024  # bytes of a job's arguments, as JSON
MOST_RESULT = 256 * 1024  # bytes of a result, as JSON
MOST_ERROR = 32 * 1024  # bytes of a traceback
MOST_PROGRESS = 16 * 1024  # bytes of the data of a progress report, as JSON
MOST_LOG_LINES = 200  # of one job; older lines are dropped
MOST_LOG_LINE = 4 * 1024  # bytes of one line
LEASE = 30.0  # seconds that a job is its worker's without being renewed
MOST_CRASHES = 3  # deaths of the worker that a job may survive


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is to be stored."""

    id: str  # 32 hexadecimal digits, growing with the time (UUIDv7)
    name: str
    payload: bytes  # the arguments, encoded
    queue: str = "default"
    priority: int = 0  # −200 to 200; larger runs first
    run_at: int = 0  # not before this time; 0 for at once
    expires_at: int = 0  # not begun after this time; 0 for never
    timeout: float = 3600.0  # seconds that one attempt may take
    max_attempts: int = 3
    keep_completed: float = 86_400.0  # seconds that it is kept once it completed
    keep_failed: float = 30 * 86_400.0  # … once it was discarded, cancelled or expired
    unique_key: str = ""  # at most one unfinished job of this key; '' for no limit
    trace: str = ""  # W3C traceparent of the caller


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a job that was to be stored."""

    id: str  # its own, or that of the unfinished job with the same unique key
    created: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that runs a job. `node` changes with boot, pid namespace and machine."""

    node: str
    pid: int
    start: int  # clock ticks after boot: with the pid, the identity of a process
    group: str = ""
    slot: int = -1
    generation: int = 0

    @property
    def key(self) -> str:
        """Return what stores keep as the owner: `node:pid:start`."""
        return f"{self.node}:{self.pid}:{self.start}"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a worker asks for."""

    owner: Owner
    names: tuple[str, ...]  # the jobs that it knows; others wait for a worker that does
    queues: tuple[str, ...]  # in this order
    limit: int
    lease: float  # seconds


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job in a worker's hands. `token` grows with every claim: it fences what the worker says."""

    id: str
    name: str
    payload: bytes
    queue: str
    priority: int
    token: int
    attempt: int  # from 1
    max_attempts: int
    crashes: int
    timeout: float
    enqueued: int
    available: int  # since when it could be claimed
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: SUCCEEDED, FAILED, EXHAUSTED, RETURNED or CANCEL."""

    id: str
    token: int
    event: Event
    result: bytes = b""  # JSON; with SUCCEEDED
    error: str = ""  # a traceback or a sentence; its last line says what it was
    run_at: int = 0  # with FAILED: when it is tried again


@dataclass(frozen=True, slots=True)
class Attempt:
    """One line of a job's history."""

    at: int
    event: str  # of `states.Event`, or "enqueued", "log", "progress"
    owner: str = ""
    group: str = ""
    slot: int = -1
    generation: int = 0
    attempt: int = 0
    started: int = 0
    text: str = ""  # error, log line, or the cause of a crash


@dataclass(frozen=True, slots=True)
class JobInfo:
    """All that is known of a job."""

    id: str
    name: str
    queue: str
    state: State
    payload: bytes
    priority: int
    run_at: int
    expires_at: int
    timeout: float
    attempts: int
    max_attempts: int
    crashes: int
    unique_key: str
    owner: str
    token: int
    lease_until: int
    progress: float
    progress_data: bytes
    error: str
    result: bytes
    created: int
    started: int
    finished: int
    cancel_requested: bool = False
    history: tuple[Attempt, ...] = ()  # oldest first; empty where it was not asked for


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs are meant. Empty fields match all. `limit` holds for every method."""

    ids: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    queue: str = ""
    name: str = ""
    text: str = ""  # in the payload or the error
    owner: str = ""
    limit: int = 50  # the newest so many; 0 for all
    before: str = ""  # ids smaller than this one: the next page, newest first


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The state of one queue."""

    queue: str
    counts: Mapping[State, int] = field(default_factory=dict)
    oldest_available: int = 0  # since when its longest waiting job could run; 0 for none
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """A job that lost its worker."""

    id: str
    name: str
    owner: str
    crashes: int
    poisoned: bool  # and so is discarded
