"""A kernel of obedient, sulking or dying children. Time passes only when the master waits.

Sockets and messages are real (a socketpair is cheap); processes, signals and time are not.
"""

import errno
import heapq
import itertools
import os
import select
import signal
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from clusterd.core.errors import ConfigError
from clusterd.core.exits import Exit
from clusterd.ipc.channel import Channel, Closed, close_all
from clusterd.ipc.messages import (
    Boot,
    Certificates,
    Certified,
    Drain,
    Draining,
    Dump,
    Dumped,
    Failed,
    Hello,
    Leave,
    Leaving,
    Loaded,
    Message,
    Quit,
    Ready,
    Spawn,
    Unspawned,
)
from clusterd.kernel.child import AHEAD
from clusterd.kernel.descent import Orphan
from clusterd.kernel.memory import stored
from clusterd.kernel.oom import Killings, PressureEvent
from clusterd.kernel.privileges import Limits
from clusterd.kernel.real import Death, Halt, Kernel, Source


@dataclass
class Behaviour:
    """How the children of one generation behave. Times are seconds after the cue."""

    import_time: float = 0.5
    import_error: str = ""  # the zygote fails with this
    stage: str = "import"  # … and calls what failed this
    import_dies: bool = False  # it exits without a word
    unsafe: str = ""
    left: str = ""  # kinds of what the import left behind, where that is why
    fingerprint: str = "same"
    spawn_error: str = ""
    deaf_zygote: bool = False  # orders pile up in its channel
    ready_time: float | None = 0.1  # None: never
    dies_after: float | None = None  # seconds after ready (or after birth, if never ready)
    drain_time: float | None = 0.2  # None: never leaves by itself
    recycles_after: float | None = None  # seconds after ready, and more by slot
    answers_dumps: bool = True
    certificate_fault: str = ""  # the zygote cannot use certificates
    deaf_to_certificates: bool = False  # a worker never answers them
    dies_of_certificates: bool = False  # the zygote does


@dataclass
class Child:
    """A fake process: a zygote or a worker."""

    pid: int
    channel: Channel
    behaviour: Behaviour
    role: str
    generation: int = 0
    slot: int = -1
    row: int = -1
    ready: bool = False
    bare: bool = False  # a zygote that holds no application
    alive: bool = True
    heard: list[Message] = field(default_factory=list)


class Become(BaseException):
    """What execve(2) is to the master: nothing comes after it."""


@dataclass
class Tried:
    """How the trial of an upgrade goes."""

    time: float | None = 0.5  # None: it never ends
    says: str = "fit 9.9\n"
    code: int = 0


