"""Groups that run programs, for real: beside an application, alone, and when all goes wrong."""

import http.client
import json
import os
import signal
import socket
import textwrap
from pathlib import Path

import pytest

from clusterd.ipc.client import Refused
from tests.support.keeping import is_gone
from tests.support.server import LIMIT, ROOT, Server, running

# Serves on what it was handed, with its pid as the answer.
LISTENER = """
import os, socket, sys
listener = socket.socket(fileno=3)
assert os.environ["LISTEN_PID"] == str(os.getpid())
while True:
    client, _ = listener.accept()
    client.recv(65536)
    body = str(os.getpid()).encode()
    head = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n"
    client.sendall(head % len(body) + body)
    client.close()
"""

# Says when it runs, and when it sees that another one does.
SINGLE = """
import fcntl, os, signal, sys, time
here = open("lock", "a")
diary = os.open("diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def tell(word):
    os.write(diary, f"{word} {os.getpid()}\\n".encode())
try:
    fcntl.flock(here, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    tell("twice")
signal.signal(15, lambda *_: (tell("end"), os._exit(0)))
tell("start")
print("up", flush=True)
while True:
    signal.pause()
"""


def write(place: Path, text: str, **programs: str) -> None:
    """The settings, and programs beside them."""
    for name, code in programs.items():
        (place / f"{name}.py").write_text(textwrap.dedent(code))
    (place / "clusterd.toml").write_text(textwrap.dedent(text))


def ask(address: tuple[str, int]) -> int:
    """The pid of whoever answers there."""
    client = http.client.HTTPConnection(*address, timeout=LIMIT)
    client.request("GET", "/")
    pid = int(client.getresponse().read())
    client.close()
    return pid


def address_of(server: Server, group: str) -> tuple[str, int]:
    (found,) = server.find("listening", group=group)
    host, _, port = found["address"].rpartition(":")
    return host, int(port)


def pids_of(server: Server, group: str) -> set[int]:
    """Of its keepers."""
    return {one["pid"] for one in server.workers() if one["group"] == group}


TOGETHER = """
        [web]
        app = "tell:app"
        workers = 1
        after = ["crew"]

        [group.crew]
        command = ["python3", "listener.py"]
        bind = ["127.0.0.1:0"]
        processes = 2
        ready_after = "100ms"

        [group.unlucky]
        command = "/bin/sh -c 'echo no luck; exit 9'"
"""


def it_is_backed_off(server: Server) -> None:
    """The group that ends whenever it is started, and says why."""
    failed = server.event("worker_failed", group="unlucky")
    assert "ended by itself with status 9" in failed["reason"]
    assert failed["traceback"] == "no luck"
    server.event("exited", group="unlucky", cause="status 9")
    waits = [server.event("backed_off", group="unlucky")["retry_in"] for _ in range(3)]
    assert waits[2] > waits[0]


