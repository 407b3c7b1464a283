"""The accept loop: one a turn, under the gate, through every error that accept can report."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from clusterd.ipc.scoreboard import NOBODY, Cell, Scoreboard
from clusterd.worker.accept import LOOK_AGAIN, SETTLING, Acceptor, Listener, Source
from clusterd.worker.gate import Gate


class FakeTimer:
    def __init__(self, seconds: float, callback: Callable[[], None]) -> None:
        self.seconds, self.callback, self.cancelled = seconds, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Notes readers and timers; the test says what happens."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}
        self.timers: list[FakeTimer] = []

    def add_reader(self, fd: int, callback: Any, *args: Any) -> None:
        self.readers[fd] = lambda: callback(*args)

    def remove_reader(self, fd: int) -> bool:
        return self.readers.pop(fd, None) is not None

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        self.timers.append(FakeTimer(seconds, callback))
        return self.timers[-1]

    def ring(self) -> float:
        """The newest timer goes off. How long it had been set to."""
        timer = self.timers.pop()
        timer.callback()
        return timer.seconds


class FakeSource:
    """Accepts what the script says: a number is a descriptor, an errno's OSError is raised."""

    gated = True
    stays = False
    make = None
    secure = False

    def __init__(self, name: str = "fake", number: int = 1000) -> None:
        self.name = name
        self.number = number
        self.script: list[int | OSError] = []
        self.refuses = False
        self.closed = False

    def fileno(self) -> int:
        return self.number

    def take(self) -> int:
        if not self.script:
            raise BlockingIOError(errno.EAGAIN, "none")
        what = self.script.pop(0)
        if isinstance(what, OSError):
            raise what
        return what

    def family_of(self, fd: int) -> int:
        return socket.AF_INET

    def has_listened(self) -> bool:
        return True

    def refuse_newcomers(self) -> None:
        self.refuses = True

    def close(self) -> None:
        self.closed = True


class FakeHost:
    """The server, as far as accepting goes."""

    def __init__(self) -> None:
        self.open = 0
        self.busy = False
        self.room_by_shedding = False
        self.refused: list[int] = []

    @property
    def load(self) -> int:
        return 10 if self.busy else self.open

    def shed(self) -> bool:
        return self.room_by_shedding

    def refuse(self, sock: socket.socket, secure: bool) -> None:
        self.refused.append(sock.detach())


class Bench:
    """An acceptor on fakes."""

    def __init__(self, board: Scoreboard, cap: int = 10) -> None:
        self.loop = FakeLoop()
        self.host = FakeHost()
        self.board = board
        self.source = FakeSource()
        self.attached: list[int] = []
        self.bugs: list[Exception] = []
        self.now = 100.0
        gate = Gate(board, 0, cap, self.clock)
        self.acceptor = Acceptor(
            self.loop,  # type: ignore[arg-type]  # as much of a loop as it asks for
            self.host,
            asyncio.Protocol,
            gate,
            self.bugs.append,
            self.clock,
            self.attach,
        )
        self.acceptor.add(self.source)
        self.acceptor.start()

    def clock(self) -> float:
        return self.now

    def attach(self, _loop: object, _make: object, fd: int, _family: int) -> None:
        self.attached.append(fd)
        self.host.open += 1

    def is_watched(self) -> bool:
        return self.source.number in self.loop.readers

    def turn(self, *script: int | OSError) -> None:
        """The source is readable, once a connection accepted before has had its turn."""
        for _ in range(SETTLING if self.attached else 0):
            self.readable()
        self.readable(*script)

    def readable(self, *script: int | OSError) -> None:
        """One callback of the loop."""
        self.source.script += script
        self.loop.readers[self.source.number]()

    def sibling(self, connections: int) -> None:
        self.board.gate[1] = connections
        self.board.row(1)[Cell.HEARTBEAT] = int(self.now * 1e6)


@pytest.fixture
def bench(board: Scoreboard) -> Bench:
    return Bench(board)


def test_takes_one_a_turn_and_shows_it_at_once(bench: Bench) -> None:
    bench.turn(7, 8)

    assert bench.attached == [7]
    assert bench.board.gate[0] == 1


def test_holding_back_looks_away_and_looks_again(bench: Bench) -> None:
    """A reader left in place on a socket that is not accepted from would spin."""
    bench.host.open = 5
    bench.sibling(0)

    bench.turn(7)
    assert not bench.is_watched()
    assert bench.attached == []
    bench.sibling(5)
    assert bench.loop.ring() == LOOK_AGAIN
    assert bench.is_watched()
    bench.turn()
    assert bench.attached == [7]
    assert bench.acceptor.held_back == 1


