"""The control socket of a real master under abuse: workers serve, and whoever asks is answered."""

import contextlib
import json
import os
import resource
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.core.exits import Exit
from clusterd.kernel import usage
from clusterd.master.control import MOST_CLIENTS
from tests.support.server import LIMIT, Server, serving

THOUSAND = 1000
GROWTH = 24 * 2**20  # bytes that the master may grow by under all of it
GARBAGE = (
    b"\x00\xff\xfe{\n",
    b"[" * 60_000 + b"\n",
    b'{"command": {"command": {}}}\n',
    b'{"command": "scale", "to": 1e999}\n',
    b'{"command": "events", "since": []}\n',
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"9" * 5000 + b"\n",
    b'"' + b"\\u0000" * 5000 + b'"\n',
)
# Tries to speak, as another user, and tells what came of it.
STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
try:
    sock.connect(sys.argv[1])
    sock.sendall(b'{"command": "stop"}\\n')
    print("answered" if sock.recv(100) else "closed")
except ConnectionError:
    print("closed")
except PermissionError:
    print("refused")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One cluster for all: what one kind of abuse leaves behind, the next would meet."""
    with serving(tmp_path_factory.mktemp("control"), workers=2) as found:
        yield found


@contextlib.contextmanager
def clients(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, open at once as far as the master lets them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 200)), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        made = []
        for _ in range(count):
            sock = stack.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(server.control))  # which waits while the queue is full
            sock.settimeout(LIMIT)
            made.append(sock)
        yield made


def well(server: Server) -> None:
    """Workers serve and commands are answered, by the same processes as ever."""
    assert server.get("/")
    reply = server.ask("status")
    assert (reply["ready"], reply["state"]) == (2, "serving")
    assert not server.find("exited")


def test_half_lines_and_garbage(server: Server) -> None:
    with clients(server, len(GARBAGE) + 2) as socks:
        socks[-1].sendall(b'{"command": "sta')
        for sock, line in zip(socks, GARBAGE, strict=False):
            sock.sendall(line)
            reply = json.loads(sock.makefile("rb").readline())
            assert not reply["ok"]
        well(server)
        socks[-1].sendall(b'tus"}\n')
        assert json.loads(socks[-1].makefile("rb").readline())["ok"]


def test_megabytes(server: Server) -> None:
    """Without an end: closed. With ends, and never read: not heard any further."""
    with clients(server, 2) as (endless, greedy):
        with pytest.raises(ConnectionError):
            for _ in range(64):
                endless.sendall(b"x" * 65536)
        greedy.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                greedy.send(b'{"command": "status"}\n' * 1000)
                well(server)


def test_a_thousand_clients_that_say_nothing(server: Server) -> None:
    with clients(server, THOUSAND):
        well(server)
        fds = len(os.listdir(f"/proc/{server.pid}/fd"))
        assert fds < MOST_CLIENTS + 60
    well(server)


def test_a_thousand_followers_that_never_read(server: Server) -> None:
    with clients(server, THOUSAND) as socks:
        for sock in socks:
            with contextlib.suppress(ConnectionError):  # it has made room
                sock.sendall(b'{"command": "events", "follow": true}\n')
        for _ in range(20):
            server.ask("reopen")  # news for all
        # The harness's own follower was among those who made room: that is what it is for.
        assert server.get("/")
        assert server.ask("status")["ready"] == 2


def test_clients_that_never_read_what_they_ask_for(server: Server) -> None:
    with clients(server, MOST_CLIENTS) as socks:
        for sock in socks:
            # The harness's own follower may come again, for whom the least owed makes room.
            with contextlib.suppress(BrokenPipeError):
                sock.sendall(b'{"command": "dump"}\n{"command": "events"}\n' * 20)
        assert server.get("/")
        assert server.ask("status")["ready"] == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_other_users_are_refused_by_the_file_and_by_the_master(server: Server) -> None:
    for opened, said in ((False, "refused"), (True, "closed")):
        if opened:  # as a careless umask or chmod would leave it
            server.runtime.chmod(0o755)
            server.control.chmod(0o666)
        done = subprocess.run(
            [sys.executable, "-c", STRANGER, str(server.control)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        assert done.stdout == f"{said}\n"
    assert server.ask("status")["state"] == "serving"
    server.control.chmod(0o600)
    assert stat.S_IMODE(server.runtime.stat().st_mode) == 0o755


def test_after_all_that_the_master_is_as_small_and_as_quiet_as_before(
    server: Server, tmp_path: Path
) -> None:
    """Last in this file. Against a cluster that nobody abused."""
    with serving(tmp_path, workers=2) as fresh:
        grown = usage.of(server.pid).uss - usage.of(fresh.pid).uss
        assert grown < GROWTH
    assert server.get("/")
    assert {worker["restarts"] for worker in server.workers()} == {0}
    assert server.process.poll() is None
    server.process.terminate()
    assert server.process.wait(LIMIT) == Exit.OK
