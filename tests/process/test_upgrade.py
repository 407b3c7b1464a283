"""Upgrades in place, for real: same pid, same workers, and no client notices."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import clusterd
from clusterd.core.errors import ClusterdError
from clusterd.ipc.client import Refused
from tests.support.authority import Authority
from tests.support.load import Load
from tests.support.secure import secure, told
from tests.support.server import APPS, LIMIT, ROOT, Server, running, serving


def gentle(server: Server) -> Load:
    """Clients that leave the cores to the upgrades."""
    return Load(server, rest=0.01)


def masters(server: Server) -> list[str]:
    """What /proc says that the master has open, but for what each start makes anew."""
    found = []
    for number in os.listdir(f"/proc/{server.pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{server.pid}/fd/{number}"))
    return sorted(one for one in found if "anon_inode" not in one)


def inherited(server: Server) -> int:
    """How many descriptors of the master anybody whom it starts would inherit."""
    count = 0
    for number in os.listdir(f"/proc/{server.pid}/fdinfo"):
        if int(number) > 2:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{server.pid}/fdinfo/{number}").read_text()
                flags = int(text.split("flags:")[1].split()[0], 8)
                count += not flags & os.O_CLOEXEC
    return count


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of clusterd that a test may break, to be found by PYTHONPATH."""
    place = tmp_path / "code"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(clusterd.__file__).parent, place / "clusterd", ignore=ignore)
    return place


