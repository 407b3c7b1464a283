"""`--dev`, for real: saving code puts it in, saving broken code changes nothing and says why."""

import contextlib
import json
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import LIMIT, Server, running

CODE = """
import json, os
VERSION = {version!r}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    body = json.dumps([VERSION, os.getpid()]).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    if scope["path"] == "/stream":
        kind = [(b"content-type", b"text/event-stream")]
        await send({{"type": "http.response.start", "status": 200, "headers": kind}})
        await send({{"type": "http.response.body", "body": b"on", "more_body": True}})
        await receive()
        await receive()  # for ever: the client stays
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""


SAME = 4_000_000_000  # a time of change in the future: what has it may be saved again


def save(place: Path, text: str) -> None:
    """Each save has the same time, as if it came within the second."""
    fresh = place / "shop.tmp"
    fresh.write_text(text)
    os.utime(fresh, (SAME, SAME))
    fresh.replace(place / "shop.py")


def version(server: Server) -> str:
    return str(json.loads(server.get())[0])


@contextlib.contextmanager
def developing(place: Path, *options: str) -> Iterator[Server]:
    save(place, CODE.format(version="1"))
    options = ("--dev", "--app-dir", str(place), *options)
    # Bytecode is kept as it is where people develop.
    with running(place, "shop:app", *options, PYTHONDONTWRITEBYTECODE="") as server:
        watched(server)
        yield server
        assert server.stop() == 0, server.history()


def own_lines(server: Server) -> list[str]:
    """The log without the lines of the access log."""
    return [line for line in server.log().splitlines() if '"GET / ' not in line]


def watched(server: Server) -> None:
    """Wait until it serves, and sees what is saved; which of them is first is open."""
    server.ready()
    if not server.find("readied", group="watch"):
        server.event("readied", group="watch")


def test_what_is_saved_serves_and_what_is_broken_does_not(tmp_path: Path) -> None:
    with developing(tmp_path, "--log-format", "text") as server:
        assert version(server) == "1"
        (master,) = {e["pid"] for e in server.find("started")}

        server.rest_so_far()
        before = own_lines(server)
        # Saves of one size and time, which Python's cache of bytecode cannot tell apart.
        for number in "2345":
            save(tmp_path, CODE.format(version=number))
            server.event("rollout_finished", group="web")
            assert version(server) == number
        told = own_lines(server)[len(before) :]
        assert len(told) == 4, told  # one line a save
        assert all(" INFO reloaded in " in line for line in told)
        assert told[-1].endswith(" serves")

        save(tmp_path, CODE.format(version="6") + "def (:\n")
        failed = server.event("rollout_failed", group="web")
        assert "SyntaxError" in failed["traceback"]
        assert version(server) == "5"
        log = server.log()
        assert log.count("SyntaxError: invalid syntax\n") == 1  # once, below its line
        assert '\n      File "' + str(tmp_path / "shop.py") in log

        # Whatever hangs in its import is given up for the next save.
        save(tmp_path, "import threading\nthreading.Event().wait()\n")
        hung = server.event("zygote_spawned", group="web")["generation"]
        save(tmp_path, CODE.format(version="7"))
        assert "superseded" in server.event("rollout_failed", generation=hung)["reason"]
        server.event("rollout_finished", group="web")
        assert version(server) == "7"
        assert server.pid == master


def test_what_is_open_does_not_hold_a_reload(tmp_path: Path) -> None:
    """Neither a stream without an end nor what is no part of the application."""
    with developing(tmp_path) as server:
        with contextlib.closing(server.connect()) as client:
            client.request("GET", "/stream")
            response = client.getresponse()
            assert response.read(2) == b"on"
            (tmp_path / "db.sqlite3").write_bytes(b"rows")
            (tmp_path / ".git").mkdir()
            (tmp_path / ".git" / "hook.py").write_text("")
            save(tmp_path, CODE.format(version="2"))
            server.event("rollout_finished", group="web")
            assert version(server) == "2"
            assert response.read() == b""  # the old worker has ended it
        assert len([e for e in server.rest_so_far() if e["kind"] == "rollout_started"]) == 1


def blank(server: Server) -> set[int]:
    """Children of the master that nobody has told what to import, by what status does not say."""
    told = server.ask("status")
    known = {each["pid"] for each in (*told["workers"], *told["zygotes"])}
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return {int(pid) for pid in children} - known


def caught(pid: int) -> int:
    """The mask of signals that a process has handlers for, see proc(5)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("SigCgt:")), 16)


def test_a_zygote_waits_for_the_next_save_and_for_nobody_else(tmp_path: Path) -> None:
    with developing(tmp_path) as server:
        (waiting,) = blank(server)
        while not caught(waiting) >> (signal.SIGHUP - 1) & 1:
            pass  # it is being started
        os.kill(waiting, signal.SIGINT)  # Ctrl-C reaches it as well: the master decides
        save(tmp_path, CODE.format(version="2"))
        assert server.event("zygote_spawned", group="web")["pid"] == waiting
        server.event("rollout_finished", group="web")

        (next_,) = blank(server)
        assert next_ != waiting
        os.kill(next_, signal.SIGKILL)  # then the reload starts its own
        save(tmp_path, CODE.format(version="3"))
        assert server.event("zygote_spawned", group="web")["pid"] != next_
        server.event("rollout_finished", group="web")
        assert version(server) == "3"
        assert len(blank(server)) == 1  # and `stop` finds nothing left of it


def test_nothing_outlives_a_master_that_is_killed(tmp_path: Path) -> None:
    save(tmp_path, CODE.format(version="1"))
    with running(tmp_path, "shop:app", "--dev", "--app-dir", str(tmp_path)) as server:
        watched(server)
        (waiting,) = blank(server)
        with open(os.pidfd_open(waiting), "rb") as end:
            server.process.kill()
            assert select.select([end], [], [], LIMIT)[0]