class FakeKernel(Kernel):
    """Behaves like `Kernel`, with children that live in this process."""

    def __init__(self, behaviour: Callable[[int], Behaviour] | None = None) -> None:
        self.behaviour = behaviour or (lambda _generation: Behaviour())
        self.time = 1000.0
        self.pids = itertools.count(100)
        self.children: dict[int, Child] = {}
        self.dead: list[Death] = []
        self.halted: list[Halt] = []
        self.senders: dict[int, int] = {}  # who sent a hello, by the pid that it claims
        self.not_ours: set[int] = set()  # pids that are no children of the master
        self.other_threads: list[int] = []
        self.does = "S"
        self.tracer = 0  # of whichever child
        self.kept_waiting: dict[int, float] = {}  # seconds for a CPU, by pid
        self.stubborn: set[int] = set()  # those of them that ignore SIGTERM
        self.strangers: dict[int, Orphan] = {}  # orphans that it was given
        self.blind = 0  # looks for orphans that fail
        self.pending: dict[signal.Signals, int] = {}
        self.watched: dict[int, tuple[Source, object, bool, bool]] = {}
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.killed: list[tuple[int, int]] = []
        self.oom = Killings(3, 1, ours=True)
        self.short_of_memory = ""
        self.triggers: list[socket.socket] = []  # what `press` sends to, one per event
        self.spawned: list[str] = []
        self.limited: dict[int, Limits] = {}  # those that were started with limits, by pid
        self.closed_to_user: ConfigError | None = None  # why none of those can begin
        self.spawn_errors: list[OSError] = []
        self.trial = Tried()
        self.trials: dict[int, int] = {}  # pid → where it writes
        self.become_errors: list[OSError] = []
        self.state = b""  # of a master that became another
        self.named: list[int] = []  # descriptors that it passed on
        self.terminal = False
        self.waits = 0
        self.idle = False  # the last wait would have slept for ever

    # --- what the master calls

    def adopt(self) -> None: ...

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    def has_terminal(self) -> bool:
        return self.terminal

    def signals(self) -> dict[signal.Signals, int]:
        pending, self.pending = self.pending, {}
        return pending

    def watch(self, source: Source, key: object, write: bool = False, read: bool = True) -> None:
        if source.fileno() < 0:
            raise ValueError("it is closed")  # as selectors do
        self.watched[source.fileno()] = (source, key, write, read)

    def unwatch(self, source: Source) -> None:
        self.watched.pop(source.fileno(), None)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def spawn(self, argv: Sequence[str], keep: Iterable[int], directory: str) -> int:
        if self.spawn_errors:
            raise self.spawn_errors.pop(0)
        (fd,) = keep
        pid, role = next(self.pids), argv[4]
        self.spawned.append(role)
        channel = Channel(socket.socket(fileno=os.dup(fd)))
        role = "zygote" if role == AHEAD else role  # which it will be
        self.children[pid] = Child(pid, channel, Behaviour(), role)
        return pid

    def spawn_limited(
        self,
        argv: Sequence[str],
        keep: Iterable[int],
        directory: str,
        limits: Limits,
        failed: Callable[[ConfigError], object],
    ) -> int:
        pid = self.spawn(argv, keep, directory)
        self.limited[pid] = limits
        if self.closed_to_user:
            failed(self.closed_to_user)
            self.end(self.children[pid], Exit.CONFIG)
        return pid

    def try_out(self, argv: Sequence[str], keep: Iterable[int], output: int, directory: str) -> int:
        if self.spawn_errors:
            raise self.spawn_errors.pop(0)
        how, pid = self.trial, next(self.pids)
        self.trials[pid] = os.dup(output)

        def end() -> None:
            if pid in self.trials:
                os.write(self.trials[pid], how.says.encode())
                self._over(pid, how.code)

        if how.time is not None:
            self.after(how.time, end)
        return pid

    def _over(self, pid: int, code: int) -> None:
        """A child that speaks through no channel dies, once."""
        if pid in self.trials:
            os.close(self.trials.pop(pid))
            self.dead.append(Death(pid, code))
            self.pending[signal.SIGCHLD] = 1

    def hold_signals(self) -> list[int]:
        return []

    def release_signals(self, mask: Iterable[int]) -> None: ...

    def recall(self, pending: Mapping[signal.Signals, int]) -> None:
        self.pending = {**pending, **self.pending}

    def become(self, argv: Sequence[str], keep: Iterable[int], directory: str) -> NoReturn:
        if self.become_errors:
            raise self.become_errors.pop(0)
        state, *self.named = keep
        self.state = stored(state)
        raise Become

    def kill(self, pid: int, number: int) -> None:
        self._over(pid, -number)
        self.killed.append((pid, number))
        if pid in self.strangers and (number == signal.SIGKILL or pid not in self.stubborn):
            del self.strangers[pid]
            self.dead.append(Death(pid, -number))
            self.pending[signal.SIGCHLD] = 1
        child = self.children.get(pid)
        if child is not None and number == signal.SIGKILL:
            self.end(child, -number)

    def expect_end(self, pid: int) -> None:
        """No child is traced here."""

    def is_child(self, pid: int) -> bool:
        return pid > 0 and pid not in self.not_ours

    def sender(self, pid: int, claimed: int) -> int:
        return self.senders.get(claimed, claimed)

    def waited(self, pid: int) -> float:
        return self.kept_waiting.get(pid, 0.0)

    def used(self, pid: int) -> float:
        return 0.25

    def orphans(self, known: set[int]) -> list[Orphan]:
        if self.blind:
            self.blind -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return [one for one in self.strangers.values() if one.pid not in known]

    def kill_group(self, leader: int, user: str, known: set[int]) -> None:
        """Programs of keepers are not played here."""

    def killings(self) -> Killings:
        return self.oom

    def pressure(self) -> str:
        return self.short_of_memory

    def pressure_event(self) -> PressureEvent | None:
        ours, theirs = socket.socketpair()  # urgent data is POLLPRI, too
        self.triggers.append(ours)
        return PressureEvent(theirs.detach())

    def reap(self) -> list[Death]:
        dead, self.dead = self.dead, []
        return dead

    def doing(self, pid: int) -> str:
        return self.does

    def own_tracer(self, pid: int) -> int:
        return self.tracer

    def halts(self) -> list[Halt]:
        halts, self.halted = self.halted, []
        return halts

    def threads(self, pid: int) -> list[int]:
        return [pid, *self.other_threads]

    def kill_thread(self, pid: int, thread: int, number: int) -> None:
        self.killed.append((thread, number))

    def wait(self, timeout: float | None) -> list[object]:
        """What is ready now; else time jumps to the next thing that happens, or to the timeout."""
        self.waits += 1
        self.idle = False
        end = None if timeout is None else self.time + timeout
        while True:
            self.pump()
            keys = self._ready()
            if keys:
                return keys
            due = self.timers[0][0] if self.timers else None
            if due is not None and (end is None or due <= end):
                self.time = max(self.time, due)
                heapq.heappop(self.timers)[2]()
                continue
            if end is None:
                self.idle = True
                return []
            self.time = max(self.time, end)
            return []

    def rest(self, seconds: float) -> None:
        self.time += seconds

    def _ready(self) -> list[object]:
        keys: list[object] = []
        if self.pending:
            keys.append("signals")
        poll = select.poll()
        for fd, (_, _, write, read) in self.watched.items():
            wanted = (select.POLLIN if read else 0) | (select.POLLOUT if write else 0)
            poll.register(fd, wanted)
        return keys + [self.watched[fd][1] for fd, _ in poll.poll(0)]

    # --- what tests call

    def press(self, words: str) -> None:
        """Let memory become short, and say so to the event that waits for it."""
        self.short_of_memory = words
        self.triggers[-1].send(b"!", socket.MSG_OOB)

    def send(self, number: signal.Signals) -> None:
        self.pending[number] = self.pending.get(number, 0) + 1

    def workers(self, generation: int | None = None) -> list[Child]:
        return [
            child
            for child in self.children.values()
            if child.role == "worker" and generation in (None, child.generation)
        ]

    def zygotes(self) -> list[Child]:
        return [child for child in self.children.values() if child.role == "zygote"]

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (self.time + seconds, next(self.order), act))

    def end(self, child: Child, code: int) -> None:
        """A child dies: its channel closes, its status waits to be reaped."""
        if child.alive:
            child.alive = False
            self.children.pop(child.pid, None)
            child.channel.close()
            self.dead.append(Death(child.pid, code))
            self.pending[signal.SIGCHLD] = 1

    def close(self) -> None:
        for child in self.children.values():
            child.channel.close()
        for trigger in self.triggers:
            trigger.close()

    # --- how children behave

    def pump(self) -> None:
        """Let every child hear what it was sent, until all is quiet."""
        heard = True
        while heard:
            heard = False
            for child in list(self.children.values()):
                deaf = child.role == "zygote" and child.behaviour.deaf_zygote
                while child.alive and not deaf:
                    got = child.channel.receive(block=False)
                    if got is None:
                        break
                    if isinstance(got, Closed):
                        self.end(child, 0)
                        break
                    heard = True
                    self._hear(child, *got)

    def _hear(self, child: Child, message: Message, fds: list[int]) -> None:
        child.heard.append(message)
        match message:
            case Boot():
                child.generation = message.generation
                child.behaviour = self.behaviour(message.generation)
                child.bare = message.config["app"]["preload"] == "never"
                if child.role == "zygote" and child.bare:
                    child.channel.send(Loaded(child.generation, "", 0.0, "preload is never"))
                elif child.role == "zygote":
                    self.after(child.behaviour.import_time, lambda: self._imported(child))
            case Spawn() if child.role == "zygote" and child.behaviour.unsafe:
                assert not child.bare, "there is nothing to make a worker of"
                child.role, child.bare = "worker", False
                child.channel.close()
                child.channel = Channel(socket.socket(fileno=os.dup(fds[0])))
                self._born(child, message)
            case Spawn() if child.role == "zygote":
                self._fork(child, message, fds)
            case Spawn():
                self._born(child, message)
            case Leave():
                self.end(child, 0)
            case Drain():
                child.channel.send(Draining())
                time = child.behaviour.drain_time
                if time is not None:
                    self.after(time, lambda: self.end(child, 0))
            case Quit():
                if child.behaviour.drain_time is not None:
                    self.end(child, 0)
            case Dump() if child.behaviour.answers_dumps:
                child.channel.send(Dumped(f"stack of {child.pid}"))
            case Certificates():
                self._certify(child, message.number)
        close_all(fds)

    def _certify(self, child: Child, number: int) -> None:
        how = child.behaviour
        if child.role == "worker":
            if not how.deaf_to_certificates:
                child.channel.send(Certified(number))
        elif how.dies_of_certificates:
            self.end(child, 1)
        else:
            child.channel.send(Certified(number, how.certificate_fault, names=["a.example"]))

    def _imported(self, zygote: Child) -> None:
        how = zygote.behaviour
        if not zygote.alive:
            return
        if how.import_error:
            zygote.channel.send(Failed(how.stage, how.import_error, "Traceback …"))
            self.end(zygote, 3)
        elif how.import_dies:
            self.end(zygote, 1)
        else:
            zygote.channel.send(
                Loaded(
                    zygote.generation,
                    how.fingerprint,
                    how.import_time,
                    how.unsafe,
                    how.left,
                    "Mend.",
                )
            )

    def _fork(self, zygote: Child, order: Spawn, fds: list[int]) -> None:
        if zygote.behaviour.spawn_error:
            zygote.channel.send(Unspawned(order.row, zygote.behaviour.spawn_error))
        else:
            channel = Channel(socket.socket(fileno=os.dup(fds[0])))
            pid = next(self.pids)
            child = Child(pid, channel, zygote.behaviour, "worker")
            self.children[pid] = child
            self._born(child, order)

    def _born(self, child: Child, order: Spawn) -> None:
        child.slot, child.row, child.generation = order.slot, order.row, order.generation
        child.channel.send(Hello(child.pid, order.slot, order.row, order.generation))
        how = child.behaviour
        if how.ready_time is not None:
            self.after(how.ready_time, lambda: self._ready_now(child))
        elif how.dies_after is not None:
            self.after(how.dies_after, lambda: self.end(child, 1))

    def _ready_now(self, child: Child) -> None:
        if not child.alive:
            return
        child.ready = True
        fingerprint = child.behaviour.fingerprint
        child.channel.send(Ready(child.pid, child.slot, child.generation, fingerprint))
        if child.behaviour.dies_after is not None:
            self.after(child.behaviour.dies_after, lambda: self.end(child, 1))
        if child.behaviour.recycles_after is not None:
            when = child.behaviour.recycles_after * (1 + child.slot / 10)
            self.after(when, lambda: self._recycle(child))

    def _recycle(self, child: Child) -> None:
        if child.alive:
            child.channel.send(Leaving("max_age", recycle=True))
