"""Whom a command believes to be a master."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.core.errors import NotRunning
from clusterd.ipc import trusted
from clusterd.ipc.client import Client
from clusterd.kernel.peers import peer_of

STRANGER = 4_000_001


@pytest.fixture
def pair() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def test_the_kernel_tells_who_is_at_the_other_end(pair: socket.socket) -> None:
    assert peer_of(pair) == (os.getpid(), os.geteuid())


@pytest.mark.parametrize(
    ("listener", "us", "owner", "expected"),
    [
        (0, 1000, 0, True),
        (1000, 1000, 0, True),
        (1000, 0, 1000, True),  # root asks a user's cluster, in that user's directory
        (1000, 1001, 1000, True),
        (1000, 0, 0, False),  # in one that all may write to
        (1000, 1001, 0, False),
        (1000, 1001, None, False),
    ],
)
def test_root_ourselves_and_whose_directory_it_is(
    listener: int, us: int, owner: int | None, expected: bool
) -> None:
    assert trusted.is_trusted(listener, us, owner) is expected


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_whose_directory_it_is_is_looked_up(
    pair: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trusted, "peer_of", lambda _: (1, STRANGER))
    assert trusted.stranger(pair, f"{tmp_path}/s") == STRANGER
    os.chown(tmp_path, STRANGER, -1)
    assert trusted.stranger(pair, f"{tmp_path}/s") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(
    ("owner", "made_by", "mode", "expected"),
    [
        (65534, 65534, 0o755, True),  # the owner's, whatever its number is elsewhere
        (65534, 65534, 0o775, False),
        (65534, 65534, 0o1777, False),
        (65534, 12345, 0o755, False),
    ],
)
def test_what_only_the_owner_of_a_directory_can_have_made_is_the_owners(
    pair: socket.socket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: int,
    made_by: int,
    mode: int,
    expected: bool,
) -> None:
    """As in the directory of a systemd service with DynamicUser=, where users are mapped."""
    monkeypatch.setattr(trusted, "peer_of", lambda _: (1, STRANGER))
    path = tmp_path / "s"
    path.touch()
    os.chown(path, made_by, -1)
    tmp_path.chmod(mode)
    os.chown(tmp_path, owner, -1)
    assert (trusted.stranger(pair, str(path)) is None) is expected


def test_a_directory_that_is_gone_has_no_owner(
    pair: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trusted, "peer_of", lambda _: (1, STRANGER))
    assert trusted.stranger(pair, f"{tmp_path}/none/s") == STRANGER


def test_a_stranger_is_told_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trusted, "peer_of", lambda _: (1, STRANGER))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(NotRunning, match=f"runs as user {STRANGER}, which is neither root"):
            Client(str(tmp_path / "s")).ask("status")
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(99) == b""
