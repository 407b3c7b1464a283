"""Sockets, locks and directories that another user or program has: they are left alone."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.core.exits import Exit
from tests.support.ordinary import Unavailable, as_ordinary_user, give
from tests.support.rights import opening
from tests.support.server import LIMIT, ROOT, Server, running, serving

superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
# Binds a socket, or locks a file, says so, and waits for the end of its input.
LISTEN = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
    "print(flush=True); sys.stdin.read()"
)
LOCK = (
    "import fcntl, os, sys; f = open(sys.argv[1], 'w'); os.fchmod(f.fileno(), 0o666); "
    "fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that all may write to, as /tmp, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="clusterd-") as name:
        os.chmod(name, 0o1777)
        yield Path(name)


def other(code: str, path: Path, *wrapper: str) -> subprocess.Popen[bytes]:
    """Another program that has this path."""
    process = subprocess.Popen(
        [*wrapper, sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    return process


@pytest.fixture
def as_nobody() -> tuple[str, ...]:
    try:
        return as_ordinary_user()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("is_locked", [False, True])
def test_the_socket_of_a_living_program_is_not_taken(
    is_locked: bool, tmp_path: Path, place: Path
) -> None:
    """Whether a lock of an earlier clusterd lies beside it or not."""
    path = place / "app.sock"
    if is_locked:
        Path(f"{path}.lock").touch(0o600)
    with other(LISTEN, path) as program:
        with running(tmp_path, "tell:app", "-b", f"unix:{path}") as server:
            assert server.wait() == Exit.BIND
            assert f"{path} is in use: another program listens there" in server.log()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        program.communicate()
    with serving(tmp_path, "tell:app", "-b", f"unix:{path}", "-b", "127.0.0.1:0"):
        pass  # that program has ended, and left its file
    assert list(place.iterdir()) == []


@superuser
def test_a_lock_that_another_user_holds_is_named_as_that_users(
    tmp_path: Path, place: Path, as_nobody: tuple[str, ...]
) -> None:
    path = place / "app.sock"
    with other(LOCK, Path(f"{path}.lock"), *as_nobody) as program:
        with running(tmp_path, "tell:app", "-b", f"unix:{path}") as server:
            assert server.wait() == Exit.BIND
            assert "cannot be used as a lock: it belongs to user nobody" in server.log()
        program.communicate()


@superuser
def test_a_runtime_directory_of_another_user_is_refused(tmp_path: Path, place: Path) -> None:
    place.chmod(0o755)
    give(place)
    with running(tmp_path, "tell:app", "--runtime-dir", str(place)) as server:
        assert server.wait() == Exit.BIND
        assert f"{place}: it belongs to user 65534" in server.log()
    done = typed("check", "tell:app", "--app-dir", str(ROOT / "tests/apps"), place=place)
    assert f"{place}: it belongs to user 65534" in done.stdout


def typed(*args: str, place: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clusterd.cli.main", *args, "--runtime-dir", str(place)]
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=place,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@superuser
@pytest.mark.parametrize("command", ["status", "reload"])
def test_a_command_speaks_to_no_other_users_process(
    command: str, place: Path, as_nobody: tuple[str, ...]
) -> None:
    """In a directory that all may write to, any user can put a socket of that name."""
    with other(LISTEN, place / "clusterd.sock", *as_nobody) as program:
        done = typed(command, place=place)
        assert done.returncode == Exit.FAILED
        assert "runs as nobody, which is neither root, nor you" in done.stderr
        program.communicate()


def test_an_ordinary_user_gives_its_socket_to_no_other(tmp_path: Path) -> None:
    try:
        server = Server(tmp_path, "tell:app", "-b", "unix:app.sock,owner=0", ordinary=True)
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        assert server.wait() == Exit.BIND
        assert "its owner or group may not be set" in server.log()
        assert list(server.runtime.iterdir()) == []
    finally:
        server.dispose()


@superuser
def test_a_socket_belongs_to_the_proxy(tmp_path: Path, place: Path) -> None:
    path = place / "app.sock"
    bind = f"unix:{path},owner=nobody,group=0,mode=600"
    with serving(tmp_path, "tell:app", "-b", bind, "-b", "127.0.0.1:0"):
        about = path.stat()
        assert (about.st_uid, about.st_gid, about.st_mode & 0o777) == (65534, 0, 0o600)


@superuser
def test_the_lock_of_a_singleton_is_for_no_user_to_take(tmp_path: Path) -> None:
    """Its keeper, which may not open it either, is given it."""
    (tmp_path / "clusterd.toml").write_text(
        "[group.clock]\ncommand = ['sleep', '60']\nsingleton = true\nuser = 'nobody'\n"
        "directory = '/'\nready_after = 0\nmin_ready = 0\n"
    )
    wrapper = opening()
    if wrapper is None:
        pytest.skip("the interpreter is closed to others, and no mount namespace can open it")
    with running(tmp_path, "", wrapper=wrapper) as server:
        first = server.event("readied", group="clock")["pid"]
        about = (server.runtime / "clusterd.clock.singleton").stat()
        assert (about.st_uid, about.st_mode & 0o777) == (0, 0o600)
        assert server.ask("reload", wait=True)["ok"]
        server.event("exited", pid=first)
        assert server.stop() == 0
