"""A worker's life, for real: forked, spoken to over its channel, and reaped."""

import asyncio
import contextlib
import json
import os
import random
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from clusterd.app.importer import interface_of
from clusterd.config.settings import Config
from clusterd.core.exits import Exit
from clusterd.ipc.channel import CLOSED, Channel
from clusterd.ipc.messages import (
    Cover,
    Drain,
    Draining,
    Dump,
    Dumped,
    Empty,
    Failed,
    Lasting,
    Leaving,
    Message,
    Quit,
    Ready,
    Reopen,
    Uncover,
)
from clusterd.ipc.scoreboard import NOBODY, Cell, Scoreboard, Stage
from clusterd.worker.birth import Birth
from clusterd.worker.main import Life, run

Spoken = TypeVar("Spoken", bound=Message)
Start = Callable[..., "Worker"]


class Worker:
    """A forked worker, and what its master holds of it."""

    def __init__(
        self,
        board: Scoreboard,
        listener: socket.socket,
        log: Path,
        app: Any,
        live: Callable[[Birth, Any], int] = run,
    ) -> None:
        self.board = board
        self.live = live
        self.address = listener.getsockname()
        self.channel, theirs = Channel.pair()
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.pid = os.fork()
        if self.pid == 0:
            self._be(theirs, listener, log_fd, app)
        theirs.close()
        os.close(log_fd)
        self.status: int | None = None

    def _be(self, theirs: socket.socket, listener: socket.socket, log_fd: int, app: Any) -> None:
        status = 99
        try:
            self.channel.close()
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listeners = [("127.0.0.1:0", listener)]
            status = self.live(
                Birth(
                    Channel(theirs),
                    self.board,
                    2,
                    0,
                    7,
                    Config(),
                    listeners,
                    pair,
                    log_fd,
                    log_fd,
                    "print",
                    interface=interface_of(app),
                ),
                app,
            )
        finally:
            os._exit(status)

    def hear(self, kind: type[Spoken]) -> Spoken:
        """The next message, which must be of this kind."""
        received = self.channel.receive()
        assert isinstance(received, tuple), "the worker is gone"
        assert isinstance(received[0], kind)
        return received[0]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address)

    def ask(self, path: str = "/", client: socket.socket | None = None) -> str:
        """The body of the answer."""
        close = client is None
        client = client or self.connect()
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        try:
            return answer(client)
        finally:
            if close:
                client.close()

    def wait(self) -> int:
        """The exit status, once it has left."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.channel.close()
        return self.status

    def stop(self) -> int:
        self.channel.send(Drain("stop", 10.0, last=True, handover=False))
        return self.wait()


def answer(client: socket.socket) -> str:
    """One answer with a Content-Length; '' when the connection ended instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(65536)
        if not more:
            return ""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(65536)
    return body.decode()


async def say(send: Any, text: str) -> None:
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def shop(scope: Any, receive: Any, send: Any) -> None:
    """An app without lifespan, for most stories."""
    assert scope["type"] == "http"
    if scope["path"] == "/random":
        await say(send, str(random.random()))
    elif scope["path"] == "/hang":
        await asyncio.Event().wait()
    elif scope["path"] == "/exit":
        asyncio.get_running_loop().call_soon(exit_of_the_app)
        await say(send, "exits")
    else:
        await say(send, "open")


def exit_of_the_app() -> None:
    raise SystemExit(5)


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    message = "Traceback\nOSError: no database"
    await send({"type": "lifespan.startup.failed", "message": message})