def test_web_and_background_processes_from_one_file(tmp_path: Path) -> None:
    write(tmp_path, TOGETHER, listener=LISTENER)
    with running(tmp_path, "", "--min-ready", "0", PATH=os.environ["PATH"]) as server:
        server.event("readied", group="web")
        crew = server.find("readied", group="crew")
        assert [one["slot"] for one in sorted(crew, key=lambda one: one["slot"])] == [0, 1]
        where = address_of(server, "crew")
        program = ask(where)
        assert program not in pids_of(server, "crew")
        assert os.path.basename(os.readlink(f"/proc/{program}/cwd")) == tmp_path.name

        assert server.ask("scale", group="crew", to=3)["ok"]
        server.event("readied", group="crew", slot=2)
        keeper = int(Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(keeper, signal.SIGKILL)
        server.event("exited", group="crew", pid=keeper, cause="SIGKILL")
        assert is_gone(program)
        server.event("readied", group="crew")
        assert ask(where) != program

        it_is_backed_off(server)
        assert server.get("/")

        assert server.ask("reload", group="crew")["ok"]
        server.event("rollout_finished", group="crew")
        server.event("exited", group="crew", generation=1, slot=2)  # it drops what it has in hand
        status = {one["name"]: one for one in server.ask("status")["groups"]}
        assert status["crew"]["kind"] == "command"
        assert (status["crew"]["size"], status["crew"]["ready"]) == (3, 3)
        programs = {ask(where)}
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert all(is_gone(pid) for pid in programs)
        order = [e["group"] for e in server.seen if e["kind"] == "exited" and e["asked"]]
        assert order.index("web") < order.index("crew", len(order) - 3)


def test_a_singleton_never_runs_twice(tmp_path: Path) -> None:
    """Over reloads, an upgrade, its death and its keeper's, and a master that was killed."""
    settings = """
        [group.clock]
        command = ["python3", "single.py"]
        singleton = true
        readiness = "line:^up$"
        min_ready = 0
    """
    write(tmp_path, settings, single=SINGLE)
    diary = tmp_path / "diary"
    with running(tmp_path, "") as server:
        server.event("readied", group="clock")
        with pytest.raises(Refused, match="singleton and cannot have 2 processes"):
            server.ask("scale", group="clock", to=2)
        for _ in range(3):
            before = running_now(diary)
            assert server.ask("reload")["ok"]
            server.event("rollout_finished", group="clock")
            assert running_now(diary, but=before) != before
        before = running_now(diary)
        assert server.ask("upgrade")["ok"]
        server.event("upgraded")
        assert running_now(diary) == before
        assert server.ask("reload")["ok"]
        server.event("rollout_finished", group="clock")
        assert running_now(diary, but=before) != before
        for victim in ("program", "keeper"):
            before = running_now(diary)
            (keeper,) = pids_of(server, "clock")
            os.kill(before if victim == "program" else keeper, signal.SIGKILL)
            server.event("exited", group="clock", pid=keeper, cause="SIGKILL", asked=False)
            server.event("readied", group="clock")
            assert running_now(diary, but=before) != before
        before = running_now(diary)
        server.process.kill()
        options = ("--runtime-dir", str(server.runtime))
        with running(tmp_path, "", *options) as successor:
            assert running_now(diary, but=before) != before
            os.kill(successor.pid, signal.SIGTERM)
            assert successor.process.wait(LIMIT) == 0
    words = [line.split()[0] for line in diary.read_text().splitlines()]
    assert "twice" not in words
    assert words.count("start") == 8


def running_now(diary: Path, but: int = 0) -> int:
    """The pid of the last one that started; waits for another than `but`."""
    while True:
        text = diary.read_text()
        started = [line.split()[1] for line in text.splitlines() if line.startswith("start")]
        if text.endswith("\n") and int(started[-1]) != but:
            return int(started[-1])


# Goes away from its parent, as programs did in the days of init scripts.
DAEMON = """
import os, signal
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
open("daemon.pid", "w").write(f"{os.getpid()}\\n")
signal.pause()
"""

# Says that it is ready, shuts everything that it could say more with, and hears nothing.
DEAF = """
import os, signal, socket
signal.signal(15, signal.SIG_IGN)
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", chr(0)))
open("deaf.pid", "w").write(f"{os.getpid()}\\n")
os.closerange(0, 1000)
while True:
    signal.pause()
"""


def test_whatever_a_program_does_the_cluster_stops(tmp_path: Path) -> None:
    settings = """
        graceful_timeout = "500ms"

        [group.daemon]
        command = ["python3", "daemon.py"]

        [group.deaf]
        command = ["python3", "deaf.py"]
        readiness = "notify"

        [group.family]
        command = "/bin/sh -c 'sleep 99 & echo $! > child.pid; echo $$ > parent.pid; wait'"

        [group.flood]
        command = ["yes", "a line that says nothing"]
        ready_after = 0
    """
    write(tmp_path, settings, daemon=DAEMON, deaf=DEAF)
    with running(tmp_path, "") as server:
        server.event("ready")
        pids = [int((tmp_path / f"{name}.pid").read_text()) for name in ("daemon", "deaf")]
        (keeper,) = pids_of(server, "family")
        family = [int((tmp_path / f"{name}.pid").read_text()) for name in ("parent", "child")]
        os.kill(keeper, signal.SIGKILL)
        server.event("exited", group="family", pid=keeper)
        assert all(is_gone(pid) for pid in family), "a keeper that is killed leaves nobody"
        server.event("readied", group="family")
        pids.append(int((tmp_path / "child.pid").read_text()))
        while "went into the background" not in server.log():
            pass  # it is given a second to end what it left
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert not server.find("killed"), "the keepers left by themselves"
        assert all(is_gone(pid) for pid in pids)
        messages = [json.loads(line) for line in server.log().splitlines()]
    assert {"flood", "daemon"} <= {one["group"] for one in messages if "group" in one}
    flood = {one["message"] for one in messages if one.get("stream")}
    assert "a line that says nothing" in flood
    # It may be ended in the middle of the last one.
    assert all("a line that says nothing".startswith(line) for line in flood)


# Stands for a server that binds $PORT: a name that only one process can have.
PORT = """
import os, signal, socket
sock = socket.socket(socket.AF_UNIX)
sock.bind(chr(0) + os.getcwd()[-90:] + ":" + os.environ["PORT"])
print("bound", os.environ["PORT"], flush=True)
signal.pause()
"""


def test_a_procfile_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "port.py").write_text(PORT)
    (tmp_path / "Procfile").write_text("""
# a port of its own for each
web: python3 port.py
other: echo bound $PORT; exec sleep 99
""")
    with running(tmp_path, "", "--procfile", "Procfile", PORT="0") as server:
        server.event("ready")
        (master,) = server.find("started")
        assert server.ask("scale", group="web", to=2)["ok"]
        server.event("readied", group="web", slot=1)
        assert server.ask("reload", group="web")["ok"]
        server.event("rollout_finished", group="web")
        while server.log().count('"bound') < 5:
            pass  # each new one wants its old one's port
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert master["pid"] == server.pid
    said = [json.loads(line) for line in server.log().splitlines()]
    ports = [one["message"] for one in said if one.get("stream")]
    assert sorted(ports) == ["bound 0", "bound 0", "bound 1", "bound 1", "bound 100"]


