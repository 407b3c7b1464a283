"""The generators, from their parent's side: how many, who does what, started, heard and ended.

They are processes, since one cannot send what some servers can answer, and so that nothing of ours
is in their way. Each ends when its stdin does: with us, whatever ended us.
"""

import fcntl
import math
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import IO

import clusterd
from clusterd.bench import orders
from clusterd.bench.doubts import BUSY
from clusterd.bench.errors import GeneratorFailed, Unreachable
from clusterd.bench.interval import Interval
from clusterd.bench.load import HTTP, Load, Target
from clusterd.bench.results import Turn
from clusterd.core.errors import ConfigError

# Requests a second that one generator is trusted with in the open loop: about half of what it can
# send at most on a core of 2020, see benchmarks/results.
PLAIN_RATE, COSTLY_RATE = 30_000.0, 8_000.0
SPARE_FILES = 100  # descriptors that a process has open besides connections
PIPE = 1 << 20  # bytes: what a generator can say while we are late, without waiting for us
HEAD_START = 0.03  # seconds between `go` being said and the start
STOP_LIMIT = 5.0  # seconds
LAST = 2000  # bytes of its stderr


def processes(load: Load, cpus: int) -> int:
    """How many generators to begin with, where `cpus` may run them.

    As many as the rate needs, one in the closed loop; and as open files allow.
    """
    costly = load.fresh or load.protocol != HTTP
    wanted = math.ceil(load.rate / (COSTLY_RATE if costly else PLAIN_RATE))
    wanted = min(wanted, max(1, cpus))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY:
        wanted = max(wanted, math.ceil(load.connections / max(1, most - SPARE_FILES)))
    return max(1, min(wanted, load.connections))


def more(turn: Turn, cpus: int) -> int:
    """How many to take the same turn with again: the same number, unless it was too few and there
    are CPUs for more. Of those that the server runs on too, one in four: more would take from it
    what they are to measure."""
    now = turn.generator.processes
    if turn.generator.busiest < BUSY:
        return now
    most = cpus // 4 if turn.generator.shared else cpus
    return max(now, min(now * 2, most, turn.load.connections))


def share(load: Load, processes: int) -> list[Load]:
    """What each process does of the load; no more of them than connections. The rate follows the
    connections, so that none has fewer for its requests than the others."""
    count = max(1, min(processes, load.connections))
    each, rest = divmod(load.connections, count)
    own = [each + (number < rest) for number in range(count)]
    return [
        replace(load, connections=one, rate=load.rate * one / max(1, load.connections))
        for one in own
    ]