async def boots_for_ever(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def start(board: Scoreboard, listener: socket.socket, log: Path) -> Iterator[Start]:
    """Starts workers; none is left behind."""
    workers = []

    def start(app: Any = shop, ready: bool = True, live: Any = run) -> Worker:
        workers.append(Worker(board, listener, log, app, live))
        if ready:
            workers[-1].hear(Ready)
        return workers[-1]

    yield start
    for worker in workers:
        if worker.status is None:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()


def test_it_says_ready_serves_and_leaves_when_told(start: Start, board: Scoreboard) -> None:
    worker = start(ready=False)

    assert worker.hear(Ready) == Ready(worker.pid, 2, 7, "print")
    assert worker.ask() == "open"
    row = board.row(0)
    assert (row[Cell.PID], row[Cell.SLOT], row[Cell.GENERATION]) == (worker.pid, 2, 7)
    stat = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    assert row[Cell.START_TICKS] == int(stat[19])
    assert row[Cell.PHASE] == Stage.READY
    assert row[Cell.HEARTBEAT] > 0
    assert board.gate[0] != NOBODY
    title = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
    assert title.rstrip(b"\0") == b"clusterd: worker 2 g7 ready"

    assert worker.stop() == Exit.OK
    assert board.gate[0] == NOBODY
    assert row[Cell.PHASE] == Stage.DRAINING
    assert row[Cell.REQUESTS] == 1


def test_an_app_that_refuses_to_start_is_told_to_the_master(start: Start, log: Path) -> None:
    worker = start(refuses, ready=False)

    failed = worker.hear(Failed)
    assert failed.stage == "lifespan"
    assert failed.reason.endswith("OSError: no database")
    assert failed.traceback.startswith("Traceback")
    assert worker.wait() == Exit.NEVER_READY
    assert "no database" not in log.read_text()  # the master's log has it, once


def test_told_to_leave_while_it_boots_it_leaves(start: Start) -> None:
    worker = start(boots_for_ever, ready=False)

    worker.channel.send(Drain("reload", 10.0))
    assert worker.wait() == Exit.OK


def test_without_a_master_it_finishes_and_leaves(start: Start) -> None:
    """The end of the channel is the only sign there is, and the request in hand is answered."""
    worker = start()
    with worker.connect() as client:
        assert worker.ask(client=client) == "open"
        worker.channel.close()
        assert answer(client) == ""
    assert worker.wait() == Exit.OK


class Late(Life):
    """Told to leave when startup is over and nobody has noticed yet: to cancel it does nothing."""

    async def _boot(self) -> bool:
        self._booting = self.loop.create_task(asyncio.sleep(0))
        while not self._booting.done():
            await asyncio.sleep(0)
        self._begin_drain(Drain("test", 10.0))
        self._booting = None
        return True


def test_an_order_to_leave_that_comes_as_startup_ends_is_not_forgotten(start: Start) -> None:
    worker = start(ready=False, live=lambda birth, app: Late(birth, app).run())
    worker.hear(Draining)
    assert worker.wait() == Exit.OK


def test_term_asks_to_be_replaced_first_and_the_second_leaves(start: Start) -> None:
    worker = start()

    os.kill(worker.pid, signal.SIGTERM)
    assert worker.hear(Leaving) == Leaving("TERM")
    assert worker.ask() == "open"
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait() == Exit.OK


@pytest.mark.parametrize("name", ["INT", "HUP", "WINCH", "USR1"])
def test_signals_for_the_whole_group_mean_nothing(start: Start, name: str) -> None:
    """Not SIG_IGN, which what the app starts would inherit."""
    worker = start()

    number = signal.Signals[f"SIG{name}"]
    os.kill(worker.pid, number)
    assert worker.ask() == "open"
    status = Path(f"/proc/{worker.pid}/status").read_text()
    ignored = int(status.partition("SigIgn:\t")[2].split()[0], 16)
    assert not ignored & 1 << number - 1
    assert worker.stop() == Exit.OK


@pytest.mark.parametrize("how", ["signal", "message"])
def test_quit_leaves_at_once_whatever_is_in_hand(start: Start, how: str) -> None:
    worker = start()
    with worker.connect() as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        assert worker.ask() == "open"
        if how == "signal":
            os.kill(worker.pid, signal.SIGQUIT)
        else:
            worker.channel.send(Quit())
        assert worker.wait() == Exit.OK


class Brief(Life):
    """Answers a request when no beat and no pause follows any more, in which it is published."""

    async def _live(self) -> int:
        self.server.answers[2] += 1
        return Exit.OK


class Quick(Brief):
    """The same, and then it is told to leave at once."""

    async def _live(self) -> int:
        await super()._live()
        self._quit()
        raise AssertionError("it is still there")


@pytest.mark.parametrize("life", [Brief, Quick])
def test_the_last_counters_of_a_worker_are_published(
    start: Start, board: Scoreboard, life: type[Life]
) -> None:
    worker = start(ready=False, live=lambda birth, app: life(birth, app).run())
    assert worker.wait() == Exit.OK
    assert board.row(0)[Cell.REQUESTS] == 1


def test_a_request_out_of_time_is_cut_off_and_the_worker_leaves(start: Start) -> None:
    worker = start()
    with worker.connect() as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        assert worker.ask() == "open"
        worker.channel.send(Drain("stop", 0.1, last=True))
        assert worker.wait() == Exit.OK


def test_asked_where_it_is_it_answers_with_its_tasks(start: Start) -> None:
    worker = start()
    with worker.connect() as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        assert worker.ask() == "open"
        worker.channel.send(Dump())
        text = worker.hear(Dumped).text
    assert "asyncio.Event().wait()" in text
    worker.channel.send(Quit())
    assert worker.wait() == Exit.OK


def test_usr2_writes_the_stacks_into_the_log(start: Start, log: Path) -> None:
    worker = start()

    os.kill(worker.pid, signal.SIGUSR2)
    assert worker.stop() == Exit.OK
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (dump,) = [line for line in lines if "USR2" in line["message"]]
    assert dump["worker"] == 2
    assert dump["pid"] == worker.pid
    assert "thread MainThread" in dump["traceback"]


def test_a_reopened_log_is_used_from_then_on(start: Start, log: Path, tmp_path: Path) -> None:
    worker = start()
    fresh = os.open(tmp_path / "fresh", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    worker.channel.send(Reopen(), [fresh])
    os.close(fresh)
    worker.channel.send(Dump())
    worker.hear(Dumped)
    os.kill(worker.pid, signal.SIGUSR2)
    assert worker.stop() == Exit.OK
    assert "USR2" in (tmp_path / "fresh").read_text()
    assert "USR2" not in log.read_text()


def test_an_orphaned_listener_is_covered_until_its_worker_is_back(start: Start) -> None:
    worker = start()
    with socket.create_server(("127.0.0.1", 0)) as other:
        worker.channel.send(Cover(["other"]), [other.fileno()])
        with socket.create_connection(other.getsockname()) as client:
            assert worker.ask(client=client) == "open"
        worker.channel.send(Uncover(["other"]))
        worker.channel.send(Dump())
        worker.hear(Dumped)
        other.setblocking(False)
        with socket.create_connection(other.getsockname()):
            other.accept()[0].close()  # it left the connection to us
    assert worker.stop() == Exit.OK


def test_a_listener_that_is_dropped_is_emptied_before_it_closes(start: Start) -> None:
    worker = start()
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(other.getsockname()) as client,
    ):
        worker.channel.send(Empty(["other"]), [other.fileno()])
        assert worker.ask(client=client) == "open"
        other.setblocking(False)
        with socket.create_connection(other.getsockname()):
            other.accept()[0].close()  # it watches it no longer
    assert worker.stop() == Exit.OK


def test_a_listener_is_emptied_by_a_worker_that_drains_too(start: Start) -> None:
    """It was ready when the master chose it."""
    worker = start()
    with (
        worker.connect() as busy,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.create_connection(other.getsockname()) as client,
    ):
        busy.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        assert worker.ask() == "open"
        worker.channel.send(Drain("stop", 60.0, last=True))
        worker.hear(Draining)
        worker.channel.send(Empty(["other"]), [other.fileno()])
        assert worker.ask(client=client) == "open"
        worker.channel.send(Drain("stop", 0.1, last=True))
        assert worker.wait() == Exit.OK


@pytest.mark.parametrize("lasts", [False, True])
def test_without_a_master_it_closes_its_listeners_to_newcomers(start: Start, lasts: bool) -> None:
    """But not those that a later life of the cluster goes on with."""
    worker = start()
    if lasts:
        worker.channel.send(Lasting(["127.0.0.1:0"]))
        worker.channel.send(Dump())
        worker.hear(Dumped)
    with worker.connect() as client, socket.socket() as newcomer:
        assert worker.ask(client=client) == "open"
        worker.channel.close()
        assert worker.wait() == Exit.OK
        newcomer.setblocking(False)
        newcomer.connect_ex(worker.address)
        assert bool(select.select([], [newcomer], [], 0)[1]) is lasts


def test_workers_of_one_image_draw_different_random_numbers(start: Start) -> None:
    """Or each would make the same "random" session keys."""
    drawn = set()
    for _ in range(2):
        worker = start()
        drawn.add(worker.ask("/random"))
        assert worker.stop() == Exit.OK
    assert len(drawn) == 2


def test_an_app_that_exits_in_a_task_costs_no_worker(start: Start, log: Path) -> None:
    worker = start()

    assert worker.ask("/exit") == "exits"
    assert worker.ask() == "open"
    assert worker.stop() == Exit.OK
    assert "called sys.exit" in log.read_text()


def test_nonsense_on_the_channel_is_our_bug(start: Start, log: Path) -> None:
    worker = start()

    worker.channel.sock.send(b"nonsense")
    assert worker.wait() == Exit.BUG
    assert "this is a bug in clusterd" in log.read_text()
    with contextlib.suppress(OSError):
        assert worker.channel.receive() is CLOSED


def old_style(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "4")])
    return [b"open"]


def test_it_says_how_many_requests_it_can_run_at_once(start: Start, board: Scoreboard) -> None:
    """In threads so many and no more; as tasks there is no such number."""
    start(old_style)
    assert board.row(0)[Cell.SEATS] == Config().wsgi.threads
    board.clear(0)
    start()
    assert board.row(0)[Cell.SEATS] == 0
