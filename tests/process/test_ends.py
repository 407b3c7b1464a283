"""An orderly end: exit handlers run, and nothing of the application outlives its worker."""

import contextlib
import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import left
from tests.support.server import LIMIT, Server, running, serving


def marks(place: Path) -> list[str]:
    """What exit handlers have written, in order."""
    file = place / "marks"
    return file.read_text().split() if file.exists() else []


def pids(server: Server) -> list[str]:
    return sorted(str(worker["pid"]) for worker in server.workers())


def until_exited(server: Server, count: int) -> None:
    """Wait until so many workers have."""
    while len(server.find("exited")) < count:
        server.event("exited")


@pytest.mark.parametrize("app", ["ends:app", "ends:wsgi"])
def test_exit_handlers_run_in_each_worker_that_drains(tmp_path: Path, app: str) -> None:
    with serving(tmp_path, app, ENDS_PLACE=str(tmp_path)) as server:
        before = pids(server)
        assert server.ask("reload")["ok"]
        until_exited(server, 2)
        assert sorted(set(marks(tmp_path)) - {"shutdown"}) == before
        after = pids(server)
        assert server.stop() == 0
    found = marks(tmp_path)
    assert sorted(set(found) - {"shutdown"}) == sorted(before + after)  # and no zygote's
    if app == "ends:app":  # the lifespan comes first
        assert found[0] == "shutdown"
        assert found.count("shutdown") == 4


def test_exit_handlers_run_in_a_worker_that_is_recycled(tmp_path: Path) -> None:
    options = ("--max-requests", "2")
    with serving(tmp_path, "ends:wsgi", *options, workers=1, ENDS_PLACE=str(tmp_path)) as server:
        (pid,) = pids(server)
        for _ in range(3):
            server.get("/")
        server.event("exited", pid=int(pid))
        assert pid in marks(tmp_path)


def test_exit_handlers_run_after_a_failed_startup(tmp_path: Path) -> None:
    """Errors of a startup are those that telemetry is wanted for."""
    place = str(tmp_path)
    with running(tmp_path, "ends:app", "-w", "1", ENDS_PLACE=place, ENDS_BROKEN="1") as server:
        assert server.wait() == 3
        assert marks(tmp_path)


def test_exit_handlers_do_not_run_at_a_quick_stop(tmp_path: Path) -> None:
    with serving(tmp_path, "ends:wsgi", ENDS_PLACE=str(tmp_path)) as server:
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0
    assert marks(tmp_path) == []


def test_an_exit_handler_that_hangs_does_not_hold_the_worker(tmp_path: Path) -> None:
    options = ("--graceful-timeout", "1s")
    env = {"ENDS_PLACE": str(tmp_path), "ENDS_HANG": "1"}
    with serving(tmp_path, "ends:wsgi", *options, workers=1, **env) as server:
        assert server.stop() == 0
        (exited,) = server.find("exited")
        assert not server.find("killed")
        assert exited["asked"]
        assert "exit handlers did not end within 2.0 s" in server.log()
        assert "tests/apps/ends.py" in server.log()


def test_a_quick_stop_ends_a_worker_in_its_exit_handlers(tmp_path: Path) -> None:
    env = {"ENDS_PLACE": str(tmp_path), "ENDS_HANG": "1"}
    with serving(tmp_path, "ends:app", workers=1, **env) as server:
        server.signal(signal.SIGTERM)
        server.event("retired")
        while "shutdown" not in marks(tmp_path):
            pass  # it writes this file right before its exit handlers
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0
        (exited,) = server.find("exited")
        assert exited["uptime"] < 20


@pytest.mark.parametrize("way", ["/terminated", "/terminated-from-a-thread"])
def test_a_forked_child_dies_of_the_signal_that_terminates_it(tmp_path: Path, way: str) -> None:
    with serving(tmp_path, "ends:wsgi", ENDS_PLACE=str(tmp_path)) as server:
        assert json.loads(server.get(way)) == [-signal.SIGTERM]
        assert len(server.workers()) == 2


@pytest.mark.parametrize("app", ["ends:app", "ends:wsgi"])
def test_a_forked_child_has_no_socket_and_no_handler_of_ours(tmp_path: Path, app: str) -> None:
    with serving(tmp_path, app, ENDS_PLACE=str(tmp_path)) as server:
        idle = server.connect()
        server.get("/", idle)
        found = json.loads(server.get("/inherited"))
        assert not [one for one in found if "clusterd" in one and "/" not in one], found
        server.get("/", idle)
        idle.close()


