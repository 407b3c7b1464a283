"""What a master passes on of applications and clients reaches no terminal raw."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.cli import main

EVIL = "\x1b]0;owned\x07\x9b2J\u202e"  # sets a title, clears the screen, turns the text round
TEXT = f"first {EVIL}\nsecond {EVIL}"
WORKER = {"slot": 0, "generation": 1, "pid": 71, "group": EVIL, "phase": EVIL, "uptime": 1.0}
WORKER |= {"connections": 1, "in_flight": 0, "requests": 1, "loop_lag": 0.0, "restarts": 0}
WORKER |= {"row": 0, "heartbeat_age": 0.1}
GROUP = {"name": EVIL, "kind": "app", "app": EVIL, "state": EVIL, "size": 1, "ready": 1}
GROUP |= {"failed_reload": EVIL, "listeners": [EVIL], "internal": False, "generation": 1}
STATUS = {
    "ok": True,
    "name": EVIL,
    "app": EVIL,
    "version": EVIL,
    "pid": 1,
    "state": EVIL,
    "size": 1,
    "ready": 1,
    "generation": 1,
    "uptime": 1.0,
    "failed_reload": EVIL,
    "listeners": [EVIL],
    "workers": [WORKER],
    "groups": [GROUP, {**GROUP, "name": f"b{EVIL}"}],
    "zygotes": [],
    "totals": {"requests": 1},
    "journal": 1,
}
EVENTS = [
    {"n": 1, "time": 1.0, "kind": EVIL, "group": EVIL, "pid": EVIL, "reason": EVIL},
    {"n": 2, "time": 1.0, "kind": "worker_failed", **WORKER, "stage": EVIL, "traceback": TEXT},
    {"n": 3, "time": 1.0, "kind": "exited", **WORKER, "code": 1, "cause": EVIL, "asked": False},
    {"n": 4, "time": 1.0, "kind": "gave_up", "reason": TEXT, "traceback": TEXT, "remedy": TEXT},
]
REFUSED = {"ok": False, "error": TEXT, "remedy": TEXT, "traceback": TEXT}
REPLIES: dict[str, list[dict[str, Any]]] = {
    "status": [STATUS],
    "events": EVENTS,
    "dump": [{"ok": True, "dumps": [{**WORKER, "text": TEXT}]}],
    "reload": [REFUSED],
    "rollback": [{"ok": True, "generation": 1, "no_rollback": {"b": EVIL}, "left": {"c": EVIL}}],
    "certificates": [{"ok": True, "names": [EVIL], "expires": "2027"}],
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The runtime directory of a master that says nothing but such."""
    (tmp_path / "clusterd").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "clusterd.sock"))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer, peer.makefile("rb") as lines:
                    for line in lines:
                        said = REPLIES[json.loads(line)["command"]]
                        peer.sendall(b"".join(json.dumps(one).encode() + b"\n" for one in said))
                        if said is EVENTS:
                            break

        thread = threading.Thread(target=serve)
        thread.start()
        yield tmp_path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["status", "--memory"],
        ["events"],
        ["dump"],
        ["dump", "--all"],
        ["top", "--once"],
        ["why"],
        ["reload"],
        ["reload", "--wait"],
        ["reload", "--certs"],
        ["rollback"],
    ],
    ids=" ".join,
)
def test_a_command_prints_nothing_that_drives_a_terminal(
    capfd: pytest.CaptureFixture[str], place: Path, words: list[str]
) -> None:
    main.run([*words, "--runtime-dir", str(place)])
    said = "".join(capfd.readouterr())
    assert "\\x1b" in said or words[0] == "top", said
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(said)


@pytest.mark.parametrize("words", [["status"], ["events"], ["dump"], ["why"]], ids=" ".join)
def test_json_stays_json(capfd: pytest.CaptureFixture[str], place: Path, words: list[str]) -> None:
    main.run([*words, "--json", "--runtime-dir", str(place)])
    said = capfd.readouterr().out
    assert said.isascii()
    assert "\\u001b" in said
    assert json.loads(said if words[0] in ("status", "dump") else said.splitlines()[0])
