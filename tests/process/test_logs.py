"""What is logged, for real: nothing silences it, and each failure is one record."""

import contextlib
import fcntl
import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.gate import gate
from tests.support.server import APPS, LIMIT, ROOT, Server, serving

ID = "0af7651916cd43dd"


def lines_of(server: Server) -> list[dict[str, Any]]:
    """The log, which has nothing but JSON objects in it."""
    return [json.loads(line) for line in server.log().splitlines()]


def status_of(server: Server, path: str = "/", **headers: str) -> int:
    client = server.connect()
    client.request("GET", path, headers=headers)
    response: http.client.HTTPResponse = client.getresponse()
    response.read()
    client.close()
    return response.status


@pytest.mark.parametrize(
    ("app", "place"),
    [
        ("silencer:app", "import"),
        ("silencer:app", "lifespan"),
        ("silencer:app", "request"),
        ("silencer:wsgi", "import"),
        ("silencer:wsgi", "request"),
    ],
)
def test_a_500_is_one_record_whatever_the_application_does_to_logging(
    tmp_path: Path, app: str, place: str
) -> None:
    """Reports from the field, E."""
    with serving(tmp_path, app, "--log-format", "json", workers=1, WHERE=place) as server:
        assert status_of(server, "/a?b", **{"X-Request-ID": ID}) == 500

    (line,) = [each for each in lines_of(server) if each["level"] == "error"]
    assert line["message"] == "the app failed: RuntimeError"
    assert "RuntimeError: a bug of the application" in line["traceback"]
    assert (line["method"], line["path"], line["request_id"]) == ("GET", "/a", ID)
    assert line["worker"] == 0


def test_the_records_of_a_request_have_one_id_without_access_log_and_proxy(tmp_path: Path) -> None:
    """Flask's of its own exception, and what the application has logged by `wsgi.errors`."""
    (tmp_path / "shop.py").write_text(FLASK)
    options = ("--app-dir", str(tmp_path), "--log-format", "json")
    with serving(tmp_path, "shop:app", *options, workers=1) as server:
        assert [status_of(server, "/boom"), status_of(server, "/boom")] == [500, 500]

    lines = [line for line in lines_of(server) if line.get("path") == "/boom"]
    ids = [line["request_id"] for line in lines if "a bug" in line.get("traceback", "")]
    said = [line["request_id"] for line in lines if line["message"] == "it comes to no good"]
    assert len(set(ids)) == 2
    assert said == ids


FLASK = """\
from flask import Flask, request

app = Flask(__name__)


@app.get("/boom")
def boom():
    print("it comes to no good", file=request.environ["wsgi.errors"], flush=True)
    raise RuntimeError("a bug of the application")
"""


def test_a_500_of_flask_is_one_record_that_its_access_line_can_be_joined_with(
    tmp_path: Path,
) -> None:
    """Reports from the field, O15: it was 18. Flask catches the exception and logs it by itself."""
    (tmp_path / "shop.py").write_text(FLASK)
    options = ("--app-dir", str(tmp_path), "--log-format", "json", "--access-log")
    with serving(tmp_path, "shop:app", *options, workers=1) as server:
        assert status_of(server, "/boom") == 500

    lines = lines_of(server)
    (failure,) = [line for line in lines if "a bug of the application" in json.dumps(line)]
    (access,) = [line for line in lines if line.get("status") == 500]
    assert failure["traceback"].endswith("RuntimeError: a bug of the application")
    assert failure["request_id"] == access["request_id"] != ""
    assert (failure["path"], access["target"]) == ("/boom", "/boom")
    assert {each["pid"] for each in (failure, access)} == {access["pid"]}


