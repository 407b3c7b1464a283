"""A generator as its parent sees it: a real process, told and heard over pipes."""

import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from time import monotonic_ns
from typing import IO

import pytest

from clusterd.bench import http, orders, sse, websocket
from clusterd.bench.generator import kind_of
from clusterd.bench.interval import INTERVAL, Interval
from clusterd.bench.load import SSE, WEBSOCKET, Load, Target
from clusterd.bench.orders import Connected, Done, Failed, Order, Said

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LIMIT = 30.0  # seconds


class Generator:
    """The process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clusterd.bench.generator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin: IO[bytes] = self.process.stdin
        self.stdout: IO[bytes] = self.process.stdout

    def tell(self, line: bytes) -> None:
        self.stdin.write(line)
        self.stdin.flush()

    def next(self) -> Said:
        return orders.said(self.stdout.readline())

    def rest(self) -> list[Said]:
        """All to its end, which is a good one."""
        said = [orders.said(line) for line in self.stdout]
        assert self.process.wait(LIMIT) == 0
        return said


@pytest.fixture
def target() -> Iterator[Target]:
    """Of a server that answers on one connection after another."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                end, _ = listener.accept()
            except OSError:
                return
            with end:
                while answer(end):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield Target("http", *listener.getsockname())
    listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    listener.close()


@pytest.fixture
def generator(target: Target) -> Iterator[Generator]:
    """It goes before the server does, which waits for its requests."""
    made = Generator()
    yield made
    made.process.kill()
    made.process.wait(LIMIT)
    made.stdin.close()
    made.stdout.close()


def answer(end: socket.socket) -> bool:
    try:
        if end.recv(65536):
            end.sendall(OK)
            return True
    except ConnectionError:
        pass
    return False


def test_an_order_is_carried_out(generator: Generator, target: Target) -> None:
    load = Load(connections=1, duration=INTERVAL * 2)
    generator.tell(Order(target, load).line())
    assert generator.next() == Connected(1)
    generator.tell(orders.go(monotonic_ns()))

    *intervals, done = generator.rest()

    assert [one.number for one in intervals if isinstance(one, Interval)] == [0, 1]
    answered = sum(one.requests for one in intervals if isinstance(one, Interval))
    assert isinstance(done, Done)
    assert answered + done.unanswered == done.sent > 1
    assert done.seconds == INTERVAL * 2
    assert done.texts == {}


def test_a_rate_is_kept_to_by_schedule(generator: Generator, target: Target) -> None:
    """Requests that take their time on the way there are made up for: none is left out."""
    load = Load(connections=1, duration=INTERVAL, rate=400)
    generator.tell(Order(target, load).line())
    assert generator.next() == Connected(1)
    generator.tell(orders.go(monotonic_ns()))

    *_, done = generator.rest()

    assert isinstance(done, Done)
    assert (done.sent + done.behind, done.unanswered) == (100, 0)


@pytest.mark.parametrize("how", ["stop", "the end of its stdin"])
def test_it_ends_early_when_it_is_told_or_left_alone(
    generator: Generator, target: Target, how: str
) -> None:
    generator.tell(Order(target, Load(connections=1, duration=60.0)).line())
    assert generator.next() == Connected(1)
    generator.tell(orders.go(monotonic_ns()))
    assert isinstance(generator.next(), Interval)
    if how == "stop":
        generator.tell(orders.STOP)
    else:
        generator.stdin.close()

    *_, done = generator.rest()

    assert isinstance(done, Done)
    assert INTERVAL <= done.seconds < 60


def test_one_that_is_left_alone_before_the_start_ends(generator: Generator, target: Target) -> None:
    generator.tell(Order(target, Load(connections=1)).line())
    assert generator.next() == Connected(1)
    generator.stdin.close()

    assert generator.rest() == [Done()]


def test_one_without_an_order_ends(generator: Generator) -> None:
    generator.stdin.close()
    assert generator.rest() == []


def test_why_it_cannot_begin_is_said(generator: Generator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    generator.tell(Order(Target("http", *address), Load(fresh=True)).line())

    (said,) = generator.rest()

    assert isinstance(said, Failed)
    assert said.kind == "connect"
    assert "nobody listens" in said.text


def test_what_is_no_order_is_refused(generator: Generator) -> None:
    generator.tell(b'{"target": "nonsense"}\n')

    (said,) = generator.rest()

    assert isinstance(said, Failed)
    assert said.kind == "order"


def test_what_it_prepares_is_its_own(generator: Generator, target: Target) -> None:
    """As many descriptors as it may have: each connection takes one."""
    _, most = resource.prlimit(generator.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(generator.process.pid, resource.RLIMIT_NOFILE, (64, most))
    generator.tell(Order(target, Load(connections=1, duration=60.0), cpus=(0,)).line())
    assert generator.next() == Connected(1)

    assert resource.prlimit(generator.process.pid, resource.RLIMIT_NOFILE) == (most, most)


@pytest.mark.parametrize(
    ("load", "kind"),
    [
        (Load(), http.HttpConnection),
        (Load(fresh=True), http.FreshConnection),
        (Load(pipeline=2), http.PipelinedConnection),
        (Load(pipeline=2, rate=5.0), http.HttpConnection),
        (Load(protocol=WEBSOCKET), websocket.WebSocketConnection),
        (Load(protocol=SSE), sse.SseConnection),
    ],
)
def test_each_load_has_its_clients(load: Load, kind: type) -> None:
    assert kind_of(load) is kind
