"""Both loops, against a server of a few lines in a thread of its own."""

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic_ns

import pytest

from clusterd.bench.closed import Closed
from clusterd.bench.dialer import Dialer
from clusterd.bench.http import HttpConnection
from clusterd.bench.interval import INTERVAL, Interval
from clusterd.bench.load import Load, Target
from clusterd.bench.loop import ARRIVING, Loop
from clusterd.bench.paced import Paced
from clusterd.bench.plan import made
from tests.unit.bench.answering import OK, Answer, Server


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Server]]:
    servers: list[Server] = []

    def serve(answer: Answer) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


class Run:
    """A loop with its connections, and what it said."""

    def __init__(self, loop: Callable[[Callable[[Interval], None]], Loop], server: Server) -> None:
        self.said: list[Interval] = []
        self.loop = loop(self.said.append)
        self.server = server

    def connect(self, connections: int) -> int:
        target = self.server.target
        dialer, plan = Dialer(target), made(target, Load(), seed=1)
        return self.loop.gather(
            [HttpConnection(self.loop, dialer, plan) for _ in range(connections)], 10.0
        )

    def drive(self, seconds: float) -> None:
        self.loop.drive(monotonic_ns(), seconds)

    def close(self) -> None:
        for connection in self.loop._connections:
            connection.close()
        self.loop._epoll.close()

    @property
    def requests(self) -> int:
        return sum(one.requests for one in self.said)

    @property
    def errors(self) -> dict[str, int]:
        return dict(sum((Counter(one.errors) for one in self.said), Counter[str]()))

    def latencies(self) -> dict[int, int]:
        return sum((Counter(one.latency) for one in self.said), Counter[int]())


Begin = Callable[..., Run]


@pytest.fixture
def begin(serve: Callable[[Answer], Server]) -> Iterator[Begin]:
    """A run that is connected."""
    runs: list[Run] = []

    def begin(
        answer: Answer, connections: int = 1, rate: float = 0.0, timeout: float = 30.0
    ) -> Run:
        def loop(heard: Callable[[Interval], None]) -> Loop:
            return Paced(timeout, heard, rate) if rate else Closed(timeout, heard)

        runs.append(Run(loop, serve(answer)))
        assert runs[-1].connect(connections) == connections
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


def always(answer: bytes | None) -> Answer:
    return lambda _number: answer


ok = always(OK)


def test_the_closed_loop_asks_as_it_is_answered(begin: Begin) -> None:
    run = begin(ok, connections=3)
    run.drive(INTERVAL * 1.2)

    assert run.loop.tally.sent == run.requests + run.loop.unanswered
    assert run.loop.unanswered == 3
    assert run.server.requests - run.requests in range(4)
    assert run.requests > 3
    assert run.errors == {}
    assert [one.number for one in run.said] == [0, 1]
    assert run.said[-1].connections == 3
    assert sum(one.bytes for one in run.said) == run.requests * len(OK)
    assert run.loop.left == 0


def test_the_open_loop_sends_what_is_due_before_the_end_and_no_more(begin: Begin) -> None:
    run = begin(ok, connections=2, rate=200)
    run.drive(0.3)

    assert run.loop.tally.sent == 60
    assert run.requests == run.server.requests == 60
    assert (run.loop.unanswered, run.loop.left) == (0, 0)
    assert sum(n for one in run.said for n in one.lag.values()) == 60
    assert sum(n for one in run.said for n in one.latency.values()) == 60


def test_what_is_due_while_all_are_busy_waits_and_its_wait_is_latency(begin: Begin) -> None:
    """No coordinated omission: a stall delays all that was due in it, and not only one."""
    held = threading.Event()

    def stall(number: int) -> bytes:
        if number == 5:
            held.wait(0.2)  # so long at least: nobody sets it
        return OK

    run = begin(stall, connections=1, rate=1000)
    run.drive(0.4)

    slow = sum(n for us, n in run.latencies().items() if us >= 100_000)
    assert slow >= 90  # of those that were due in its first half
    assert sum(one.waited for one in run.said) >= 90
    late = sum(n for one in run.said for us, n in one.lag.items() if us >= 100_000)
    assert late == 0  # it was not ours