def printed(server: Server, *command: str) -> str:
    """What a command prints that must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "clusterd.cli.main", *command, "--runtime-dir", server.runtime],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    return done.stdout


def test_a_dump_begins_with_the_applications_frames(tmp_path: Path) -> None:
    """Reports from the field, O17: the application's line was number 81."""
    with gate() as door, serving(tmp_path, workers=1, GATE=str(door.path)) as server:
        client = server.connect()
        client.request("GET", "/held")
        visitor = door.next()
        short, whole = (printed(server, "dump", *more).splitlines() for more in ([], ["--all"]))
        visitor.release()
        assert client.getresponse().status == 200
        client.close()

    at = next(number for number, line in enumerate(short) if "in knock" in line)
    assert at < 9, short
    assert not [line for line in short if "runpy" in line and "File" in line]
    assert "thread MainThread" in short[-2], short
    assert short[-2].endswith(": --all shows them")
    assert [line for line in whole if "runpy" in line]
    assert len(whole) > 2 * len(short)


@pytest.mark.skipif(sys.version_info < (3, 15), reason="only newer Pythons read foreign stacks")
def test_the_stack_of_a_stopped_worker_is_read_from_its_memory(tmp_path: Path) -> None:
    with gate() as door, serving(tmp_path, workers=1, GATE=str(door.path)) as server:
        client = server.connect()
        client.request("GET", "/busy-in-c")
        visitor = door.next()
        (worker,) = server.workers()
        os.kill(worker["pid"], signal.SIGSTOP)
        server.event("halted", pid=worker["pid"])
        lines = printed(server, "dump").splitlines()
        os.kill(worker["pid"], signal.SIGCONT)
        visitor.sock.close()
        client.close()

    assert lines[1].startswith("it did not even answer the signal; this is read from its memory")
    assert lines[2] == "thread MainThread"
    assert [line for line in lines if "in busy_in_c" in line]


def test_a_full_pipe_that_the_log_goes_to_keeps_no_master_from_ending(tmp_path: Path) -> None:
    """Its reader may have stopped, and a worker can fill it. The pipe itself stays as it was."""
    log, theirs = os.pipe()
    ready, ours = os.pipe()
    command = [sys.executable, "-m", "clusterd.cli.main", "run", "tell:app", "-b", "127.0.0.1:0"]
    command += ["--app-dir", str(APPS), "--runtime-dir", str(tmp_path), "-w", "1"]
    command += ["--graceful-timeout", "1", "--ready-fd", str(ours)]
    with subprocess.Popen(command, stderr=theirs, pass_fds=(ours,), cwd=tmp_path) as master:
        os.close(ours)
        assert os.read(ready, 1) == b"\n"
        filler = os.open(f"/proc/self/fd/{theirs}", os.O_WRONLY | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(filler, b"x")
        assert not fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
        master.send_signal(signal.SIGTERM)
        try:
            assert master.wait(LIMIT) == 0
        finally:
            master.kill()
    for fd in (log, theirs, ready, filler):
        os.close(fd)


OVERWRITES = """\
import fcntl, os
from tests.apps.tell import answer, lifespan, who

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    for name in os.listdir("/proc/self/fd"):
        try:
            is_log = os.readlink(f"/proc/self/fd/{name}") == os.environ["LOG"]
        except OSError:  # it was closed since
            continue
        if is_log:
            fcntl.fcntl(int(name), fcntl.F_SETFL, 0)
            os.lseek(int(name), 0, os.SEEK_SET)
    await answer(send, {"pid": os.getpid()})
"""


def test_a_worker_that_changes_the_flags_of_the_log_does_not_change_the_masters(
    tmp_path: Path,
) -> None:
    """Workers share the description that the master has opened; also after an upgrade in place."""
    (tmp_path / "shop.py").write_text(OVERWRITES)
    log = tmp_path / "log"
    options = ("--app-dir", str(tmp_path), "--log-file", str(log), "--log-format", "json")

    with serving(tmp_path, "shop:app", *options, workers=1, LOG=str(log)) as server:
        for size in (2, 1):
            server.get()
            before = log.read_bytes()
            server.ask("scale", to=size)
            server.event("scaled", size=size)
            assert log.read_bytes().startswith(before)
            assert b'"scaled"' in log.read_bytes()[len(before) :]
            if size == 2:
                server.event("readied", slot=1)
                assert server.ask("upgrade", wait=True)["ok"]