def test_the_example_works_as_it_is(tmp_path: Path) -> None:
    for file in (ROOT / "examples" / "groups").iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    options = ("--app-dir", ".", "-b", "127.0.0.1:0")
    with running(tmp_path, "", *options) as server:
        server.ready()
        for _ in range(2):
            connection = server.connect()
            connection.request("POST", "/letters")
            assert connection.getresponse().status == 202
            connection.close()
        while server.log().count("did /letters") < 2:
            pass  # a process of the group jobs looks for work
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert not server.find("killed")


def test_a_script_that_changed_is_said_when_its_program_starts_again(tmp_path: Path) -> None:
    settings = '[group.work]\ncommand = ["python3", "work.py"]\nready_after = 0\n'
    write(tmp_path, settings, work="import signal\nsignal.pause()\n")
    with running(tmp_path, "") as server:
        keeper = server.event("readied", group="work")["pid"]
        write(tmp_path, settings, work="import signal\nsignal.pause()  # otherwise\n")
        os.kill(keeper, signal.SIGKILL)
        server.event("exited", group="work", pid=keeper)
        reason = server.event("trouble", group="work")["reason"]
        assert reason.startswith("worker 0 runs other files than the workers before it")
        with pytest.raises(Refused, match="there is no rollback: a program is started from"):
            server.ask("rollback")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


# Is imported once somebody has opened the other end of the pipe.
GATED = """
open("gate").close()
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"1"})
"""


def ask_file(path: Path) -> int:
    """Connect to a Unix socket; 1 where the app there has responded. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        with client.makefile("rb") as reply:
            return int(reply.read().rpartition(b"\r\n")[2].strip())


def test_a_unix_socket_of_a_group_that_never_was_ready_refuses_and_resets_nobody(
    tmp_path: Path,
) -> None:
    """A reload adds the group while others serve; its import takes long, and it is removed."""
    web = '[web]\napp = "gated:app"\nworkers = 1\n'
    os.mkfifo(tmp_path / "gate")
    write(tmp_path, web, gated="app = None" + GATED.replace('open("gate").close()', ""))
    with running(tmp_path, "", "--app-dir", ".") as server:
        path = server.runtime / "shop.sock"
        shop = f'{web}[group.shop]\napp = "slowly:app"\nbind = ["unix:{path}"]\nworkers = 1\n'
        server.event("ready")
        write(tmp_path, shop, slowly=GATED)
        assert server.ask("reload")["ok"]
        server.event("zygote_spawned", group="shop")
        with pytest.raises(ConnectionRefusedError):
            ask_file(path)
        write(tmp_path, web)
        assert server.ask("reload")["ok"]
        server.event("group_removed", group="shop")
        with pytest.raises(FileNotFoundError):
            ask_file(path)
        write(tmp_path, shop)
        assert server.ask("reload")["ok"]
        server.event("zygote_spawned", group="shop")
        with pytest.raises(ConnectionRefusedError):
            ask_file(path)
        (tmp_path / "gate").open("w").close()
        server.event("readied", group="shop")
        assert ask_file(path) == 1
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
