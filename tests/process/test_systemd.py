"""systemd's protocol with a manager of ours in its place. The real one is asked in `tests/box`."""

import os
import signal
import socket
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from tests.process.test_life import gone
from tests.support.manager import Manager, listening, passing
from tests.support.server import LIMIT, Server, running

APP = """\
import os

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": " ".join(os.environ).encode()})
"""
QUICK = ("-w", "2", "--min-ready", "0")
WATCHED = "400000"  # microseconds


def test_the_manager_hears_of_a_start_reloads_and_a_stop(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    options = (*QUICK, "--app-dir", str(tmp_path))
    with (
        Manager() as manager,
        running(
            tmp_path, "shop:app", *options, NOTIFY_SOCKET=manager.place, WATCHDOG_USEC=WATCHED
        ) as server,
    ):
        assert manager.has("READY")["MAINPID"] == str(server.pid)
        server.ready()
        assert manager.has("STATUS")["STATUS"] == "2 of 2 workers ready, generation 1"
        assert {"NOTIFY_SOCKET", "WATCHDOG_USEC"}.isdisjoint(server.get().split())
        for _ in range(3):
            manager.has("WATCHDOG")

        server.signal(signal.SIGHUP)
        assert int(manager.has("RELOADING")["MONOTONIC_USEC"]) > 0
        manager.has("READY")
        assert manager.has("STATUS")["STATUS"] == "2 of 2 workers ready, generation 2"

        (tmp_path / "shop.py").write_text("import nothing_of_this_name\n")
        server.signal(signal.SIGHUP)
        manager.has("READY")
        assert "nothing_of_this_name" in manager.has("STATUS")["STATUS"]
        assert server.get()

        server.signal(signal.SIGTERM)
        manager.has("STOPPING")
        assert server.stop() == 0
        assert manager.words() == ["READY", *["RELOADING", "READY"] * 2, "STOPPING"]


def test_what_a_dead_master_left_with_the_manager_goes_on_with_its_queues(tmp_path: Path) -> None:
    """Ended as a watchdog would end it: the log shows where it was."""
    with tempfile.TemporaryDirectory() as short, Manager() as manager:
        place = ("-b", f"unix:{short}/s")
        first = (*QUICK, "-b", "127.0.0.1:0", *place)
        with under(manager, tmp_path, *first) as server:
            manager.has("READY")
            server.ready()
            where, inode = server.address, os.stat(f"{short}/s").st_ino
            left = [os.pidfd_open(pid) for pid in server.family() - {server.pid}]
            server.signal(signal.SIGABRT)
            assert server.process.wait(LIMIT) == -signal.SIGABRT
            gone(left)
            assert "Fatal Python error: Aborted" in server.log()
            assert "master/loop.py" in server.log(), "where the master was"
        clients = [connect(where) for _ in range(5)] + [connect(f"{short}/s")]
        options = (*QUICK, "-b", f"127.0.0.1:{where[1]}", *place)
        kept = tuple(manager.kept.values())
        wrapper = passing(manager.kept)
        with under(manager, tmp_path, *options, wrapper=wrapper, keep=kept) as server:
            for client in clients:
                assert client.recv(12) == b"HTTP/1.1 200"
                client.close()
            assert os.stat(f"{short}/s").st_ino == inode
            manager.has("READY")
            assert server.stop() == 0
        assert os.listdir(short) == []


def under(
    manager: Manager,
    place: Path,
    *options: str,
    wrapper: tuple[str, ...] = (),
    keep: tuple[int, ...] = (),
) -> AbstractContextManager[Server]:
    """A cluster that has room for descriptors with its manager, and is watched."""
    told = {"NOTIFY_SOCKET": manager.place, "FDSTORE": "8", "WATCHDOG_USEC": WATCHED}
    return running(place, "tell:app", *options, cwd="", wrapper=wrapper, keep=keep, **told)


def connect(where: str | tuple[str, int]) -> socket.socket:
    """A client whose request waits in the queue."""
    client = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    client.settimeout(LIMIT)
    client.connect(where)
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return client


def test_where_nobody_says_otherwise_it_serves_what_it_was_started_with(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    with listening() as (sock, number):
        client = connect(sock.getsockname())
        wrapper = passing({"web": number})
        options = (*QUICK, "--app-dir", str(tmp_path))
        server = Server(
            tmp_path, "shop:app", *options, from_file=True, wrapper=wrapper, keep=(number,)
        )
        try:
            seen = b"".join(iter(lambda: client.recv(65536), b""))
            assert seen.startswith(b"HTTP/1.1 200")
            assert b"LISTEN_" not in seen
            server.ready()
            assert server.address == sock.getsockname()
            server.ask("reload", wait=True)
            assert server.ask("status")["listeners"] == [f"127.0.0.1:{server.address[1]}"]
            assert server.stop() == 0
            waiting = connect(sock.getsockname())  # it is not ours to close
            waiting.close()
        finally:
            client.close()
            server.dispose()
