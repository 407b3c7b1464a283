"""The hand-over queue: descriptors go from who drains to who is ready, and nothing is lost."""

import asyncio
import os
import resource
import select
import socket
from collections.abc import Iterator

import pytest

from clusterd.config.settings import Config
from clusterd.ipc.scoreboard import Scoreboard
from clusterd.worker.accept import Acceptor, Listener, Queue
from clusterd.worker.connection import Connection
from clusterd.worker.gate import Gate
from clusterd.worker.handover import Handover
from clusterd.worker.server import Server

ASK = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield pair
    for sock in pair:
        sock.close()


def dup(pair: tuple[socket.socket, socket.socket]) -> Handover:
    return Handover((pair[0].dup(), pair[1].dup()))


def test_a_descriptor_goes_through_and_ours_is_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    handover = Handover(pair)
    left, right = socket.socketpair()
    fd = left.detach()

    assert handover.has_room()
    assert handover.give(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with socket.socket(fileno=handover.take()) as taken, right:
        assert not taken.get_inheritable()
        taken.send(b"here")
        assert right.recv(10) == b"here"


def test_an_empty_queue_says_so(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(BlockingIOError):
        Handover(pair).take()


def test_a_full_queue_says_so_and_takes_nothing(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    handover = Handover(pair)
    left, right = socket.socketpair()
    with left, right:
        given = 0
        while handover.has_room():
            assert handover.give(os.dup(left.fileno()))
            given += 1
        spare = os.dup(left.fileno())
        while handover.give(spare):
            given += 1
            spare = os.dup(left.fileno())
        os.fstat(spare)  # it is still ours
        os.close(spare)
        for _ in range(given):
            os.close(handover.take())
        assert handover.has_room()


def test_to_see_whether_there_is_room_waits_for_none(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked in the loop's thread, for one connection after another."""
    waits = []

    class Full:
        def register(self, writer: socket.socket, events: int) -> None:
            assert (writer, events) == (pair[1], select.POLLOUT)

        def poll(self, timeout: float) -> list[tuple[int, int]]:
            waits.append(timeout)
            return []

    monkeypatch.setattr(select, "poll", Full)
    assert not Handover(pair).has_room()
    assert waits == [0]


def test_out_of_descriptors_the_queue_keeps_what_it_holds(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The kernel would drop the descriptor in the packet, and with it the connection."""
    handover = Handover(pair)
    left, right = socket.socketpair()
    assert handover.give(left.detach())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # all of those are in use
    try:
        with pytest.raises(OSError, match="Too many open files"):
            handover.take()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(handover.take())
    right.close()


async def answer(scope: dict[str, object], receive: object, send: object) -> None:
    """Says which path was asked for."""
    assert callable(send)
    body = str(scope["path"]).encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Worker:
    """The serving half of a worker, on a loop shared with its sibling."""

    def __init__(
        self, board: Scoreboard, row: int, loop: asyncio.AbstractEventLoop, handover: Handover
    ) -> None:
        self.server = Server(answer, Config(), loop, board.row(row), {})
        gate = Gate(board, row, 100)
        self.acceptor = Acceptor(loop, self.server, self.connect, gate, raise_)
        self.taken = 0
        self.acceptor.add(Queue(handover, self.connect, self.count))

    def connect(self) -> Connection:
        return Connection(self.server)

    def count(self) -> None:
        self.taken += 1


def raise_(error: Exception) -> None:
    raise error


def test_a_request_in_the_kernels_buffer_is_answered_by_the_sibling(
    board: Scoreboard,
    loop: asyncio.AbstractEventLoop,
    listener: socket.socket,
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The client sends while its connection is in nobody's hands, and notices nothing."""
    queues = dup(pair), dup(pair)
    old, new = (Worker(board, row, loop, queues[row]) for row in (0, 1))
    old.acceptor.drop("hand-over")
    old.acceptor.add(Listener("x", listener.dup()))

    async def story() -> None:
        old.acceptor.start()
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(ASK % 1)
        assert (await reader.readuntil(b"\r\n\r\n/1")).startswith(b"HTTP/1.1 200 ")
        old.acceptor.close()

        (connection,) = old.server.connections
        fd = connection.release()
        assert fd is not None
        assert queues[0].give(fd)
        writer.write(ASK % 2)
        while old.server.connections:
            await asyncio.sleep(0)
        new.acceptor.start()
        assert (await reader.readuntil(b"\r\n\r\n/2")).startswith(b"HTTP/1.1 200 ")
        assert new.taken == 1
        new.acceptor.stop()
        for left in list(new.server.connections):
            left.abort()
        writer.close()
        await writer.wait_closed()
        while new.server.connections:
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(story(), 10))
    for queue in queues:
        queue.close()
