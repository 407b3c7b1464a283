"""`clusterd why` and `clusterd check`, as people type them, beside a real cluster."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.exits import Exit
from tests.support.server import APPS, LIMIT, ROOT, Server, serving

SHORT = ("--hang-dump", "0.4", "--hang-timeout", "1", "--graceful-timeout", "1")


def typed(place: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    """A command, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "clusterd.cli.main", *args],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PWD": str(place), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def why(server: Server, *args: str) -> list[dict[str, Any]]:
    """The stories, the latest first."""
    done = typed(server.place, "why", "--json", "--runtime-dir", str(server.runtime), *args)
    assert done.returncode == Exit.OK, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_end_is_told_with_its_cause_and_what_followed(tmp_path: Path) -> None:
    with serving(tmp_path, "stuck:app", *SHORT) as server:
        assert why(server) == []
        victim = server.workers()[1]["pid"]
        os.kill(victim, signal.SIGSEGV)
        server.event("readied", slot=1)
        (story,) = why(server)
        assert (story["slot"], story["pid"], story["headline"]) == (1, victim, "died of SIGSEGV")
        assert story["then"].startswith("Replaced by process ")

        with socket.create_connection(server.address) as sock:
            sock.sendall(b"GET /python HTTP/1.1\r\nHost: a\r\n\r\n")
            blocked = server.event("leaving")
            server.event("exited", pid=blocked["pid"])
        story = why(server, "-n", "1")[0]
        assert story["headline"] == "was replaced, since its event loop was blocked"
        assert "stuck.py" in story["doing"]
        assert "had taken its place" in story["then"]

        done = typed(tmp_path, "why", "1", "-n", "9", "--runtime-dir", str(server.runtime))
        assert f"(process {victim}, generation 1, " in done.stdout
        assert "died of SIGSEGV" in done.stdout
        assert "To do: " in done.stdout
        slots = {story["slot"] for story in why(server, "1", "-n", "9")}
        assert slots == {1}


def test_a_failed_rollout_and_the_last_log_lines_are_told(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import os\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http' and scope['path'] == '/die':\n"
        "        os._exit(3)\n"
        "    raise RuntimeError('sold out')\n"
    )
    options = ("--app-dir", str(tmp_path), "--log-file", str(tmp_path / "log"))
    with serving(tmp_path, "shop:app", *options, workers=1) as server:
        for path in ("/", "/die"):
            with socket.create_connection(server.address, LIMIT) as sock:
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                sock.recv(1000)
        died = server.event("exited")
        server.event("readied", slot=0)
        (story,) = why(server)
        assert (story["pid"], story["headline"]) == (died["pid"], "ended with status 3")
        assert any("sold out" in line for line in story["said"]), story
        assert story["said"] == why(server, "--log-file", str(tmp_path / "log"))[0]["said"]

        (tmp_path / "shop.py").write_text("import stock\n")
        server.signal(signal.SIGHUP)
        server.event("rollout_failed")
        text = typed(tmp_path, "why", "-n1", "--runtime-dir", str(server.runtime)).stdout
        assert "Generation 2 of web did not come up: import failed:" in text
        assert "Generation 1 serves on." in text
        assert "import stock" in text


@pytest.mark.parametrize("app", ["tell:app", "nowhere:app"])
def test_check_says_what_run_would_meet(app: str, tmp_path: Path) -> None:
    with serving(tmp_path, "tell:app", workers=1) as server:
        host, port = server.address
        args = ["--app-dir", str(APPS), "--runtime-dir", str(server.runtime), "--json"]
        args += ["--user", f"{os.geteuid()}:{os.getegid()}"]  # root is to name one
        done = typed(tmp_path, "check", app, "-b", f"{host}:{port}", *args)
        found = {one["check"]: one for one in json.loads(done.stdout)}
        assert "belongs to the running cluster" in found["bind"]["text"]
        assert "a cluster of this name runs there" in found["control"]["text"]
        assert (found["app"]["level"] == "ok") == (app == "tell:app")
        assert done.returncode == (Exit.OK if app == "tell:app" else Exit.FAILED)


def test_the_last_run_is_told_of_when_the_cluster_is_gone(tmp_path: Path) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    with serving(tmp_path, "stuck:app", *SHORT, workers=1) as server:
        victim = server.workers()[0]["pid"]
        os.kill(victim, signal.SIGSEGV)
        server.event("readied", slot=0)
        assert server.stop() == 0
        where = ("--runtime-dir", str(server.runtime))
        done = typed(tmp_path, "why", "--json", *where, **state)
        assert done.returncode == Exit.OK
        assert done.stderr.startswith("clusterd does not run; its last run ended at ")
        (story,) = [json.loads(line) for line in done.stdout.splitlines()]
        assert (story["pid"], story["headline"]) == (victim, "died of SIGSEGV")
        (kept,) = (tmp_path / "state/clusterd").iterdir()
        assert kept.stat().st_mode & 0o777 == 0o600

        (tmp_path / "broken.py").write_text("1 / 0\n")
        words = ("broken:app", "-b", "127.0.0.1:0", *where)
        assert typed(tmp_path, "run", *words, **state).returncode == Exit.NEVER_READY
        told = typed(tmp_path, "why", *where, **state).stdout
        assert "The cluster gave up: import failed: importing broken failed" in told
        assert "ZeroDivisionError" in told
        assert list((tmp_path / "state/clusterd").iterdir()) == [kept]

        (tmp_path / "killer.py").write_text(
            "import os, pathlib, signal\n"
            "async def app(scope, receive, send):\n"
            f"    pid = pathlib.Path({str(tmp_path / 'pid')!r}).read_text()\n"
            "    os.kill(int(pid), signal.SIGKILL)\n"
        )
        killer = ("killer:app", "-b", "127.0.0.1:0", "--pid-file", str(tmp_path / "pid"), *where)
        assert typed(tmp_path, "run", *killer, **state).returncode == -signal.SIGKILL
        killed = typed(tmp_path, "why", *where, **state)
        assert killed.returncode == Exit.FAILED
        assert "the last run left no record (was its master killed?)" in killed.stderr
        assert not list((tmp_path / "state/clusterd").iterdir()), "no older run is told of"

        none = typed(tmp_path, "why", "--runtime-dir", str(tmp_path), **state)
        assert none.returncode == Exit.FAILED, "of another place nothing is known"