def test_a_stall_in_the_last_moment_is_seen(begin: Begin) -> None:
    held = threading.Event()

    def stall(number: int) -> bytes:
        if number == 10:
            held.wait(0.3)
        return OK

    run = begin(stall, connections=1, rate=100)
    run.drive(0.11)

    assert max(run.latencies()) >= 250_000
    assert run.requests + run.loop.left == 11
    assert run.loop.unanswered == 0
    assert run.said[-1].drained >= 1  # the one that stalled came after the end


def test_overload_leaves_requests_behind_and_sends_none_of_them_late(begin: Begin) -> None:
    held = threading.Event()

    def slow(number: int) -> bytes:
        held.wait(0.02)
        return OK

    run = begin(slow, connections=1, rate=1000)
    run.drive(0.3)

    assert run.said[0].behind > 100
    assert run.loop.left == run.said[-1].behind == 300 - run.loop.tally.sent
    assert run.loop.tally.sent <= 16


def test_a_server_that_never_answers_is_given_up(begin: Begin) -> None:
    run = begin(always(b""), connections=2, timeout=0.1)
    run.drive(0.3)

    assert run.errors.keys() == {"timeout"}
    assert 2 <= run.errors["timeout"] <= 6
    assert run.requests == 0
    assert "0.1 s" in run.loop.tally.texts["timeout"]
    assert not run.latencies()


def test_a_server_that_hangs_up_is_asked_again_but_not_in_a_rage(begin: Begin) -> None:
    run = begin(always(None), connections=2)
    run.drive(0.4)

    assert run.errors.keys() <= {"closed", "reset"}
    # At once, and then after 5, 10, 20 … ms: seven times in 0.4 s.
    assert 2 <= sum(run.errors.values()) <= 2 * 9
    assert run.loop.tally.sent == sum(run.errors.values()) + run.loop.unanswered


def test_connections_that_end_after_each_answer_cost_no_error(begin: Begin) -> None:
    last = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    run = begin(always(last), connections=2)
    run.drive(0.2)

    assert run.errors == {}
    assert run.requests > 2
    assert run.server.connections >= run.requests


def test_who_is_stopped_says_what_was_so_far(begin: Begin) -> None:
    def stop(number: int) -> bytes:
        if number == 50:
            run.loop.stop()  # before this response, so that no other request is sent
        return OK

    run: Run = begin(stop)
    run.drive(60)

    assert run.requests in (49, 50)
    assert run.loop.stopped
    assert 0 < run.loop.seconds < 60


def test_who_is_stopped_before_the_start_has_done_nothing(begin: Begin) -> None:
    run = begin(ok)
    run.loop.stop()
    run.drive(60)

    assert run.said == []
    assert run.server.requests == 0
    assert run.loop.seconds == 0


def test_a_server_that_is_not_there_is_told_at_once(serve: Callable[[Answer], Server]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    server = serve(ok)
    run = Run(lambda heard: Closed(30.0, heard), server)
    target = Target("http", *address)
    dialer, plan = Dialer(target), made(target, Load(), seed=1)

    there = run.loop.gather([HttpConnection(run.loop, dialer, plan) for _ in range(5)], 30.0)

    assert there == 0
    assert run.loop.tally.errors.keys() == {"connect"}
    assert run.loop.tally.errors["connect"] <= 2 * 5  # and not those of 30 s
    assert "nobody listens" in run.loop.tally.texts["connect"]
    run.close()


class Unheard:
    """A connection that nobody accepts."""

    idle = False
    asked = 0

    def __init__(self) -> None:
        self.dialled = 0

    def dial(self) -> None:
        self.dialled += 1


def test_only_so_many_connections_are_being_made_at_once() -> None:
    """A server's queue may be short."""
    loop = Closed(30.0, lambda _: None)
    connections = [Unheard() for _ in range(3 * ARRIVING)]
    assert loop.gather(connections, 0.01) == 0  # type: ignore[arg-type]
    assert sum(one.dialled for one in connections) == ARRIVING