@pytest.mark.timeout(180)  # of a second or two each, and slower where others test beside us
@pytest.mark.parametrize("upgrades", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_upgrades_under_load_lose_nothing(tmp_path: Path, upgrades: int) -> None:
    with serving(tmp_path, workers=2) as server, gentle(server) as load:
        workers = {each["pid"] for each in server.workers()}
        requests, opened, journal = 0, 0, 0
        for _ in range(upgrades):
            answer = server.ask("upgrade")
            assert answer["version"] == clusterd.__version__
            status = server.ask("status")
            assert status["pid"] == server.pid
            assert status["totals"]["requests"] >= requests
            assert status["journal"] > journal
            requests, journal = status["totals"]["requests"], status["journal"]
            opened = opened or len(masters(server))
        assert abs(len(masters(server)) - opened) <= 4, "clients of the load come and go"
        assert inherited(server) == 0
        assert {each["pid"] for each in server.workers()} == workers
        seen = server.rest_so_far()
        assert [event["n"] for event in seen] == list(range(1, len(seen) + 1))
        assert len(server.find("upgraded", pid=server.pid)) == upgrades
        assert not server.find("exited")
        assert not server.find("trouble"), server.history()
    assert load.failed == []
    assert load.answered > upgrades


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def break_syntax(code: Path) -> None:
    change(code / "master" / "loop.py", "def turn(", "def turn((")


def lose_dependency(code: Path) -> None:
    change(code / "kernel" / "real.py", "import select\n", "import select, no_such_tea\n")


def lose_entry(code: Path) -> None:
    (code / "cli" / "resume.py").unlink()


def leave_silently(code: Path) -> None:
    change(code / "cli" / "resume.py", "import gc\n", "import gc, os; os._exit(0)\n")


def change_format(code: Path) -> None:
    change(code / "master" / "state.py", "FORMAT = 1", "FORMAT = 2")


def change_message(code: Path) -> None:
    change(
        code / "ipc" / "messages.py", "class Unspawned:\n", "class Unspawned:\n    colour: str\n"
    )


def add_message(code: Path) -> None:
    messages = code / "ipc" / "messages.py"
    change(messages, "# master → worker\n", "@dataclass\nclass Tea:\n    pass\n\n\n")
    change(messages, "    | Cover\n", "    | Tea\n    | Cover\n")


def change_row(code: Path) -> None:
    change(code / "ipc" / "scoreboard.py", "ROWS = 1024", "ROWS = 512")


def lose_setting(code: Path) -> None:
    change(code / "config" / "serving.py", "    app_dir: str = ", "    place: str = ")


def break_worker(code: Path) -> None:
    change(code / "worker" / "server.py", '"""', "def (\n")


BROKEN: list[tuple[Callable[[Path], None], str, str]] = [
    (break_syntax, "SyntaxError", "loop.py"),
    (lose_dependency, "No module named 'no_such_tea'", "Traceback"),
    (lose_entry, "No module named clusterd.cli.resume", ""),
    (leave_silently, "without a word: status 0", ""),
    (change_format, "of format 1, and this version knows format 2; restart clusterd", ""),
    (change_message, "the message 'Unspawned' is another in this version", ""),
    (add_message, "workers that run already do not know the message 'Tea' of this version", ""),
    (change_row, "the cell 'rows' is another in this version: 1024 became 512; restart", ""),
    (lose_setting, "app_dir", ""),
    (break_worker, "SyntaxError", "server.py"),
]


def test_a_broken_version_changes_nothing_and_the_command_says_why(
    tmp_path: Path, copy: Path
) -> None:
    code, spare = copy / "clusterd", tmp_path / "spare"
    shutil.copytree(code, spare)
    with (
        serving(tmp_path, workers=1, PYTHONPATH=str(copy)) as server,
        gentle(server) as load,
    ):
        (worker,) = server.workers()
        for spoil, reason, text in BROKEN:
            spoil(code)
            with pytest.raises(Refused) as refused:
                server.ask("upgrade")
            failed = server.event("upgrade_failed")
            assert reason in refused.value.message == failed["reason"]
            assert text in failed["traceback"]
            shutil.rmtree(code)
            shutil.copytree(spare, code)
        change(code / "__init__.py", '"0.', '"7.')
        asked = "    asked: bool = False"
        change(code / "fleet" / "roster.py", asked, f'    colour: str = "red"\n{asked}')
        server.signal(signal.SIGUSR2)
        upgraded = server.event("upgraded", pid=server.pid, previous=clusterd.__version__)
        assert upgraded["version"].startswith("7.")
        assert [each["pid"] for each in server.workers()] == [worker["pid"]]
        assert load.failed == []
        os.kill(worker["pid"], signal.SIGKILL)
        server.event("readied")
        assert server.ask("status")["version"] == upgraded["version"]


def test_a_reload_after_the_package_was_exchanged_fails_at_once_and_says_why(
    tmp_path: Path, copy: Path
) -> None:
    """The new zygote says what the master, which is the old version still, does not know."""
    with serving(tmp_path, workers=1, PYTHONPATH=str(copy)) as server, gentle(server) as load:
        workers = server.workers()
        loaded = '    kinds: str = ""\n'
        change(copy / "clusterd/ipc/messages.py", loaded, f'{loaded}    colour: str = "red"\n')
        with pytest.raises(Refused) as refused:
            server.ask("reload", wait=True)
        assert "clusterd was changed on disk" in refused.value.message
        failed = server.event("zygote_failed", generation=2)
        assert failed["remedy"].startswith("Say clusterd upgrade")
        assert [each["pid"] for each in server.workers()] == [workers[0]["pid"]]
    assert load.failed == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (
            "ipc/messages.py",
            '    fingerprint: str = ""\n',
            '    fingerprint: str = ""\n    hue: str = ""\n',
        ),
        (
            "ipc/messages.py",
            "    listeners: list[str]\n",
            "    listeners: list[str]\n    hue: str\n",
        ),
        ("ipc/scoreboard.py", "    HELD = 61  #", "    HELD = 62   #"),  # and is of another size
        ("config/running.py", "    pin: bool =", "    pinned: bool ="),
    ],
    ids=["ready", "spawn", "scoreboard", "settings"],
)
def test_a_worker_that_imports_for_itself_after_the_package_was_exchanged_says_why(
    file: str, old: str, new: str, tmp_path: Path, copy: Path
) -> None:
    """Its process starts from the disk, where another version is than the master runs."""
    options = ("--preload", "never", "--startup-timeout", "1h")
    with serving(tmp_path, "tell:app", *options, workers=2, PYTHONPATH=str(copy)) as server:
        change(copy / "clusterd" / file, old, new)
        killed, other = server.workers()
        os.kill(killed["pid"], signal.SIGKILL)
        failed = server.event("worker_failed", slot=killed["slot"])
        assert failed["reason"].startswith("clusterd was changed on disk")
        assert failed["remedy"].startswith("Say clusterd upgrade")
        # It may have been ready, and would take the connection with it.
        server.event("exited", pid=failed["pid"])
        assert json.loads(server.get())["pid"] == other["pid"]
        change(copy / "clusterd" / file, new, old)
        server.event("readied", slot=killed["slot"])
        assert not server.find("breach")


