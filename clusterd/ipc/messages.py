"""The closed list of messages between master, zygotes and workers.

Frozen dataclasses, sent as JSON (never pickle: the master must not execute what a worker says).
Descriptors travel beside a message; each docstring says which, in order.
"""

from dataclasses import dataclass, field
from typing import Any


# master → zygote
@dataclass(frozen=True, slots=True)
class Boot:
    """The first message to a fresh child. fds: the scoreboard, the log, and with TLS its bundle.

    `group` is the group's name; `config` is `Config.to_wire()`; `sockets` names the socket files to
    unlink, with their inode, should the master die (`[path, inode]` pairs); `board` is the layout
    of the scoreboard, since the child may be of another version, whose cells have other places.
    """

    group: str
    generation: int
    config: dict[str, Any]
    sockets: list[tuple[str, int]] = field(default_factory=list)
    board: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork a worker. fds: its channel, its dump pipe, the hand-over pair (read, write), listeners.

    `listeners` are the addresses of the listeners, in the order of their descriptors. With `locked`
    the file of the program's lock comes before them.
    """

    slot: int
    row: int
    generation: int
    listeners: list[str]
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Sockets:
    """The socket files to unlink should the master die: replaces the list sent before."""

    sockets: list[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Certificates:
    """Other certificates, also for a worker. fds: the bundle. Answer with `Certified`."""

    number: int  # of this renewal


@dataclass(frozen=True, slots=True)
class Leave:
    """A zygote is no longer needed: exit 0."""


# zygote → master
@dataclass(frozen=True, slots=True)
class Loaded:
    """The application is imported. `unsafe` says why workers cannot be forked from it, or ''.

    `kinds` names the kinds of what the import left behind, and `advice` what to do about them;
    both are empty where each worker imports for itself because the settings say so. `handlers`
    names the application's signal handlers that workers replace.
    """

    generation: int
    fingerprint: str
    seconds: float
    unsafe: str = ""
    kinds: str = ""
    advice: str = ""
    handlers: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of this process, said before it leaves: the stage, and the app's own traceback."""

    stage: str
    reason: str
    traceback: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Unspawned:
    """The zygote could not fork the worker of this row."""

    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Certified:
    """Certificates were loaded (of `Certificates`, or with number 0 those of `Boot`), or not.

    `fault` says why not, or ''; then what was loaded before stays in use.
    """

    number: int
    fault: str = ""
    remedy: str = ""
    warnings: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of servers
    expires: float = 0.0  # the first of them, wall-clock seconds


# worker → master
@dataclass(frozen=True, slots=True)
class Hello:
    """A newborn exists and is the master's child."""

    pid: int
    slot: int
    row: int
    generation: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker accepts connections."""

    pid: int
    slot: int
    generation: int
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Leaving:
    """The worker wants to go and goes on serving until it is retired: replace it first.

    `recycle`: it is well, and has served as long as the settings let it.
    """

    reason: str
    recycle: bool = False


@dataclass(frozen=True, slots=True)
class Unwell:
    """What a worker found at a beat: itself busy or stalled (`core.vitals`), with its stacks; or
    "recovered", from that or from having stood still; or the sibling in that row "silent"."""

    kind: str
    reason: str
    text: str = ""
    row: int = -1


@dataclass(frozen=True, slots=True)
class Draining:
    """The worker accepts no more, and siblings were given its idle connections: who asks from now
    on is answered by another."""


@dataclass(frozen=True, slots=True)
class Dumped:
    """Stacks of a worker, asked for by `Dump`, as text."""

    text: str


# master → worker
@dataclass(frozen=True, slots=True)
class Drain:
    """Stop accepting, finish what is in hand, leave within `within` seconds.

    `why`: "reload", "scale", "stop", "pause", … for the app's notice and the log.
    `last`: nobody serves these listeners after us: empty the accept queue before letting go.
    `handover`: idle connections may be handed to a sibling.
    """

    why: str
    within: float
    last: bool = False
    handover: bool = True


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave now; whatever is in hand is dropped. With `dump`, say first where it was."""

    dump: bool = False


@dataclass(frozen=True, slots=True)
class Dump:
    """Answer with `Dumped`."""


@dataclass(frozen=True, slots=True)
class Reopen:
    """The log was reopened. fds: the new log."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Serve these listeners too, which no worker serves now. fds: the listeners."""

    listeners: list[str]


@dataclass(frozen=True, slots=True)
class Uncover:
    """Close these listeners: their own worker is back, and accepts what waits in them."""

    listeners: list[str]


@dataclass(frozen=True, slots=True)
class Empty:
    """Accept what waits in these listeners, then close them: no other process has them.

    fds: the listeners, which are closed to newcomers.
    """

    listeners: list[str]


@dataclass(frozen=True, slots=True)
class Lasting:
    """These of a worker's listeners are open after the cluster has ended, however it ends."""

    listeners: list[str]


Message = (
    Boot
    | Spawn
    | Sockets
    | Certificates
    | Leave
    | Loaded
    | Failed
    | Unspawned
    | Certified
    | Hello
    | Ready
    | Leaving
    | Unwell
    | Draining
    | Dumped
    | Drain
    | Quit
    | Dump
    | Reopen
    | Cover
    | Uncover
    | Empty
    | Lasting
)

# What a child says, or the master says of it, where it is of another version than the master.
UNFIT = Failed(
    "start",
    "clusterd was changed on disk, and does not fit the master that runs",
    remedy="Say clusterd upgrade, or restart clusterd where that is refused.",
)

WIRE: dict[str, type[Message]] = {cls.__name__: cls for cls in Message.__args__}