@dataclass(slots=True)
class Generator:
    """One of them. `said` is what came of a line that is not whole yet."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    load: Load
    said: bytearray = field(default_factory=bytearray)
    end: orders.Done | None = None
    failed: str = ""  # why it ended before its time

    @property
    def done(self) -> bool:
        """Whether nothing more will be heard of it."""
        return self.end is not None or bool(self.failed)


class Crew:
    """`with Crew(...) as crew: crew.connect(); crew.go(); while not crew.done: crew.intervals(1)`.

    Processes are pinned to one of `cpus` each, or to all where there are fewer; () for no pinning.
    `command` is what to run instead of our generator.
    """

    def __init__(
        self,
        target: Target,
        load: Load,
        processes: int = 1,
        cpus: Sequence[int] = (),
        *,
        seed: int = 0,
        command: Sequence[str] = (),
    ) -> None:
        self._target = target
        self._loads = share(load, processes)
        self._cpus = tuple(cpus)
        self._seed = seed
        self._command = list(command) or [sys.executable, "-m", "clusterd.bench.generator"]
        self._members: list[Generator] = []
        self._epoll = select.epoll()

    def __enter__(self) -> "Crew":
        try:
            for number, load in enumerate(self._loads):
                self._start(number, load)
        except OSError as error:
            self.stop()
            raise ConfigError(
                f"{len(self._loads)} generator processes cannot be started: {error.strerror}",
                "Take fewer --connections, or let more files be open: ulimit -n.",
            ) from error
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self, number: int, load: Load) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - until stop()
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=_environment(os.environ),
            start_new_session=True,  # Ctrl-C is for us; it ends with our end of its stdin
            bufsize=0,
        )
        self._members.append(Generator(process, errors, load))
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        with suppress(OSError):  # the user's pipes may be limited: pipe(7), pipe-user-pages-soft
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE)
        self._epoll.register(process.stdout, select.EPOLLIN)
        order = orders.Order(
            target=self._target,
            load=load,
            cpus=self._pinned(number),
            seed=self._seed + number,
            phase=number / len(self._loads),  # they take turns, instead of sending all at once
        )
        self._tell(self._members[-1], order.line())

    def _pinned(self, number: int) -> tuple[int, ...]:
        """One each, so that the kernel moves none of them."""
        if len(self._cpus) < len(self._loads):
            return self._cpus
        return (self._cpus[number],)

    @property
    def pids(self) -> list[int]:
        """Of all processes."""
        return [one.process.pid for one in self._members]

    @property
    def done(self) -> bool:
        """Whether nothing more will be heard of any."""
        return all(one.done for one in self._members)

    @property
    def over(self) -> list[int]:
        """The numbers of those of which nothing more will be heard."""
        return [index for index, one in enumerate(self._members) if one.done]

    @property
    def failures(self) -> list[str]:
        """Why some ended before their time; nothing if none did."""
        return [one.failed for one in self._members if one.failed]

    @property
    def ends(self) -> list[orders.Done]:
        """What those said at the end that came to it."""
        return [one.end for one in self._members if one.end is not None]

    def connect(self, timeout: float = 30.0) -> int:
        """Wait until all are connected; how many connections that makes.

        Raises Unreachable with what one of them says, or where it takes longer; ConfigError where
        what it is to do cannot be done; GeneratorFailed where it is broken.
        """
        deadline = time.monotonic() + timeout
        connected: dict[int, int] = {}
        while len(connected) < len(self._members):
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unreachable(
                    f"no connection in {timeout:g} s: {_where(self._target)} accepts none"
                )
            for index, said in self._heard(left):
                if isinstance(said, orders.Connected):
                    connected[index] = said.connections
                elif isinstance(said, orders.Failed):
                    kind = ConfigError if said.kind == "order" else Unreachable
                    raise kind(said.text or said.kind)
            if failures := self.failures:
                raise GeneratorFailed(failures[0])
        return sum(connected.values())

    def go(self) -> float:
        """Let all begin together; the time of it, by time.monotonic()."""
        start = time.monotonic_ns() + int(HEAD_START * 1e9)
        for one in self._members:
            self._tell(one, orders.go(start))
        return start / 1e9

    def intervals(self, timeout: float) -> list[tuple[int, Interval]]:
        """What was reported until now, with the number of the process; waits so many seconds at
        most for the first."""
        heard = self._heard(timeout)
        return [(index, said) for index, said in heard if isinstance(said, Interval)]

    def finish(self) -> None:
        """Ask all to end early, and to say what they have."""
        for one in self._members:
            self._tell(one, orders.STOP)

    def stop(self) -> None:
        """End all at once; nothing is left, also when interrupted: each ends by itself then."""
        try:
            for one in self._members:
                assert one.process.stdin is not None
                with suppress(OSError):
                    one.process.stdin.close()
            deadline = time.monotonic() + STOP_LIMIT
            for one in self._members:
                _wait(one.process, deadline)
        except BaseException:
            for one in self._members:
                one.process.kill()
            raise
        finally:
            self._let_go()

    def _let_go(self) -> None:
        for one in self._members:
            one.process.wait()  # has ended, or was killed
            for file in (one.process.stdout, one.errors):
                if file is not None:
                    file.close()
        self._members.clear()
        self._epoll.close()

    def _tell(self, one: Generator, line: bytes) -> None:
        """What has died is found out by its silence."""
        assert one.process.stdin is not None
        with suppress(OSError, ValueError):
            while line:
                line = line[one.process.stdin.write(line) or 0 :]

    def _heard(self, timeout: float) -> list[tuple[int, orders.Said]]:
        """All lines that are there, or the first that come in time."""
        heard: list[tuple[int, orders.Said]] = []
        ready = {fd for fd, _ in self._epoll.poll(max(0.0, timeout))} if not self.done else set()
        for index, one in enumerate(self._members):
            assert one.process.stdout is not None
            if not one.done and one.process.stdout.fileno() in ready:
                heard.extend((index, said) for said in self._lines(one))
        return heard

    def _lines(self, one: Generator) -> list[orders.Said]:
        assert one.process.stdout is not None
        data = one.process.stdout.read(PIPE)
        if data is None:
            return []
        one.said += data
        *lines, one.said = one.said.split(b"\n")
        found = [orders.said(bytes(line)) for line in lines]
        for said in found:
            if isinstance(said, orders.Done):
                one.end = said
        if not data and one.end is None:
            one.failed = self._why(one)
        if one.done:
            self._epoll.unregister(one.process.stdout)
        return found

    def _why(self, one: Generator) -> str:
        """How it ended that did not say it was done."""
        try:
            code = one.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            code = 0
        one.errors.seek(0)
        said = one.errors.read()[-LAST:].decode(errors="replace").strip()
        last = f": {said.splitlines()[-1]}" if said else ""
        return f"a generator process ended before its time, with {code}{last}"


def _wait(process: subprocess.Popen[bytes], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours, so that the generator finds the same clusterd, installed or not; and without the
    current directory, where anything may have a name that it imports."""
    told = environ.get("PYTHONPATH", "").split(os.pathsep)
    home = str(Path(clusterd.__file__).resolve().parent.parent)
    path = os.pathsep.join((home, *filter(os.path.isabs, told)))
    return {**environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _where(target: Target) -> str:
    return target.unix or f"{target.host} port {target.port}"
