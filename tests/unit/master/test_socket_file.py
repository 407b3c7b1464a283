"""The file of a Unix socket: whose it is, what is stale, and what is another program's."""

import contextlib
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.address import Unix
from clusterd.core.errors import BindError, ConfigError
from clusterd.master import socket_file
from clusterd.master.listener import Listener, listen
from tests.support.ordinary import give

superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def made(path: Path, owner: str = "", group: str = "") -> Listener:
    (one,) = listen(Unix(str(path), owner=owner, group=group), 8)
    return one


def die(listener: Listener) -> socket.socket:
    """What kill -9 leaves of a master: the files, and the socket in workers that drain."""
    left = listener.sock.dup()
    listener.sock.close()
    os.close(listener.lock)
    return left


@contextlib.contextmanager
def foreign(path: Path, kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))
        if kind != socket.SOCK_DGRAM:
            sock.listen(0)
        yield sock


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
@pytest.mark.parametrize("lock", [None, b"", b"1 1\n", b"nonsense"])
def test_a_socket_of_another_program_that_lives_is_left_alone(
    kind: int, lock: bytes | None, tmp_path: Path
) -> None:
    """Whether a lock lies beside it or not: that program knows nothing of our locks."""
    path = tmp_path / "s"
    if lock is not None:
        Path(f"{path}.lock").write_bytes(lock)
    with foreign(path, kind):
        inode = path.stat().st_ino
        with pytest.raises(BindError, match=f"{path} is in use: another program listens there"):
            made(path)
        assert path.stat().st_ino == inode
    one = made(path)  # it has ended, and left its file
    one.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_queue_is_a_living_program_and_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with foreign(path), contextlib.ExitStack() as clients:
        for _ in range(2):  # a backlog of n holds n + 1 connections
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(path))
        assert socket_file.is_alive(str(path))
        with pytest.raises(BindError, match="another program listens there"):
            made(path)


def test_the_own_socket_of_a_killed_master_is_replaced_though_its_workers_drain(
    tmp_path: Path,
) -> None:
    path = tmp_path / "s"
    with die(made(path)):
        assert socket_file.is_alive(str(path))
        one = made(path)
        one.close()


def test_another_socket_in_the_place_of_a_killed_masters_is_left_alone(tmp_path: Path) -> None:
    """Also where the file system gave it the same inode."""
    path = tmp_path / "s"
    with die(made(path)):
        os.utime(path, (1, 1))
        with pytest.raises(BindError, match="another program listens there"):
            made(path)


@contextlib.contextmanager
def meanwhile(name: str, act: Callable[[], None]) -> Iterator[None]:
    """Have another program act just after a function of `socket_file` has returned."""
    function = getattr(socket_file, name)

    def then_act(*args: Any) -> Any:
        found = function(*args)
        act()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket_file, name, then_act)
        yield


def test_a_program_that_binds_the_path_once_it_was_found_stale_keeps_its_socket(
    tmp_path: Path,
) -> None:
    """Two programs start at once on what a killed one left, and only one knows of our locks."""
    path = tmp_path / "s"
    with foreign(path):
        pass  # it is stale
    with contextlib.ExitStack() as stack:

        def start() -> None:
            path.unlink()
            stack.enter_context(foreign(path))

        with (
            meanwhile("is_alive", start),
            pytest.raises(BindError, match=f"{path} is in use: another program listens there"),
        ):
            made(path)
        assert socket_file.is_alive(str(path))
        assert list(tmp_path.iterdir()) == [path]


def test_a_stale_socket_that_another_program_removes_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with foreign(path):
        pass
    with meanwhile("is_alive", path.unlink):
        made(path).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", ["remove_stale", "inode_of"])
def test_a_start_that_fails_removes_no_socket_of_another_program(
    function: str, tmp_path: Path
) -> None:
    """That has bound the path before us, or has put its own in the place of ours."""
    path, others = tmp_path / "s", contextlib.ExitStack()

    def take() -> None:
        path.unlink(missing_ok=True)
        others.close()
        others.enter_context(foreign(path))

    with others:
        with meanwhile(function, take), pytest.raises(BindError, match="cannot be bound"):
            made(path)
        assert socket_file.is_alive(str(path))
        assert list(tmp_path.iterdir()) == [path]


@superuser
def test_a_socket_gets_its_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "s"
    one = made(path, owner="nobody", group="4000002")
    about = path.stat()
    assert (about.st_uid, about.st_gid) == (65534, 4_000_002)
    assert stat.S_IMODE(about.st_mode) == 0o660
    one.close()
    one = made(path, group="4000002")
    assert (path.stat().st_uid, path.stat().st_gid) == (0, 4_000_002)
    one.close()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"owner": "no-such-user"}, "owner=no-such-user: there is no user 'no-such-user'"),
        ({"group": "no-such-group"}, "group=no-such-group: there is no group 'no-such-group'"),
    ],
)
def test_an_unknown_owner_is_a_wrong_setting(
    options: dict[str, str], why: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=why):
        made(tmp_path / "s", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_owner_that_may_not_be_set_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BindError("its owner may not be set")

    monkeypatch.setattr(socket_file, "permit", refuse)
    with pytest.raises(BindError, match="its owner may not be set"):
        made(tmp_path / "s", group="0")
    assert list(tmp_path.iterdir()) == []


def test_no_other_socket_is_given_away_in_its_place(tmp_path: Path) -> None:
    """Its second name was put there while ours was made."""
    path, victim = tmp_path / "s", tmp_path / "victim"
    with foreign(victim):
        path.hardlink_to(victim)
        before = victim.stat()
        with pytest.raises(OSError, match="it was replaced"), socket_file.pinned(str(path)) as pin:
            socket_file.permit(pin, Unix(str(path), 0o666, "1"), (1, -1))
        assert (victim.stat().st_uid, victim.stat().st_mode) == (before.st_uid, before.st_mode)


def test_an_older_socket_that_is_renamed_to_the_path_is_not_taken_for_the_new_one(
    tmp_path: Path,
) -> None:
    """By a user who owns the directory: it would get the mode, owner and group of the new one."""
    path, other = tmp_path / "s", tmp_path / "other"
    with foreign(other):
        other.chmod(0o600)
        os.utime(other, (1, 1))
        with (
            meanwhile("pinned", lambda: os.rename(other, path)),
            pytest.raises(BindError, match="it was replaced while it was made"),
        ):
            made(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not Path(f"{path}.lock").exists()


@superuser
def test_the_lock_of_another_user_is_refused(tmp_path: Path) -> None:
    """It could be held for ever."""
    path = tmp_path / "s"
    lock = Path(f"{path}.lock")
    lock.touch(0o666)
    give(lock)
    with pytest.raises(BindError, match="cannot be used as a lock: it belongs to user nobody"):
        made(path)
    assert lock.exists()


def test_a_lock_that_is_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    lock = Path(f"{path}.lock")
    os.mkfifo(lock)
    with pytest.raises(BindError, match="cannot be used as a lock: it is a FIFO"):
        made(path)
    lock.unlink()
    lock.symlink_to(tmp_path / "victim")
    with pytest.raises(BindError, match="Too many levels of symbolic links"):
        made(path)
    assert not (tmp_path / "victim").exists()