def test_an_ungated_source_does_not_look_at_siblings(bench: Bench) -> None:
    """With reuseport the kernel has chosen: nobody else could take it."""
    bench.source.gated = False
    bench.host.open = 5
    bench.sibling(0)

    bench.turn(7)
    assert bench.attached == [7]


class FakePool:
    """Threads, all busy unless told otherwise."""

    is_full = True
    freed: Callable[[], None] | None = None

    def when_done(self, tell: Callable[[], None]) -> None:
        self.freed = tell


def test_without_a_free_thread_connections_stay_in_the_queue(bench: Bench) -> None:
    """Until one is free; then one is taken for it, though others may be waiting as well."""
    pool = FakePool()
    bench.acceptor.pool = pool  # type: ignore[assignment]  # as much of a pool as it asks for
    bench.turn(7)
    assert bench.attached == []
    assert not bench.is_watched()
    assert pool.freed is not None
    pool.freed()
    assert bench.is_watched()
    bench.turn()
    assert bench.attached == [7]
    bench.turn(8)
    assert bench.attached == [7]
    assert bench.acceptor.held_back == 2
    pool.freed()
    pool.is_full = False
    bench.turn()
    bench.turn(9)
    assert bench.attached == [7, 8, 9]


def test_a_thread_that_gets_free_late_starts_nothing(bench: Bench) -> None:
    """After a stop, nobody accepts."""
    pool = FakePool()
    bench.acceptor.pool = pool  # type: ignore[assignment]
    bench.turn(7)
    bench.acceptor.stop()
    assert pool.freed is not None
    pool.freed()
    assert not bench.is_watched()


def test_busy_threads_count_as_a_full_worker(bench: Bench) -> None:
    """The sibling with the free ones goes first, however many connections it has."""
    pool = FakePool()
    bench.acceptor.pool = pool  # type: ignore[assignment]
    bench.host.open = 1
    bench.host.busy = True
    bench.sibling(8)
    bench.turn(7)
    assert pool.freed is not None
    pool.freed()
    bench.turn()
    assert bench.attached == []
    assert not bench.is_watched()
    assert bench.loop.ring() == LOOK_AGAIN


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_out_of_resources_pauses_ever_longer_and_resumes(bench: Bench, name: str) -> None:
    """Meanwhile siblings do not wait for us."""
    error = OSError(getattr(errno, name), name)
    pauses = []
    for _ in range(6):
        bench.turn(error)
        assert not bench.is_watched()
        assert bench.board.gate[0] == NOBODY
        pauses.append(bench.loop.ring())
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert bench.board.gate[0] == 0

    bench.turn(7)
    assert bench.attached == [7]
    bench.turn(error)
    assert bench.loop.ring() == 0.1