def command(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """A `clusterd` command against this cluster."""
    argv = [sys.executable, "-m", "clusterd.cli.main", *words, "--runtime-dir", str(server.runtime)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(argv, cwd=server.place, env=env, capture_output=True, text=True)


SLOW = """
import os
open(os.environ["LOCK"]).read()
{then}
"""


@pytest.mark.parametrize("then", ["", "raise RuntimeError('no tea')"])
def test_in_the_middle_of_a_reload_both_end_well(tmp_path: Path, then: str) -> None:
    """The new generation's import waits for us: the master that it is ready for is the new one."""
    app, lock = tmp_path / "app.py", tmp_path / "lock"
    os.mkfifo(lock)
    app.write_text((APPS / "tell.py").read_text())
    options = ("--app-dir", str(tmp_path))
    with (
        serving(tmp_path, "app:app", *options, LOCK=str(lock)) as server,
        gentle(server) as load,
    ):
        old = {each["pid"] for each in server.workers()}
        app.write_text(SLOW.format(then=then) + (APPS / "tell.py").read_text())
        with waiting(lambda: server.ask("reload", wait=True)) as reloaded:
            server.event("zygote_spawned", generation=2)
            assert command(server, "upgrade").stdout.startswith("the master runs clusterd")
            lock.write_text("go on")
            server.event("rollout_failed" if then else "rollout_finished", generation=2)
        now = {each["pid"] for each in server.workers() if each["phase"] == "ready"}
        if then:
            assert "no tea" in str(reloaded[0])
            assert now == old
        else:
            assert reloaded[0]["generation"] == 2
            assert not now & old
        assert len(now) == 2
    assert load.failed == []


@contextlib.contextmanager
def waiting(ask: Callable[[], Any]) -> Iterator[list[Any]]:
    """Have something asked beside us; the answer, or what was raised, is there afterwards."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(ask())
        except ClusterdError as error:
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield answers
    thread.join(LIMIT)


def test_a_worker_that_dies_during_it_is_replaced_by_whoever_is_there_then(tmp_path: Path) -> None:
    with serving(tmp_path, workers=2) as server:
        for _ in range(3):
            victim = server.workers()[0]["pid"]
            with waiting(lambda: server.ask("upgrade")) as answers:
                server.event("upgrade_started")
                os.kill(victim, signal.SIGKILL)
            assert answers[0]["ok"]
            server.event("exited", pid=victim, cause="SIGKILL")
            server.event("readied")
        assert server.ask("status")["ready"] == 2


def test_whatever_is_open_is_of_use_afterwards(tmp_path: Path) -> None:
    """Certificates, a socket a slot, a socket file with its lock, the log, the terminal of none."""
    authority = Authority(tmp_path)
    place = tempfile.mkdtemp(prefix="clusterd-")
    path = f"{place}/shop.sock"
    bound = ("--balance", "reuseport", "-b", f"unix:{path}", "-b", "127.0.0.1:0")
    log = ("--log-file", str(tmp_path / "log"))
    with secure(authority, *bound, *log) as server:
        server.ask("upgrade")
        context = authority.client()
        first = told(server, context)
        victim = server.workers()[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        server.event("exited", pid=victim)
        server.event("readied")
        server.ask("reopen")
        server.ask("scale", to=3)
        server.event("readied", slot=2)
        assert server.ask("reload", wait=True)["generation"] == 2
        assert server.ask("upgrade")["ok"]
        assert told(server, context).keys() == first.keys()
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.connect(path)
        assert "upgraded" in (tmp_path / "log").read_text()
        assert server.log() == ""
    assert os.listdir(place) == []
    os.rmdir(place)


def test_a_trial_that_hangs_holds_up_nothing_and_ends_with_its_master(
    tmp_path: Path, copy: Path
) -> None:
    """It has a copy of all that the master has open."""
    told = tmp_path / "told"
    os.mkfifo(told)
    hang = f"open({str(told)!r}, 'w').write('x')\nimport threading; threading.Event().wait()\n"
    (copy / "clusterd" / "cli" / "successor.py").write_text(hang)
    with running(tmp_path, "tell:app", "-w", "1", PYTHONPATH=str(copy)) as server:
        server.ready()
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(server.control))
        client.sendall(b'{"command": "status"}\n')
        while not client.recv(1 << 16).endswith(b"\n"):
            pass
        with waiting(lambda: server.ask("upgrade")) as answers, contextlib.closing(client):
            assert told.read_text() == "x"
            server.get()
            client.sendall(b'{"command": "events"}\n')
            while client.recv(1 << 16):
                pass  # the master's close must reach it
            ends = [os.pidfd_open(pid) for pid in server.family()]
            server.signal(signal.SIGKILL)
            for end in ends:
                assert select.select([end], [], [], LIMIT)[0], "somebody outlived the master"
                os.close(end)
        assert "left before it answered" in str(answers[0])


def test_a_stop_during_the_trial_wins(tmp_path: Path) -> None:
    with serving(tmp_path, workers=1) as server:
        with waiting(lambda: server.ask("upgrade")) as answers:
            server.event("upgrade_started")
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
        assert "stopping" in str(answers[0]) or answers == []