def test_a_client_sees_the_end_though_a_child_holds_a_copy_of_its_connection(
    tmp_path: Path,
) -> None:
    """One that a library in C forked, where no hook of Python's runs."""
    options = ("--keep-alive", "100ms")
    with serving(tmp_path, "ends:wsgi", *options, workers=1, ENDS_PLACE=str(tmp_path)) as server:
        idle = server.connect()
        server.get("/", idle)
        with socket.create_connection(server.address, timeout=LIMIT) as client:
            client.sendall(b"GET /c-fork HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            response = b"".join(iter(lambda: client.recv(1000), b""))
        assert b" 200 OK" in response
        assert idle.sock.recv(1) == b""
        idle.close()
        os.kill(json.loads(response.partition(b"\r\n\r\n")[2])[0], signal.SIGKILL)


def until_gone(server: Server, found: list[int]) -> None:
    """Nothing of these may be left."""
    assert left(found) == [], server.history()


@pytest.mark.parametrize("way", ["/fork", "/shell", "/stubborn", "/pool", "/c-fork"])
def test_what_a_worker_has_started_ends_with_it(tmp_path: Path, way: str) -> None:
    """However it ends; what a sibling has started goes on."""
    options = ("--graceful-timeout", "2s")  # multiprocessing waits for children, as long as it may
    with serving(tmp_path, "ends:wsgi", *options, workers=1, ENDS_PLACE=str(tmp_path)) as server:
        killed = json.loads(server.get(way))
        pid = server.workers()[0]["pid"]
        os.kill(pid, signal.SIGKILL)
        until_gone(server, killed)
        ended = server.event("orphans_ended", pid=pid, slot=0)
        assert ended["processes"]
        server.event("readied")
        reloaded = json.loads(server.get(way))
        assert server.ask("reload")["ok"]
        server.event("rollout_finished")
        until_gone(server, reloaded)
        stopped = json.loads(server.get(way))
        assert server.stop() == 0
        assert left(stopped, 0) == [], server.history()


def test_what_a_sibling_has_started_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path, "ends:wsgi", workers=2, ENDS_PLACE=str(tmp_path)) as server:
        started: dict[int, list[int]] = {}
        while len(started) < 2:  # connections go to the one or the other
            (pid,) = json.loads(server.get("/"))
            with contextlib.closing(server.connect()) as client:
                (pid,) = json.loads(server.get("/", client))
                started.setdefault(pid, json.loads(server.get("/shell", client)))
        gone, stays = started
        os.kill(gone, signal.SIGKILL)
        until_gone(server, started[gone])
        assert sorted(left(started[stays], 0)) == sorted(started[stays])
        assert server.stop() == 0
        until_gone(server, started[stays])


def test_a_daemon_is_left_alone_and_reported(tmp_path: Path) -> None:
    with serving(tmp_path, "ends:wsgi", workers=1, ENDS_PLACE=str(tmp_path)) as server:
        (daemon,) = json.loads(server.get("/daemon"))
        assert server.stop() == 0
        try:
            (spared,) = server.find("orphans_spared")
            assert spared["processes"] == [f"sleep (pid {daemon})"]
            assert left([daemon], 0) == [daemon]
        finally:
            os.kill(daemon, signal.SIGKILL)


@pytest.mark.parametrize("way", ["/fork", "/shell"])
def test_what_workers_have_started_ends_after_the_master_was_killed(
    tmp_path: Path, way: str
) -> None:
    options = ("--graceful-timeout", "2s")
    with serving(tmp_path, "ends:wsgi", *options, workers=1, ENDS_PLACE=str(tmp_path)) as server:
        started = json.loads(server.get(way))
        family = server.family()
        server.process.kill()
        server.process.wait()
        until_gone(server, started)
        until_gone(server, list(family))


def test_a_start_waits_for_the_remains_of_its_own_cluster(tmp_path: Path) -> None:
    """Its master was killed while a request was in hand: its worker holds the port meanwhile."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "again").mkdir()
    env = {"ENDS_PLACE": str(tmp_path)}
    with (
        serving(tmp_path, "ends:wsgi", workers=1, **env) as server,
        contextlib.closing(server.connect()) as client,
        ThreadPoolExecutor() as pool,
    ):
        client.request("GET", "/hold")
        pipe = (tmp_path / "pipe").open("w")  # once the worker has opened it, too
        host, port = server.address
        server.process.kill()
        server.process.wait()
        bound = ("-b", f"{host}:{port}")
        start = pool.submit(Server, tmp_path / "again", "ends:wsgi", "-w", "1", *bound, env=env)
        log = tmp_path / "again" / "stderr"
        while not start.done() and (not log.exists() or "waiting until" not in log.read_text()):
            pass
        pipe.close()
        again = start.result()
        try:
            again.ready()
            assert client.getresponse().status == 200
            assert again.get("/")
            assert "clusterd: worker 0 g1 draining" in log.read_text()
            assert again.stop() == 0
        finally:
            again.dispose()


def test_a_handler_for_usr1_that_the_import_has_set_stays(tmp_path: Path) -> None:
    env = {"ENDS_PLACE": str(tmp_path), "ENDS_USR1": "1"}
    with serving(tmp_path, "ends:wsgi", workers=1, **env) as server:
        (worker,) = server.workers()
        os.kill(worker["pid"], signal.SIGUSR1)
        while "most recent call first" not in (tmp_path / "stacks").read_text():
            pass
        assert json.loads(server.get("/")) == [worker["pid"]]
