"""A master that answers from a script, for the commands to talk to."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

Reply = dict[str, Any] | list[dict[str, Any]]


class ScriptedMaster:
    """Answers each command with what the test put in `replies`; a list is one object a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.replies: dict[str, Reply] = {}
        self.asked: list[dict[str, Any]] = []
        self.closing = False
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(path))
        self._sock.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            peer, _ = self._sock.accept()
            with peer, peer.makefile("rwb") as line:
                if not (said := line.readline()):
                    if self.closing:
                        return
                    continue  # it only wanted to know whether we listen
                request = json.loads(said)
                self.asked.append(request)
                reply = self.replies.get(request["command"], {"ok": True})
                for one in reply if isinstance(reply, list) else [reply]:
                    line.write(json.dumps(one).encode() + b"\n")

    def close(self) -> None:
        """Another connection that says nothing ends the thread."""
        self.closing = True
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(self.path))
        self._thread.join()
        self._sock.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to be in, and a runtime directory, with no variable of ours set."""
    for name in ("WEB_CONCURRENCY", "RUNTIME_DIRECTORY", "CLUSTERD_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    # By option, or clusters that run on this machine would be found as well.
    monkeypatch.setenv("CLUSTERD_RUNTIME_DIR", str(tmp_path / "clusterd"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clusterd").mkdir()
    return tmp_path


@pytest.fixture
def master(place: Path) -> Iterator[ScriptedMaster]:
    """A running master named clusterd."""
    scripted = ScriptedMaster(place / "clusterd/clusterd.sock")
    yield scripted
    scripted.close()
