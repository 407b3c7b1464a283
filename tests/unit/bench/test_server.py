"""A server is started, waited for, and ended whole, whatever happens to whom."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clusterd.bench import server as module
from clusterd.bench.errors import ServerFailed
from clusterd.bench.results import Side
from clusterd.bench.server import Server, filled, free_port, how
from clusterd.core.errors import ConfigError
from tests.support.authority import Authority
from tests.support.processes import left

# A server: it answers with its pid, and says in the folder who belongs to it. Beside it run a
# child, and a daemon: a grandchild in a session of its own, whose parent is gone.
APP = """
import os, signal, socket, sys
port, folder, manner = sys.argv[1:]
read, write = os.pipe()
def stay():
    os.close(read)
    os.write(write, b"%d\\n" % os.getpid())
    os.close(write)
    if manner == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()
if os.fork() == 0:
    stay()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        stay()
    os._exit(0)
os.wait()
os.close(write)
with os.fdopen(read) as lines:
    pids = [os.getpid(), *map(int, lines)]
print("serving", *pids, flush=True)
if manner == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.create_server(("127.0.0.1", int(port))) as sock:
    while True:
        client, _ = sock.accept()
        with client:
            asked = client.recv(65536)
            if b"/end" in asked:
                sys.exit(3)
            if b"/slow" in asked:
                import time
                time.sleep(0.1)
            print(asked.split()[1:2], flush=True)
            client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


def command(folder: Path, manner: str = "plain") -> str:
    app = folder / "app.py"
    app.write_text(APP)
    return f"{{python}} -I -S {app} {{port}} {{folder}} {manner}"


@contextmanager
def served(folder: Path, manner: str = "plain", **settings: object) -> Iterator[Server]:
    made = Server(Side("one"), command(folder, manner), **settings)  # type: ignore[arg-type]
    with made as server:
        yield server


def everyone(server: Server) -> list[int]:
    """All processes that it says it has."""
    return [int(word) for word in server.said().splitlines()[0].split()[1:]]


def asked(server: Server, path: str) -> bytes:
    target = server.target()
    with socket.create_connection((target.host, target.port), 10) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        return sock.recv(100)


def test_words_are_filled_in_and_other_braces_left() -> None:
    words = {"port": "80", "app": "a b"}
    assert filled("x --port={port} '{app}' '{\"a\": {port}}' {0}", words) == [
        "x",
        "--port=80",
        "a b",
        '{"a": 80}',
        "{0}",
    ]


@pytest.mark.parametrize("text", ["serve 'me {port}", "serve --port 80"])
def test_a_command_that_cannot_serve_us_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="the command"):
        filled(text, {"port": "80"})


def test_a_free_port_is_not_one_that_clients_get() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert module.PORTS_FROM <= free_port() < lowest


def test_it_runs_until_it_is_stopped_and_then_nothing_is_left(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        assert asked(server, "/").startswith(b"HTTP/1.1 200")
        assert server.ended() == ""
        pids, folder = everyone(server), server.folder
        assert len(pids) == 3
        assert pids[0] == server.pid
        assert sorted(one.pid for one in server.tree().alive()) == sorted(pids)
        assert os.path.isdir(folder)
    assert left(pids, 0) == []
    assert not os.path.exists(folder)
    assert server.said().startswith("serving")


def test_who_does_not_heed_sigterm_is_killed(tmp_path: Path) -> None:
    with served(tmp_path, "deaf", stop_limit=0.1) as server:
        pids = everyone(server)
    assert left(pids, 0) == []


def test_it_is_told_its_place_its_environment_and_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "7")
    monkeypatch.setenv("OURS", "kept")
    one = min(os.sched_getaffinity(0))
    with served(tmp_path, cpus=(one,), env={"HELLO": "you"}, cwd=str(tmp_path)) as server:
        assert os.sched_getaffinity(server.pid) == {one}
        environ = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
        assert b"HELLO=you" in environ
        assert b"OURS=kept" in environ
        assert f"XDG_RUNTIME_DIR={server.folder}".encode() in environ
        assert not [one for one in environ if one.startswith((b"WEB_CONCURRENCY", b"NOTIFY"))]
        assert Path(f"/proc/{server.pid}/cwd").readlink() == tmp_path
        assert os.getsid(server.pid) == server.pid  # nor are its signals to its group for others


