"""Which process has an address: its whole command line, and which cluster it is."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.master.holder import (
    control_of,
    described,
    holder_of,
    master_of,
    masters,
    may_be_control,
    owner_of,
)

LISTENER = """
import setproctitle, socket, sys
if sys.argv[2:]:
    setproctitle.setproctitle(sys.argv[2])
sock = socket.create_server(("127.0.0.1", 0))
local = socket.socket(socket.AF_UNIX)
local.bind(sys.argv[1])
local.listen()
print(sock.getsockname()[1], flush=True)
input()
"""


class Holder:
    """A process that listens, on a port and at a path."""

    def __init__(self, path: Path, *title: str) -> None:
        self.path = str(path)
        argv = [sys.executable, "-c", LISTENER, self.path, *title]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.pid = self.process.pid


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[list[Holder]]:
    titles = ((), ("clusterd: master [blue] shop.main:app",), ("clusterd: master python mail.py",))
    names = ("other.sock", "blue.sock", "clusterd.sock")
    made = [Holder(tmp_path / name, *title) for name, title in zip(names, titles, strict=True)]
    yield made
    for one in made:
        one.process.communicate(b"\n")


def test_the_holder_is_told_by_its_command_line_or_as_a_cluster(holders: list[Holder]) -> None:
    plain, blue, mail = holders
    assert holder_of(plain.port).endswith(f" (pid {plain.pid})")
    assert sys.executable in holder_of(plain.port), "not the 15 characters of /proc/PID/comm"
    assert holder_of(blue.port) == f"the cluster 'blue' (shop.main:app, pid {blue.pid})"
    assert holder_of(mail.port) == f"the cluster 'clusterd' (python mail.py, pid {mail.pid})"
    assert owner_of(blue.path) == holder_of(blue.port)
    assert {blue.pid, mail.pid} <= {one.pid for one in masters()}
    found = master_of(blue.pid)
    assert found is not None
    assert (found.uid, found.name, found.what) == (os.geteuid(), "blue", "shop.main:app")


def test_the_control_socket_of_a_cluster_is_found(holders: list[Holder]) -> None:
    for one in holders[1:]:
        found = master_of(one.pid)
        assert found is not None
        assert control_of(found) == one.path
        assert control_of(found._replace(name="green")) == ""
        os.unlink(one.path)
        assert control_of(found) == "", "it cannot be spoken to"


def test_a_socket_of_the_application_is_no_control_socket(tmp_path: Path) -> None:
    """They often lie in the same directory: `bind = "unix:/run/shop/web.sock"`."""
    for name, expected in (("web.sock", False), ("blue.sock", True)):
        holder = Holder(tmp_path / name, "clusterd: master [blue] shop.main:app")
        assert may_be_control(holder.path) is expected
        holder.process.communicate(b"\n")


def test_a_listener_that_cannot_be_asked_may_be_anything_and_is_not_waited_for(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "clusterd.sock")  # other tests may have titled this process a master
    assert not may_be_control(path), "there is none"
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as clients:
        listener.bind(path)
        assert not may_be_control(path), "no process listens"
        listener.listen(0)
        assert may_be_control(path)
        for _ in range(2):  # a backlog of n holds n + 1 connections
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(path)
        assert may_be_control(path), "its backlog is full"


def test_another_users_listener_may_be_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_sock: socket.socket, _path: str) -> None:
        raise PermissionError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert may_be_control(str(tmp_path / "shop.sock"))


def test_nothing_is_said_where_nothing_is_known(tmp_path: Path) -> None:
    assert owner_of(str(tmp_path / "none")) == ""
    (tmp_path / "stale").touch()
    assert owner_of(str(tmp_path / "stale")) == ""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert described(gone.pid) == f"a process (pid {gone.pid})"
    assert master_of(gone.pid) is None
