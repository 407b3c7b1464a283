"""Decide what of that which an import left behind may cross a fork.

One table: each kind of thing, how it is recognized and what follows from it. To add a kind, add a
row to `KINDS`; a thing of another type than `kernel.resources` reads is passed to `judge` beside
them. The facts are read in one place, `take`.
"""

import enum
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from clusterd.kernel import resources
from clusterd.kernel.fork import try_fork
from clusterd.kernel.resources import Child, Descriptor, Resources, Thread
from clusterd.zygote import log_queues
from clusterd.zygote.image import Identity, SharedDraws
from clusterd.zygote.patched import Replaced

MOST = 12  # things that a message names; the rest is counted
MOVE = "Do it in lifespan startup, or for WSGI at the first request."
LONGEST = 200  # characters of one thing's description


class Verdict(enum.IntEnum):
    """What follows from a thing that the import left behind. The gravest one counts."""

    HARMLESS = 0  # it may be shared, or works again in the child
    RESET = 1  # clusterd makes it work in each forked worker
    PER_WORKER = 2  # fork nothing: each worker imports for itself
    REFUSE = 3  # the application cannot be served


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table.

    `recognize` returns what to call a thing of this kind ("a connection to 10.0.0.5:5432"), or ''
    for a thing that is of another kind.
    """

    name: str
    verdict: Verdict
    recognize: Callable[[object], str]
    advice: str = ""  # what to do about it


@dataclass(frozen=True, slots=True)
class Left:
    """One thing that the import left behind, and where in the application it was made."""

    kind: Kind
    what: str
    where: str = ""  # `shop/db.py:12`, or ''


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that an import left behind."""

    left: tuple[Left, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The gravest verdict of all that was left."""
        return max((one.kind.verdict for one in self.left), default=Verdict.HARMLESS)

    @property
    def _grave(self) -> list[Left]:
        return [one for one in self.left if one.kind.verdict >= Verdict.PER_WORKER]

    @property
    def reason(self) -> str:
        """Say why workers must not be forked from here, naming all of it; '' where they may."""
        grave = self._grave
        if not grave:
            return ""
        counted = Counter((one.what, one.where) for one in grave)
        named = [_named(what, where, count) for (what, where), count in counted.items()]
        more = f" and {len(named) - MOST} more" if len(named) > MOST else ""
        return f"the import left {', '.join(named[:MOST])}{more}"

    @property
    def kinds(self) -> str:
        """Name the kinds that are not harmless: `connections, threads`."""
        return ", ".join(dict.fromkeys(one.kind.name for one in self._grave))

    @property
    def advice(self) -> str:
        """Say what to do about all that is not harmless; '' where there is nothing."""
        grave = [one.kind for one in self._grave]
        general = [MOVE] if any(kind.verdict is Verdict.PER_WORKER for kind in grave) else []
        return " ".join([*general, *filter(None, dict.fromkeys(kind.advice for kind in grave))])


def _named(what: str, where: str, count: int) -> str:
    notes = [f"{count} times"] if count > 1 else []
    notes += [where] if where else []
    return f"{what[:LONGEST]} ({', '.join(notes)})" if notes else what[:LONGEST]


@dataclass(frozen=True, slots=True)
class Restartable:
    """A thread that is started again in each forked worker (`log_queues`)."""

    thread: Thread


Where = Callable[[object], str]


def nowhere(_: object) -> str:
    """Tell nothing of where a thing was made."""
    return ""


def take(earlier: Resources, also: Iterable[object] = (), where: Where = nowhere) -> Inventory:
    """Read what this process has beyond `earlier`, and judge it together with `also`.

    `where` tells in which line of the application a thing was made.

    Libraries that know about fork (OpenBLAS, gRPC) stop their threads before it and start them
    again when they are needed: where there are threads, fork once and look at those still there.
    """
    if resources.threads():
        try_fork(lambda: 0)
        resources.await_ending_threads(lambda thread: bool(_surviving(thread)))
    now = resources.read().since(earlier)
    restartable = log_queues.listening()
    threads = [Restartable(t) if t.number in restartable else t for t in now.threads]
    return judge([*threads, *now.descriptors, *now.children, *also], where)


def judge(things: Iterable[object], where: Where = nowhere) -> Inventory:
    """Classify each thing by the first row of the table that recognizes it; leave out the rest."""
    left = []
    for thing in things:
        for kind in KINDS:
            if what := kind.recognize(thing):
                left.append(Left(kind, what, _origin(thing) or where(thing)))
                break
    return Inventory(tuple(left))


# Native threads, by the kernel's names, whose libraries start them again in a forked child.
SURVIVING = {
    "jemalloc_bg_thd": "jemalloc's background thread",  # pyarrow's, and so pandas'
}


# Threads of Python, by their names, that a forked child does without.
DISPENSABLE = {
    "tqdm_monitor": "tqdm's monitor",  # adjusts how often bars in long loops are drawn
}


def _surviving(thing: object) -> str:
    """Recognize a thread that a forked child starts again by itself, or does not need."""
    if not isinstance(thing, Thread):
        return ""
    return DISPENSABLE.get(thing.name, "") if thing.name else SURVIVING.get(thing.comm, "")


def _restartable(thing: object) -> str:
    return f"the log queue's thread {thing.thread.name!r}" if isinstance(thing, Restartable) else ""


def _thread(thing: object) -> str:
    if not isinstance(thing, Thread):
        return ""
    if thing.name:
        return f"the thread {thing.name!r}"
    whose = thing.library or "native code"
    return f"the thread {thing.comm!r} of {whose}" if thing.comm else f"a thread of {whose}"


def _openmp(thing: object) -> str:
    """Recognize a thread of one of the libraries that run OpenMP's parallel regions."""
    found = isinstance(thing, Thread) and thing.library.startswith(("libgomp", "libiomp", "libomp"))
    return _thread(thing) if found else ""


def _of_kernel(target: str, what: str) -> Callable[[object], str]:
    """Recognize a descriptor of an object that only the kernel has."""

    def recognize(thing: object) -> str:
        found = isinstance(thing, Descriptor) and thing.target == f"anon_inode:{target}"
        return what if found else ""

    return recognize


def _one_way(thing: object) -> str:
    """Recognize a datagram socket that nothing can be sent back to: to /dev/log, say."""
    sock = thing.socket if isinstance(thing, Descriptor) else None
    if sock is None or sock.family != socket.AF_UNIX or sock.kind != socket.SOCK_DGRAM:
        return ""
    return "" if sock.name or sock.peer == "" else f"a log socket to {sock.peer or 'several'}"


def _pair(thing: object) -> str:
    """Recognize both ends of a socket pair: like a pipe, it is meant to be inherited."""
    sock = thing.socket if isinstance(thing, Descriptor) else None
    if sock is None or sock.peer != "" or sock.peer_pid != os.getpid():
        return ""
    return "a socket pair"


def _connection(thing: object) -> str:
    """Recognize a socket with a peer, whose responses any process could read."""
    sock = thing.socket if isinstance(thing, Descriptor) else None
    if sock is None or sock.peer is None or sock.family == socket.AF_NETLINK:
        return ""
    return f"a connection to {sock.peer or 'a Unix socket without a name'}"


def _listener(thing: object) -> str:
    sock = thing.socket if isinstance(thing, Descriptor) else None
    return f"a socket that listens at {sock.name}" if sock is not None and sock.listening else ""


def _receiver(thing: object) -> str:
    """Recognize a socket without a peer at which messages may arrive, for one process to take."""
    sock = thing.socket if isinstance(thing, Descriptor) else None
    if sock is None:
        return ""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        if sock.kind == socket.SOCK_RAW:
            return "a raw socket"
        bound = sock.kind == socket.SOCK_DGRAM and not sock.name.endswith(":0")
        return f"a UDP socket at {sock.name}" if bound else ""
    if sock.family == socket.AF_UNIX:
        return f"a socket at {sock.name}" if sock.name else ""
    return "" if sock.family == socket.AF_ALG else f"a socket of the family {sock.family}"


_DATABASES = (".db", ".sqlite", ".sqlite3", "-wal", "-shm", "-journal")


def _sqlite(thing: object) -> str:
    """Recognize a database by its first bytes, and one without content by its name."""
    if not isinstance(thing, Descriptor):
        return ""
    named = thing.empty and thing.target.endswith(_DATABASES)
    if thing.head.startswith(b"SQLite format 3\0") or named or thing.target.endswith("-shm"):
        return f"the open SQLite file {thing.target}"
    return ""


# mdb.c: MDB_MAGIC is the first word of a lock file, and comes after the first page's header.
_LMDB = (0xBEEFC0DE).to_bytes(4, sys.byteorder)


def _lmdb(thing: object) -> str:
    if not isinstance(thing, Descriptor):
        return ""
    named = thing.target.endswith(("/data.mdb", "/lock.mdb"))
    if named or thing.head[:4] == _LMDB or thing.head[16:20] == _LMDB:
        return f"the open LMDB file {thing.target}"
    return ""


def _locked(thing: object) -> str:
    if isinstance(thing, Descriptor) and thing.locked:
        return f"the locked file {thing.target}"
    return ""


def _read(thing: object) -> str:
    """Recognize a file that is read: all processes would move the one place that it is read at."""
    if not isinstance(thing, Descriptor) or not thing.reads:
        return ""
    virtual = thing.target.startswith(("/proc/", "/sys/", "/memfd:", "/dev/shm/"))
    return "" if virtual else f"the open file {thing.target}"


def _tracker(thing: object) -> str:
    """Recognize the process that multiprocessing's locks and shared memory are registered with."""
    found = isinstance(thing, Child) and "multiprocessing.resource_tracker" in thing.name
    return "multiprocessing's resource tracker" if found else ""


def _child(thing: object) -> str:
    return f"the process {thing.name!r}" if isinstance(thing, Child) else ""


def _replaced(thing: object) -> str:
    if not isinstance(thing, Replaced):
        return ""
    return f"{thing.by} replaced parts of the standard library ({', '.join(thing.names)})"


def _identity(thing: object) -> str:
    """Recognize what is meant for one process: all forked workers would have the same."""
    return thing.what if isinstance(thing, Identity) else ""


def _shared_draws(thing: object) -> str:
    if not isinstance(thing, SharedDraws):
        return ""
    return f"random values that forked workers share ({', '.join(thing.by)})"


def _origin(thing: object) -> str:
    """Return where in the application a thing was made, as far as it says so itself."""
    return thing.where if isinstance(thing, Identity) else ""


KINDS: tuple[Kind, ...] = (
    Kind(
        "patched standard library",
        Verdict.REFUSE,
        _replaced,
        "Take the monkey patch out: clusterd runs WSGI applications in threads (--threads), which "
        "need no greenlets.",
    ),
    Kind("surviving threads", Verdict.HARMLESS, _surviving),
    Kind("log queues", Verdict.RESET, _restartable),
    Kind(
        "OpenMP threads",
        Verdict.PER_WORKER,
        _openmp,
        "OMP_NUM_THREADS=1 keeps OpenMP from starting threads.",
    ),
    Kind("threads", Verdict.PER_WORKER, _thread),
    Kind("event loops", Verdict.PER_WORKER, _of_kernel("[eventpoll]", "an event loop")),
    Kind("io_urings", Verdict.PER_WORKER, _of_kernel("[io_uring]", "an io_uring")),
    Kind("file watches", Verdict.PER_WORKER, _of_kernel("inotify", "a file watch (inotify)")),
    Kind("log sockets", Verdict.HARMLESS, _one_way),
    Kind("socket pairs", Verdict.HARMLESS, _pair),
    Kind(
        "connections",
        Verdict.PER_WORKER,
        _connection,
        "A pool that is needed while importing can be emptied at its end (SQLAlchemy: "
        "engine.dispose()).",
    ),
    Kind("listening sockets", Verdict.PER_WORKER, _listener),
    Kind("receiving sockets", Verdict.PER_WORKER, _receiver),
    Kind("SQLite files", Verdict.PER_WORKER, _sqlite),
    Kind("LMDB files", Verdict.PER_WORKER, _lmdb),
    Kind("locked files", Verdict.PER_WORKER, _locked),
    Kind("open files", Verdict.PER_WORKER, _read),
    Kind("resource trackers", Verdict.HARMLESS, _tracker),
    Kind("processes", Verdict.PER_WORKER, _child),
    Kind(
        "identities",
        Verdict.PER_WORKER,
        _identity,
        "A secret that all workers share comes from the configuration.",
    ),
    Kind("shared draws", Verdict.HARMLESS, _shared_draws),
)