def test_one_that_takes_longer_than_a_question_waits_is_asked_more_patiently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWER", 0.03)
    with served(tmp_path, path="/slow", start_limit=20.0) as server:
        assert server.ended() == ""


# Its answer comes from within the handshake's other side only.
SECURE = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as plain:
    while True:
        client, _ = plain.accept()
        with context.wrap_socket(client, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
"""


def test_one_that_speaks_tls_is_asked_so_whoever_signed_for_it(tmp_path: Path) -> None:
    app = tmp_path / "secure.py"
    app.write_text(SECURE)
    pair = Authority(tmp_path).issue("server", "elsewhere.example", expired=True)
    words = {"app": str(app), "pem": pair[0], "key": pair[1]}
    command = "{python} {app} {port} {pem} {key}"
    with Server(Side("one"), command, words=words, scheme="https") as server:
        target = server.target("/there")
        assert (target.scheme, target.path, target.verify) == ("https", "/there", False)


def test_one_that_ends_before_it_serves_is_quoted(tmp_path: Path) -> None:
    bad = Server(Side("bad"), "{python} -c 'import sys; print(\"no such\"); sys.exit(3)' {port}")
    with pytest.raises(ServerFailed, match=r"bad exited with 3 before it served\n.*\nno such"), bad:
        pass
    assert not os.path.exists(bad.folder)


def test_one_that_is_not_there_or_does_not_answer_is_said_so() -> None:
    said = "^x cannot be started: No such file or directory: /not/there$"
    with pytest.raises(ServerFailed, match=said), Server(Side("x"), "/not/there {port}"):
        pass
    silent = Server(Side("x"), "sleep 99{port}", start_limit=0.05)
    with pytest.raises(ServerFailed, match=r"does not answer on port \d+ after 0.05 s"), silent:
        pass


def test_one_that_ends_by_itself_says_how(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        pids = everyone(server)
        assert asked(server, "/end") == b""
        assert left([server.pid]) == []
        wait_ended(server)
        assert server.ended() == "exited with 3"
    assert left(pids, 0) == []  # also those that it left behind


def wait_ended(server: Server) -> None:
    """The guard has said so by the time that it has reaped it, which is a little after."""
    guard = server._guard
    assert guard is not None
    assert guard.stdout is not None
    select.select([guard.stdout], [], [], 10)


def test_one_whose_guard_is_killed_ends_too(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        pids = everyone(server)
        assert server._guard is not None
        server._guard.kill()
        assert left([server.pid]) == []
        wait_ended(server)
        assert server.ended() == "its guard was killed"
        for pid in pids[1:]:
            os.kill(pid, signal.SIGKILL)  # they had no other parent
    assert not os.path.exists(server.folder)


PARENT = """
import json, os, sys
from clusterd.bench.results import Side
from clusterd.bench.server import Server
with Server(Side("one"), sys.argv[1], stop_limit=float(sys.argv[2])) as server:
    pids = [int(word) for word in server.said().splitlines()[0].split()[1:]]
    print(json.dumps([server._guard.pid, server.folder, *pids]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("number", "manner", "limit"),
    [
        (signal.SIGKILL, "plain", "60"),
        (signal.SIGINT, "plain", "60"),
        (signal.SIGKILL, "deaf", "0.1"),
    ],
)
def test_with_whoever_started_it_all_of_it_goes(
    tmp_path: Path, number: signal.Signals, manner: str, limit: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, command(tmp_path, manner), limit],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout is not None
        guard, folder, *pids = json.loads(parent.stdout.readline())
        assert len(pids) == 3
        assert os.getsid(guard) == guard  # a terminal's Ctrl-C is not for it
        parent.send_signal(number)
    assert left([*pids, guard]) == []
    assert not os.path.exists(folder)


def test_much_output_is_shortened_and_its_end_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOO_MUCH", 10)
    with served(tmp_path) as server:
        before = server.said()
        server.shorten()
        assert server._output is not None
        assert os.fstat(server._output.fileno()).st_size == 0
        assert server.said() == before
        asked(server, "/more")
        assert os.fstat(server._output.fileno()).st_size < 20  # no hole of what was there before
        assert server.said() == f"{before}[b'/more']\n"
    assert server.said() == f"{before}[b'/more']\n"


def test_how_a_server_ended_is_said_in_words() -> None:
    assert how(3 << 8) == "exited with 3"
    assert how(signal.SIGSEGV) == "was killed by SIGSEGV"
