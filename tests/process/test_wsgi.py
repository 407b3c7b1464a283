"""WSGI for real: threads that are all busy, requests that take too long, reloads, large bodies."""

import contextlib
import http.client
import json
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gate import Gate, Visitor, gate
from tests.support.server import LIMIT, Server, running, serving

MIB = 1024 * 1024
GROWTH = 64 * MIB
HELD = b"GET /held HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@contextlib.contextmanager
def held_by(place: Path, *options: str, workers: int = 2) -> Iterator[tuple[Gate, Server]]:
    """A cluster, and the gate that its held requests knock at."""
    with gate() as door:
        path = str(door.path)
        with serving(place, "tell_wsgi:app", *options, workers=workers, GATE=path) as server:
            yield door, server


def ask(server: Server, request: bytes = HELD) -> socket.socket:
    """A request on a connection of its own."""
    sock = socket.create_connection(server.address, LIMIT)
    sock.sendall(request)
    return sock


def waiting(server: Server) -> int:
    """Connections in the kernel's queue: a listening socket's rx_queue (proc_net_tcp)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == server.address[1] and fields[3] == "0A":
            return int(fields[4].split(":")[1], 16)
    raise AssertionError(server.address)


def answer(sock: socket.socket) -> bytes:
    """All that comes, until the server closes."""
    data = b""
    with sock, contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(65536):
            data += piece
    return data


def pid_of(text: str | bytes) -> int:
    return int(json.loads(text)["pid"])


def test_a_worker_without_a_free_thread_leaves_connections_to_its_sibling(tmp_path: Path) -> None:
    with held_by(tmp_path, "--threads", "2") as (door, server):
        held: list[tuple[socket.socket, Visitor]] = []
        busy: Counter[int] = Counter()
        while 2 not in busy.values():
            sock = ask(server)
            held.append((sock, door.next()))
            busy[held[-1][1].pid] += 1
        full = busy.most_common(1)[0][0]
        pids = {pid_of(server.get()) for _ in range(10)}
        assert len(pids) == 1
        assert full not in pids
        fill_up(server, door, held)
        # Now nobody has a thread: a newcomer waits in the kernel's queue until one is free.
        last = ask(server)
        while (taken := sum(w["connections"] for w in server.workers())) < 4:
            pass  # it is published a moment later
        assert (taken, waiting(server)) == (4, 1)
        held[0][1].release()
        visitor = door.next()
        assert b" 200 OK" in answer(held[0][0])
        for sock, guest in held[1:]:
            guest.release()
            assert b" 200 OK" in answer(sock)
        visitor.release()
        assert b" 200 OK" in answer(last)


def fill_up(server: Server, door: Gate, held: list[tuple[socket.socket, Visitor]]) -> None:
    """Until all four threads are busy."""
    while len(held) < 4:
        held.append((ask(server), door.next()))


def test_a_request_that_takes_too_long_is_shown_and_its_worker_replaced(tmp_path: Path) -> None:
    options = ("--request-timeout", "1s", "--graceful-timeout", "2s")
    with held_by(tmp_path, *options, workers=1) as (door, server):
        stuck = ask(server)
        visitor = door.next()
        assert server.event("leaving")["reason"] == "request timeout"
        fresh = server.event("readied")["pid"]
        assert fresh != visitor.pid
        retired = server.event("retired", pid=visitor.pid)
        assert retired["n"] > server.find("readied", pid=fresh)[0]["n"]  # the replacement first
        server.until_draining(visitor.pid)
        assert pid_of(server.get()) == fresh
        assert b"HTTP/1.1 503 " in answer(stuck)
        assert server.event("exited", pid=visitor.pid)["code"] == 0
        log = server.log()
        assert "a request is stuck: the app has been silent for " in log
        assert "/held" in log
        assert "sock.recv(1)" in log  # where it is stuck
        visitor.sock.close()


def test_a_stop_does_not_wait_for_ever_for_a_thread(tmp_path: Path) -> None:
    options = ("--graceful-timeout", "1s")
    with held_by(tmp_path, *options) as (door, server):
        stuck = ask(server)
        visitor = door.next()
        server.signal(signal.SIGTERM)
        assert b"HTTP/1.1 503 " in answer(stuck)
        assert server.event("exited", pid=visitor.pid)["code"] == 0
        assert server.wait() == 0
        visitor.sock.close()


@pytest.mark.parametrize("threads", ["8", "1"])
def test_reloads_under_load_lose_nothing(tmp_path: Path, threads: str) -> None:
    with serving(tmp_path, "tell_wsgi:app", "--threads", threads) as server:
        over = threading.Event()
        wrong: list[object] = []
        asked: list[int] = []

        def client(number: int) -> None:
            count = 0
            connection = server.connect()
            try:
                while not over.is_set():
                    if number % 2:
                        connection.close()
                    connection.request("GET", "/")
                    response = connection.getresponse()
                    json.loads(response.read())
                    count += response.status == 200
            except (OSError, http.client.HTTPException, ValueError) as error:
                wrong.append(error)
            finally:
                connection.close()
            asked.append(count)

        clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
        for each in clients:
            each.start()
        for generation in (2, 3):
            assert server.ask("reload", wait=True)["generation"] == generation
        over.set()
        for each in clients:
            each.join()
        assert wrong == []
        assert sum(asked) > 20


def rss(pid: int) -> int:
    """The most memory that a process has held, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(pid)


def pieces(mib: int) -> Iterator[bytes]:
    for _ in range(mib):
        yield bytes(MIB)


SIZES = [256, pytest.param(1024, marks=pytest.mark.slow)]


@pytest.mark.parametrize("mib", SIZES)
@pytest.mark.parametrize("threads", ["8", "1"])
def test_large_bodies_cost_little_memory(tmp_path: Path, mib: int, threads: str) -> None:
    with serving(tmp_path, "tell_wsgi:app", "--threads", threads, workers=1) as server:
        pid = pid_of(server.get())
        before = rss(pid)
        connection = server.connect()
        headers = {"Content-Length": str(mib * MIB)}
        connection.request("POST", "/upload", pieces(mib), headers)
        assert json.loads(connection.getresponse().read()) == {"pid": pid, "size": mib * MIB}
        connection.request("GET", f"/download?{mib}")
        response = connection.getresponse()
        size = 0
        while piece := response.read(MIB):
            size += len(piece)
        assert size == mib * MIB
        connection.close()
        assert rss(pid) - before < GROWTH


def test_a_response_in_one_piece_may_be_larger_than_the_budget(tmp_path: Path) -> None:
    with serving(tmp_path, "tell_wsgi:app", "--memory-budget", "32MiB", workers=1) as server:
        connection = server.connect()
        connection.request("GET", "/whole?100")
        response = connection.getresponse()
        size = len(response.read(MIB))
        assert "pid" in json.loads(server.get()), "others are served meanwhile"
        assert size + len(response.read()) == 100 * MIB
        connection.close()


def test_what_cannot_be_told_is_said_at_the_start(tmp_path: Path) -> None:
    with running(tmp_path, "tell_wsgi:either", "-w", "1") as server:
        assert server.wait() == 3
        assert "may be an ASGI or a WSGI application" in server.log()
        assert "--interface" in server.log()
    with serving(tmp_path, "tell_wsgi:either", "--interface", "wsgi") as server:
        assert pid_of(server.get()) in {w["pid"] for w in server.workers()}
        assert os.path.exists(server.control)
