"""First starts, for real: the first worker starts alone, and a failed start tells the truth."""

import os
import select
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.support.gate import Gate, gate
from tests.support.server import Server, running

# What is knocked at the gate goes on when it is released.
KNOCK = """
import os, socket
def knock():
    with socket.socket(socket.AF_UNIX) as gate:
        gate.connect(os.environ["GATE"])
        gate.sendall(b"%d" % os.getpid())
        gate.recv(1)
"""
APP = """
async def app(scope, receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            started()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
"""
HELD = f"{KNOCK}{APP}started = knock\n"  # its startup waits at the gate
THREAD = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


def starts_one_before_the_others(server: Server, held: Gate, since: int) -> None:
    """Three workers start. `since`: the number of the last event before."""

    def spawned() -> list[int]:
        return [event["n"] for event in server.find("spawned") if event["n"] > since]

    first = held.next()
    server.rest_so_far()
    assert len(spawned()) == 1, "another was started while the first one's startup is not over"
    first.release()
    ready = server.event("readied", pid=first.pid)
    for visitor in (held.next(), held.next()):
        visitor.release()
    for _ in range(2):
        server.event("readied")
    assert len(spawned()) == 3
    assert spawned()[1] > ready["n"]


@pytest.mark.parametrize("extra", ["", THREAD], ids=["forked", "imported in each worker"])
def test_the_first_startup_is_over_before_another_begins(extra: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(HELD + extra)
    options = ("-w", "3", "--min-ready", "0", "--app-dir", str(tmp_path))
    with gate() as held, running(tmp_path, "shop:app", *options, GATE=str(held.path)) as server:
        starts_one_before_the_others(server, held, since=0)
        server.ready()
        pids = [worker["pid"] for worker in server.workers()]
        since = server.seen[-1]["n"]
        server.signal(signal.SIGSTOP)  # so that it hears of all deaths at once
        for pid in pids:
            end_of = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            select.select([end_of], [], [])
            os.close(end_of)
        server.signal(signal.SIGCONT)
        starts_one_before_the_others(server, held, since)
        assert server.stop() == 0


def test_a_parallel_start_waits_for_no_worker(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(HELD)
    options = ("-w", "2", "--app-dir", str(tmp_path), "--parallel-start")
    with gate() as held, running(tmp_path, "shop:app", *options, GATE=str(held.path)) as server:
        for visitor in [held.next(), held.next()]:  # both have begun before either goes on
            visitor.release()
        server.ready()
        assert server.stop() == 0


def test_workers_that_create_a_database_as_they_are_imported_do_not_race(tmp_path: Path) -> None:
    """Each import creates the table if there is none; two at once would both find none."""
    base = tmp_path / "tea.db"
    code = f"""
import sqlite3
base = sqlite3.connect({str(base)!r}, isolation_level=None, check_same_thread=False)
if not base.execute("SELECT name FROM sqlite_master").fetchall():
    knock()
    base.execute("CREATE TABLE tea (name TEXT)")
def started():
    pass
"""
    (tmp_path / "shop.py").write_text(KNOCK + code + APP)
    options = ("-w", "4", "--app-dir", str(tmp_path), "--preload", "never")
    with gate() as held, running(tmp_path, "shop:app", *options, GATE=str(held.path)) as server:
        held.next().release()
        server.ready()  # a second one that found no table would wait at the gate
        assert not server.find("worker_failed")
        assert server.stop() == 0
    with sqlite3.connect(base) as found:
        assert found.execute("SELECT count(*) FROM sqlite_master").fetchone() == (1,)
    found.close()


def test_a_startup_that_fails_ends_the_start_with_its_own_reason(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no tea'})\n"
    )
    with running(tmp_path, "shop:app", "-w", "4", "--app-dir", str(tmp_path)) as server:
        assert server.wait() == 3
        assert len(server.find("spawned")) == 3, "one worker at a time, three times"
        (event,) = server.find("gave_up")
        assert "the first worker died 3 times" in event["reason"]
        assert "no tea" in event["reason"]


def test_a_missing_program_ends_the_start_with_its_own_reason(tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text('[group.mail]\ncommand = "no-such-mailer --now"\n')
    with running(tmp_path, "", cwd=str(tmp_path)) as server:
        assert server.wait() == 3
        (event,) = server.find("gave_up")
        assert "no-such-mailer" in event["reason"]
        assert "zygote ended" not in event["reason"]
