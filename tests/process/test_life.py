"""The life of a cluster, for real: start, serve, lose processes, stop."""

import json
import os
import select
import signal
import socket
from pathlib import Path

import pytest

from tests.support.gate import gate, pid_exists
from tests.support.server import LIMIT, running, serving


def test_it_serves_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert json.loads(server.get("/"))["pid"] in {w["pid"] for w in server.workers()}


def test_a_killed_worker_comes_back_in_its_slot(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        victim = server.workers()[1]
        os.kill(victim["pid"], signal.SIGKILL)
        died = server.event("exited", pid=victim["pid"], cause="SIGKILL")
        assert died["slot"] == victim["slot"]
        assert server.event("readied", slot=victim["slot"])["generation"] == 1


def test_a_killed_worker_costs_only_the_requests_in_its_hands(tmp_path: Path) -> None:
    with gate() as door, serving(tmp_path, GATE=str(door.path)) as server:
        clients = [server.connect() for _ in range(6)]
        for client in clients:
            client.request("GET", "/held")
        visitors = [door.next() for _ in clients]
        victim = visitors[0].pid
        os.kill(victim, signal.SIGKILL)
        server.event("exited", pid=victim)
        for visitor in visitors:
            visitor.release()
        lost = 0
        for client in clients:
            try:
                assert client.getresponse().status == 200
            except ConnectionError:
                lost += 1
            client.close()
        assert lost == sum(visitor.pid == victim for visitor in visitors)


def test_a_killed_zygote_is_rebuilt_and_then_forks(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        before = {w["pid"] for w in server.workers()}
        (zygote,) = server.ask("status")["zygotes"]
        os.kill(zygote["pid"], signal.SIGKILL)
        server.event("zygote_readied", generation=1)
        assert {w["pid"] for w in server.workers()} == before
        os.kill(min(before), signal.SIGKILL)
        assert server.event("readied")["generation"] == 1
        assert server.get("/")


def test_when_the_master_is_killed_workers_finish_and_all_is_gone(tmp_path: Path) -> None:
    options = ("--graceful-timeout", "2s", "-b", f"unix:{tmp_path}/s", "-b", "127.0.0.1:0")
    with gate() as door, serving(tmp_path, "tell:app", *options, GATE=str(door.path)) as server:
        clients = [server.connect() for _ in range(3)]
        for client, path in zip(clients, ("/held", "/busy", "/busy-in-c"), strict=True):
            client.request("GET", path)
            if path == "/held":
                visitor = door.next()
        family = server.family()
        door.next().sock.close()
        pids = [os.pidfd_open(pid) for pid in family - {server.pid}]
        os.kill(server.pid, signal.SIGKILL)
        visitor.release()
        gone(pids)
        server.process.wait()
        assert server.family() == set()
        assert list(server.runtime.iterdir()) == []
        assert not (tmp_path / "s").exists()
        for client in clients:
            client.close()
        with socket.create_server(server.address):
            pass  # the port is free


def gone(pidfds: list[int]) -> None:
    """Wait until every process has ended."""
    for fd in pidfds:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(30_000), "a process outlived its master"
        os.close(fd)


def test_a_stop_answers_what_is_in_hand_and_in_the_queue(tmp_path: Path) -> None:
    with gate() as door, serving(tmp_path, workers=1, GATE=str(door.path)) as server:
        blocked, queued = server.connect(), [server.connect() for _ in range(5)]
        blocked.request("GET", "/blocked")
        visitor = door.next()
        for client in queued:
            client.request("GET", "/")
        server.signal(signal.SIGTERM)
        server.event("retired")
        visitor.release()
        for client in [blocked, *queued]:
            assert client.getresponse().status == 200
            client.close()
        assert server.stop() == 0


def test_term_to_a_worker_replaces_it_first(tmp_path: Path) -> None:
    with serving(tmp_path, workers=1) as server:
        (worker,) = server.workers()
        os.kill(worker["pid"], signal.SIGTERM)
        assert server.event("leaving")["pid"] == worker["pid"]
        server.event("readied")
        assert server.event("exited", pid=worker["pid"])["code"] == 0
        assert server.get("/")


def test_a_stopped_workers_share_is_taken_by_others(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        victim, other = (w["pid"] for w in server.workers())
        os.kill(victim, signal.SIGSTOP)
        try:
            for _ in range(50):
                assert json.loads(server.get("/"))["pid"] == other
        finally:
            os.kill(victim, signal.SIGCONT)


CLOSED = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
DEAD_PIPE = ("sh", "-c", '"$@" 2>&1 | :', "sh")


def test_it_runs_with_all_standard_streams_closed(tmp_path: Path) -> None:
    with running(tmp_path, "tell:app", "-w", "1", wrapper=CLOSED) as server:
        server.ready()
        assert server.get()
        server.ask("reload", wait=True)
        assert server.get()
        assert server.stop() == 0
        assert not pid_exists(server.pid)


def test_a_log_that_nobody_reads_any_more_costs_nothing(tmp_path: Path) -> None:
    with running(tmp_path, "tell:app", "-w", "1", wrapper=DEAD_PIPE) as server:
        server.ready()
        with pytest.raises(AssertionError, match="500"):
            server.get("/fail")
        assert server.get()
        server.ask("reload", wait=True)
        assert server.get()
        server.ask("stop")
        server.wait()


def test_a_body_arrives_though_its_client_reads_the_response_late(tmp_path: Path) -> None:
    """The application sends it back as it comes, until neither side takes any more."""
    body = b"".join(b"%08d" % n for n in range(4 * 1024 * 1024))
    with serving(tmp_path, workers=1) as server, socket.socket() as client:
        client.connect(server.address)
        client.setblocking(False)
        left = memoryview(b"POST /mirror HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        while select.select([], [client], [], 0.5)[1]:
            left = left[client.send(left) :]
        assert left, "there is more room on the way than the body takes"
        received = bytearray()
        while True:
            readable, writable, _ = select.select([client], [client] if left else [], [], LIMIT)
            assert readable or writable, f"{len(left)} bytes are not taken"
            if writable:
                left = left[client.send(left) :]
            if readable:
                piece = client.recv(1024 * 1024)
                if not piece:
                    break
                received += piece
        assert received.partition(b"\r\n\r\n")[2] == body
