"""The real kernel: what the master asks of the operating system, each call as thin as it can be."""

import contextlib
import errno
import os
import select
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import NoReturn, Protocol

from clusterd.core.errors import ConfigError
from clusterd.kernel import (
    become,
    child,
    descent,
    limited,
    privileges,
    process,
    schedule,
    threads,
    traced,
)
from clusterd.kernel.descent import Orphan
from clusterd.kernel.oom import Killings, PressureEvent, killings, pressure
from clusterd.kernel.privileges import Limits
from clusterd.kernel.process import become_subreaper, signal_group
from clusterd.kernel.signals import Wakeup
from clusterd.kernel.traced import Expected

HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)


SIGNALS = "signals"  # what `wait` returns where signals arrived, or a child may have ended


class Source(Protocol):
    """Anything with a descriptor that can be waited for."""

    def fileno(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Death:
    """A reaped child: its pid, and its exit status or minus the signal's number."""

    pid: int
    code: int


@dataclass(frozen=True, slots=True)
class Halt:
    """A child that a signal stopped, or that was continued: then `by` is empty."""

    pid: int
    by: str


class Kernel:
    """The seam: the master reaches the operating system through this and nothing else."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wakeup = Wakeup(HANDLED)
        self._reaped: set[int] = set()  # in this turn
        self._expected = Expected()

    def adopt(self) -> None:
        """Take signals, and the orphans among our descendants; SIGPIPE is ignored for good."""
        become_subreaper()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._wakeup.__enter__()
        self.watch(self._wakeup, SIGNALS)
        signal.raise_signal(signal.SIGCHLD)  # the zygote that was started ahead may have died

    def now(self) -> float:
        """Monotonic seconds. They stand still while the machine sleeps, and so do deadlines."""
        return time.monotonic()

    def wall(self) -> float:
        """Wall-clock seconds, for people only."""
        return time.time()

    def has_terminal(self) -> bool:
        """Do we have a controlling terminal (tty(4)), and is it still there?"""
        try:
            os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        except OSError as error:
            return error.errno in (errno.EMFILE, errno.ENFILE)  # then we cannot know; assume so
        return True

    def signals(self) -> dict[signal.Signals, int]:
        """Signals that arrived since the last call, in order."""
        return self._wakeup.drain()

    def watch(self, source: Source, key: object, write: bool = False, read: bool = True) -> None:
        """Have `wait` report `key` when `source` is readable (or writable, if asked)."""
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        try:
            self._selector.modify(source, events, key)
        except KeyError:
            self._selector.register(source, events, key)

    def unwatch(self, source: Source) -> None:
        """Forget a source; nothing when it is not watched."""
        try:
            self._selector.unregister(source)
        except (KeyError, ValueError):
            return

    def wait(self, timeout: float | None) -> list[object]:
        """Block until something happens; the keys of what did. The master's only wait."""
        self._reaped.clear()
        if (due := self._expected.due) < inf:
            left = max(0.0, due - self.now())
            timeout = left if timeout is None else min(left, timeout)
        keys = [key.data for key, _ in self._selector.select(timeout)]
        if due <= self.now() and SIGNALS not in keys:
            keys.append(SIGNALS)  # so that `reap` is called
        return keys

    def rest(self, seconds: float) -> None:
        """Wait for nothing but signals; they are still there for `wait` to report."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        poll.poll(seconds * 1000)

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two ends of a packet channel, close-on-exec."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def pipe(self) -> tuple[int, int]:
        """A pipe (read, write), close-on-exec; the read end does not block."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        return read, write

    def spawn(self, argv: Sequence[str], keep: Iterable[int], directory: str) -> int:
        """Start a fresh process that inherits `keep`; the master goes to `directory` first."""
        os.chdir(directory)  # a symlink deploy: today's directory behind the same name
        return child.start(argv, keep)

    def spawn_limited(
        self,
        argv: Sequence[str],
        keep: Iterable[int],
        directory: str,
        limits: Limits,
        failed: Callable[[ConfigError], object],
    ) -> int:
        """Start a fresh process that has limits, and is another user, before it executes anything.

        `failed` is called in it where that cannot be.
        """
        os.chdir(directory)
        return limited.start_limited(argv, keep, limits, failed)

    def try_out(self, argv: Sequence[str], keep: Iterable[int], output: int, directory: str) -> int:
        """Start what we want to become, to see whether it can; it writes to `output`."""
        os.chdir(directory)
        return child.start(argv, keep, output)

    def hold_signals(self) -> list[int]:
        """Block all signals; the mask as it was."""
        return become.hold_signals()

    def release_signals(self, mask: Iterable[int]) -> None:
        """The mask as it was; what came meanwhile comes now."""
        become.release_signals(mask)

    def recall(self, pending: Mapping[signal.Signals, int]) -> None:
        """Have signals that `signals` told of be told once more."""
        self._wakeup.recall(pending)

    def become(self, argv: Sequence[str], keep: Iterable[int], directory: str) -> NoReturn:
        """Execute this in our place; it inherits `keep`. Raises OSError and has changed nothing."""
        os.chdir(directory)
        become.become(argv, keep)

    def kill(self, pid: int, number: int) -> None:
        """Signal a child; nothing once it was reaped, since its pid may be another's by then."""
        if pid in self._reaped:
            return
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            return  # gone, or it became another user: then it is not ours to signal
        if number == signal.SIGKILL:
            self._expected.add(pid, self.now(), killed=True)

    def expect_end(self, pid: int) -> None:
        """Have `reap` return a child's end, if it has ended, also where a tracer hides it.

        Its channel is closed. `kill` expects the end, too.
        """
        if pid not in self._reaped:
            self._expected.add(pid, self.now(), killed=False)

    def is_child(self, pid: int) -> bool:
        """Return whether this is a child of ours: alive, not yet reaped, or reaped in this turn."""
        if pid in self._reaped:
            return True
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except (OSError, OverflowError):  # none of ours, or no pid
            return False
        return pid > 0

    def sender(self, pid: int, claimed: int) -> int:
        """The process that the kernel says a message is from, whatever that process claims."""
        return pid

    def waited(self, pid: int) -> float:
        """Seconds that a child has waited for a CPU since it started; 0 for none."""
        return schedule.waited(pid)

    def used(self, pid: int) -> float:
        """Seconds of CPU that a child has used; 0 for none."""
        return schedule.used(pid)

    def orphans(self, known: set[int]) -> list[Orphan]:
        """Return children that were given to us when their parents ended, and whose ancestor of
        ours has ended, too. `known`: children that we started."""
        strangers = [pid for pid in descent.children() if pid not in known]
        found = [descent.orphan(pid) for pid in strangers if process.doing(pid) != "Z"]
        return [one for one in found if one is not None]

    def kill_group(self, leader: int, user: str, known: set[int]) -> None:
        """Kill what is left of the process group of a child's child, whose parent has died.

        `leader` stands where programs of `user` may have written it. So it must be the group of
        processes that were given to us with that death, and of none of `known`, our own children.
        Raises OSError.
        """
        left = descent.members(leader)
        if not left or left & known:
            return
        if user and os.geteuid() == 0:
            privileges.kill_group_as(user, leader)
        else:
            signal_group(leader, signal.SIGKILL)

    def kill_thread(self, pid: int, thread: int, number: int) -> None:
        """Signal one thread of a child."""
        threads.kill(pid, thread, number)

    def threads(self, pid: int) -> list[int]:
        """The ids of a child's threads, the main one first."""
        return threads.of(pid)

    def doing(self, pid: int) -> str:
        """What the kernel says a child does, in a letter (proc(5)); '' once it is gone."""
        return process.doing(pid)

    def own_tracer(self, pid: int) -> int:
        """Return the process that traces a child, if it was started below us; 0 for none."""
        return traced.own_tracer(pid)

    def halts(self) -> list[Halt]:
        """Children that were stopped or continued since the last call; SIGCHLD tells of them."""
        found: list[Halt] = []
        which = os.WSTOPPED | os.WCONTINUED | os.WNOHANG
        while True:
            try:
                one = os.waitid(os.P_ALL, 0, which)
            except ChildProcessError:
                return found
            if one is None:
                return found
            stopped = one.si_code != os.CLD_CONTINUED
            found.append(Halt(one.si_pid, signal.Signals(one.si_status).name if stopped else ""))

    def killings(self) -> Killings:
        """How often the kernel has ended processes of ours for want of memory."""
        return killings()

    def pressure(self) -> str:
        """Return how short memory is, in words, or '' while there is enough of it."""
        return pressure()

    def pressure_event(self) -> PressureEvent | None:
        """Return what is readable when memory becomes short; None where nothing reports it."""
        return PressureEvent.create()

    def reap(self) -> list[Death]:
        """Everyone who died, strangers included (pid 1 and subreapers get those too)."""
        ended = [*_waited(), *self._expected.ended(self.now())]
        self._reaped.update(pid for pid, _ in ended)
        for pid, _ in ended:
            self._expected.forget(pid)
        return [Death(pid, os.waitstatus_to_exitcode(status)) for pid, status in ended]


def _waited() -> Iterator[tuple[int, int]]:
    """Wait for all children that have ended; yield each with its status."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended
