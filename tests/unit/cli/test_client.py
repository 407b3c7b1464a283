"""The blocking client, against masters that misbehave."""

import errno
import os
import pwd
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusterd.core.errors import NotRunning
from clusterd.ipc.client import Client, Refused


@contextmanager
def saying(place: Path, answer: bytes) -> Iterator[Client]:
    """A client of something that says this much to whoever connects, then hangs up."""
    path = place / "clusterd/clusterd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(str(path))
        thread.join()


def test_a_master_that_leaves_before_it_answers_is_not_running(place: Path) -> None:
    with saying(place, b"") as client, pytest.raises(NotRunning, match="left before it answered"):
        client.ask("reload", wait=True)


def test_half_an_answer_is_none(place: Path) -> None:
    with saying(place, b'{"ok": true') as client, pytest.raises(NotRunning, match="left before"):
        client.ask("status")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400\r\n", b"[1]\n", b"\xff\n"])
def test_what_speaks_otherwise_is_no_cluster(answer: bytes, place: Path) -> None:
    with saying(place, answer) as client, pytest.raises(NotRunning, match="is no cluster"):
        client.ask("status")


def test_a_refusal_carries_the_masters_words(place: Path) -> None:
    answer = b'{"ok": false, "error": "it is paused", "remedy": "resume it"}\n'
    with saying(place, answer) as client, pytest.raises(Refused) as caught:
        client.ask("scale", to=3)
    assert str(caught.value) == "it is paused\nresume it"


def test_events_end_with_the_connection(place: Path) -> None:
    answer = b'{"n": 1, "kind": "started"}\n{"n": 2, "kind": "re'
    with saying(place, answer) as client:
        assert [event["n"] for event in client.events(follow=True)] == [1]


def test_where_nothing_listens_no_cluster_runs(place: Path) -> None:
    path = str(place / "clusterd" / "none.sock")
    with pytest.raises(NotRunning, match=f"no cluster runs at {path}"):
        Client(path).ask("status")


def test_a_cluster_of_another_user_is_named_by_that_user(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(_sock: socket.socket, _address: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path = place / "clusterd" / "clusterd.sock"
    path.touch()
    monkeypatch.setattr(socket.socket, "connect", forbid)
    with pytest.raises(NotRunning, match=f"belongs to {pwd.getpwuid(os.geteuid()).pw_name}"):
        Client(str(path)).ask("status")