def test_trouble_is_logged_once_a_second_at_most(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(9):
        bench.turn(OSError(errno.EMFILE, "Too many open files"))
        bench.loop.ring()
        bench.now += 0.25
    assert len(caplog.records) == 3


@pytest.mark.parametrize("name", ["ECONNABORTED", "EPROTO", "EAGAIN", "EHOSTUNREACH"])
def test_an_error_of_one_connection_stops_nothing(bench: Bench, name: str) -> None:
    bench.turn(OSError(getattr(errno, name), name), 7)
    assert bench.is_watched()

    bench.turn()
    assert bench.attached == [7]


def test_none_is_taken_until_the_one_before_had_its_turn(bench: Bench) -> None:
    """Its request may block the loop, and who came meanwhile would wait behind it."""
    bench.readable(7)
    bench.readable(8)
    assert bench.attached == [7]
    bench.readable()
    assert bench.attached == [7, 8]


def test_a_listener_that_was_shut_down_is_not_watched(bench: Bench) -> None:
    """It is readable for ever."""
    bench.turn(OSError(errno.EINVAL, "Invalid argument"))

    assert not bench.is_watched()
    assert bench.loop.timers == []


def test_at_the_cap_with_all_full_late_ones_are_shed_or_503(board: Scoreboard) -> None:
    bench = Bench(board, cap=2)
    bench.host.open = 2
    bench.host.room_by_shedding = True
    bench.turn(os.open("/dev/null", os.O_RDONLY))
    assert len(bench.attached) == 1

    bench.host.room_by_shedding = False
    left, right = socket.socketpair()
    with right:
        bench.turn(left.detach())
    assert len(bench.host.refused) == 1
    for fd in bench.attached + bench.host.refused:
        os.close(fd)


def test_at_the_cap_a_sibling_with_room_takes_it(board: Scoreboard) -> None:
    bench = Bench(board, cap=2)
    bench.host.open = 2
    bench.sibling(1)

    bench.turn(7)
    assert bench.attached == []
    assert bench.host.refused == []


def test_stopped_it_neither_watches_nor_wakes(bench: Bench) -> None:
    bench.host.open = 5
    bench.sibling(0)
    bench.turn(7)

    bench.acceptor.stop()
    assert bench.loop.timers[-1].cancelled
    assert bench.board.gate[0] == NOBODY
    assert not bench.source.closed


def test_a_sweep_takes_everything_whoever_is_busier(bench: Bench) -> None:
    bench.host.open = 9
    bench.sibling(0)
    bench.acceptor.stop()

    bench.source.script = [7, OSError(errno.ECONNABORTED, "gone"), 8]
    bench.acceptor.sweep()
    assert bench.attached == [7, 8]


def test_newcomers_are_refused_except_where_a_later_life_goes_on(bench: Bench) -> None:
    other = FakeSource("other", 2000)
    bench.acceptor.add(other)
    bench.acceptor.refuse_newcomers(["other"])
    assert (bench.source.refuses, other.refuses) == (True, False)


def test_a_source_that_only_we_have_is_emptied_and_closed(bench: Bench) -> None:
    other = FakeSource("other", 2000)
    other.script = [7, OSError(errno.ECONNABORTED, "gone"), 8]
    bench.acceptor.empty(other)
    assert bench.attached == [7, 8]
    assert other.closed


def test_sources_come_and_go(bench: Bench) -> None:
    """Another slot's listener, covered for a while."""
    other: Source = FakeSource("other", 2000)
    bench.acceptor.add(other)
    assert 2000 in bench.loop.readers

    bench.acceptor.drop("other")
    assert 2000 not in bench.loop.readers
    assert isinstance(other, FakeSource)
    assert other.closed
    assert bench.is_watched()


def test_an_error_of_ours_is_reported_not_swallowed(bench: Bench) -> None:
    bench.host.open = None  # type: ignore[assignment]  # whatever a bug may look like
    bench.turn(7)

    assert [type(bug) for bug in bench.bugs] == [TypeError]


def raise_(error: Exception) -> None:
    raise error


def test_a_unix_socket_that_does_not_listen_yet_is_looked_at_again(
    board: Scoreboard, loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """The master has it listen a moment after the worker has said that it is ready."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    acceptor = Acceptor(loop, FakeHost(), Echo, Gate(board, 0, 10), raise_)
    acceptor.add(Listener("x", sock))
    acceptor.start()

    async def talk() -> bytes:
        while acceptor._timer is None:  # until its first try has failed
            await asyncio.sleep(0)
        sock.listen(1)
        reader, writer = await asyncio.open_unix_connection(sock.getsockname())
        writer.write(b"hello")
        said = await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
        return said

    assert loop.run_until_complete(asyncio.wait_for(talk(), 30)) == b"hello"
    acceptor.close()


class ListensTooLate(Listener):
    """The master has it listen between the accept that fails and what we make of that."""

    __slots__ = ()

    def take(self) -> int:
        try:
            return super().take()
        except OSError:
            self._sock.listen(1)
            raise


def test_a_unix_socket_that_listens_right_after_our_try_is_not_given_up(
    board: Scoreboard, tmp_path: Path
) -> None:
    """It looks like one that was shut down: accept has failed, and it listens."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    bench = Bench(board)
    bench.acceptor.drop("fake")
    bench.acceptor.add(ListensTooLate("x", sock))
    bench.loop.readers[sock.fileno()]()
    bench.loop.ring()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sock.getsockname())
        bench.loop.readers[sock.fileno()]()
    assert len(bench.attached) == 1
    os.close(bench.attached[0])
    bench.acceptor.close()


def test_a_port_that_was_shut_down_is_watched_no_longer(
    board: Scoreboard, listener: socket.socket
) -> None:
    """By the application, say: it is readable for ever, and does not listen any more."""
    bench = Bench(board)
    bench.acceptor.drop("fake")
    bench.acceptor.add(Listener("x", listener))
    listener.shutdown(socket.SHUT_RD)
    bench.loop.readers[listener.fileno()]()
    assert not bench.loop.readers
    assert not bench.loop.timers


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are no subclasses

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def test_a_real_connection_is_attached_and_closed(
    board: Scoreboard, loop: asyncio.AbstractEventLoop, listener: socket.socket
) -> None:
    """The descriptor belongs to the transport: closing it leaves nothing open."""
    made: list[Echo] = []

    def make() -> Echo:
        made.append(Echo())
        return made[-1]

    acceptor = Acceptor(loop, FakeHost(), make, Gate(board, 0, 10), raise_)
    acceptor.add(Listener("x", listener))
    acceptor.start()

    async def talk() -> None:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        transport = made[0].transport
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        fd = sock.fileno()
        transport.close()
        assert await reader.read() == b""
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        writer.close()
        await writer.wait_closed()

    loop.run_until_complete(talk())
    acceptor.stop()
