"""Real workers that stand still, or nearly: each ends as the table says, and its line is named.

Times are short by settings; the defaults are measured by `benchmarks/scenarios/hang.py`.
"""

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import APPS, LIMIT, Event, Server, serving

SHORT = ("--hang-dump", "0.4", "--hang-timeout", "1.2", "--stall-timeout", "2.4")
GRACE = ("--graceful-timeout", "1")
SOURCE = (APPS / "stuck.py").read_text().splitlines()


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("stuck"), "stuck:app", *SHORT, *GRACE) as server:
        yield server


@pytest.fixture(scope="module")
def stalled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Its loops turn, so nothing is replaced as blocked: not even one that a busy machine starves,
    with which would go the requests that are to stall it."""
    limits = ("--hang-dump", "0.4", "--hang-timeout", "0", "--stall-timeout", "2.4")
    with serving(tmp_path_factory.mktemp("stalled"), "stuck:app", *limits, *GRACE) as server:
        yield server


@contextlib.contextmanager
def asking(server: Server, path: str, times: int = 1) -> Iterator[list[socket.socket]]:
    """Requests whose answers nobody waits for."""
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(times):
            sock = stack.enter_context(socket.create_connection(server.address, timeout=LIMIT))
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            socks.append(sock)
        yield socks


def names(event: Event, line: str) -> bool:
    """Whether a traceback names a line of the app."""
    numbers = [n for n, text in enumerate(SOURCE, 1) if f"# LINE {line}" in text]
    assert numbers
    where = "|".join(map(str, numbers))
    return bool(re.search(rf'stuck\.py", line ({where})\b', event.get("traceback", "")))


def told(server: Server, kind: str, line: str) -> Event:
    """The event that names the line: on a busy machine others may be late as well."""
    while not names(event := server.event(kind), line):
        pass
    return event


def replaced(server: Server, pid: int, reason: str) -> Event:
    """The replacement first, and then the end of the old one; how that ended."""
    leaving = server.event("leaving", pid=pid)
    assert leaving["reason"].startswith(reason)
    server.event("readied", slot=leaving["slot"])
    return server.event("exited", pid=pid)


@pytest.mark.parametrize("path", ["python", "c", "lock"])
def test_a_blocked_loop_is_dumped_where_it_stands_and_replaced(stuck: Server, path: str) -> None:
    with asking(stuck, f"/{path}") as (client,):
        event = told(stuck, "blocked", path)
        assert int(stuck.get("/")) != event["pid"]  # the other one serves
        assert replaced(stuck, event["pid"], "blocked for 1.2 s")["cause"] == "SIGKILL"
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_one_that_cannot_even_be_signalled_is_missed_by_its_sibling(stuck: Server) -> None:
    """As in an uninterruptible sleep; here it blocks all signals."""
    with asking(stuck, "/deaf"):
        event = stuck.event("blocked", traceback="it did not even answer the signal")
        assert replaced(stuck, event["pid"], "blocked")["cause"] == "SIGKILL"


def test_a_thread_that_holds_the_interpreter_in_c_is_named_too(stuck: Server) -> None:
    """The loop's own stack is innocent: it waits for the interpreter wherever it was."""
    with asking(stuck, "/thread"):
        pid = told(stuck, "blocked", "start")["pid"]
        assert replaced(stuck, pid, "blocked")["cause"] == "SIGKILL"
        (dumped,) = stuck.find("dumped", pid=pid)
        assert names(dumped, "thread")


def test_a_deadlock_of_a_pool_is_reported_with_tasks_and_threads(stalled: Server) -> None:
    with asking(stalled, "/pool", 8):  # two workers: each has at least two
        event = told(stalled, "stalled", "pool")
        assert "run_in_executor(pool, outer)" in event["traceback"]  # where the tasks wait
        assert replaced(stalled, event["pid"], "stalled")["cause"] == "status 0"  # it drained


def test_a_thread_that_burns_is_reported_and_replaced_after_the_long_limit(stalled: Server) -> None:
    with asking(stalled, "/burn") as (client,):
        assert client.recv(100)  # it serves all the same
        event = told(stalled, "busy", "burn")
        assert "thread burner" in event["reason"]
        assert replaced(stalled, event["pid"], "busy: thread burner")["cause"] == "status 0"


def test_a_restart_of_a_blocked_worker_is_quick(tmp_path: Path) -> None:
    """Two seconds before anybody else would notice."""
    with serving(tmp_path, "stuck:app", "--hang-dump", "3", workers=1) as server:
        (before,) = server.workers()
        with asking(server, "/python"):
            while server.workers()[0]["heartbeat_age"] < 1.6:
                pass  # it takes a moment to seem blocked
            assert server.ask("restart", slot=0)["pid"] != before["pid"]
            assert int(server.get("/")) != before["pid"]
            assert names(server.event("dumped", pid=before["pid"]), "python")
            assert server.event("exited", pid=before["pid"])["cause"] == "SIGKILL"


def test_import_startup_and_shutdown_may_take_their_time(tmp_path: Path) -> None:
    env = {"STUCK_AT": "import startup shutdown", "STUCK_FOR": "1.0"}
    limits = ("--hang-dump", "0.3", "--hang-timeout", "0.5")
    with serving(tmp_path, "stuck:app", *limits, workers=1, **env) as server:
        assert server.stop() == 0
        assert not server.find("blocked")
        assert not server.find("leaving")


def test_one_that_comes_round_in_time_is_not_replaced(tmp_path: Path) -> None:
    limits = ("--hang-dump", "0.4", "--hang-timeout", "10")
    with serving(tmp_path, "stuck:app", *limits, workers=1) as server:
        (before,) = server.workers()
        assert int(server.get("/while?1.2")) == before["pid"]
        told(server, "blocked", "python")
        server.event("recovered", pid=before["pid"])
        assert [each["pid"] for each in server.workers()] == [before["pid"]]
        assert server.workers()[0]["phase"] == "ready"


def test_a_stopped_worker_is_found_and_a_stopped_cluster_is_not_blamed(tmp_path: Path) -> None:
    with serving(tmp_path, "stuck:app", *SHORT) as server:
        before = {each["pid"] for each in server.workers()}
        family = server.family()
        for pid in (server.pid, *family - {server.pid}):
            os.kill(pid, signal.SIGSTOP)
        with asking(server, "/") as (client,):
            client.settimeout(2.0)
            with pytest.raises(TimeoutError):
                client.recv(100)  # longer than hang_timeout
            for pid in family:
                os.kill(pid, signal.SIGCONT)
            client.settimeout(LIMIT)
            assert client.recv(100)
        while not before <= {each["pid"] for each in server.find("recovered")}:
            server.event("recovered")
        assert {each["pid"] for each in server.workers()} == before
        assert not server.find("leaving")

        one = min(before)
        os.kill(one, signal.SIGSTOP)
        assert server.event("halted", pid=one)["reason"] == "stopped by SIGSTOP"
        assert int(server.get("/")) != one
        assert replaced(server, one, "halted for 1.2 s")["cause"] == "SIGKILL"
