"""First starts, for real: the first worker starts alone, and a failed start tells the truth."""

import os
import select
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.support.server import running, serving

# Startup takes a moment, and writes down when it begins and ends.
SLOW = """
import asyncio, os
def note(what):
    with open({log!r}, "a") as file:
        file.write(f"{{what}} {{os.getpid()}}\\n")
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                note("begin")
                await asyncio.sleep(0.2)
                note("end")
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"tea"}})
"""
THREAD = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@pytest.mark.parametrize("extra", ["", THREAD], ids=["forked", "imported in each worker"])
def test_the_first_startup_is_over_before_another_begins(extra: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "shop.py").write_text(SLOW.format(log=str(log)) + extra)
    with serving(tmp_path, "shop:app", "--app-dir", str(tmp_path), workers=3) as server:
        first, second, third, *_ = [line.split() for line in log.read_text().splitlines()]
        assert (first[0], second[0], third[0]) == ("begin", "end", "begin")
        assert first[1] == second[1] == str(server.find("readied")[0]["pid"])
        log.write_text("")
        pids = [worker["pid"] for worker in server.workers()]
        server.signal(signal.SIGSTOP)  # so that it hears of all deaths at once
        for pid in pids:
            end_of = os.pidfd_open(pid)
            os.kill(pid, signal.SIGKILL)
            select.select([end_of], [], [])
            os.close(end_of)
        server.signal(signal.SIGCONT)
        for _ in pids:  # in any order
            server.event("readied")
        first, second, third, *_ = [line.split() for line in log.read_text().splitlines()]
        assert (first[0], second[0], third[0]) == ("begin", "end", "begin")


def test_a_parallel_start_waits_for_no_worker(tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tmp_path / "shop.py").write_text(SLOW.format(log=str(log)))
    options = ("--app-dir", str(tmp_path), "--parallel-start")
    with serving(tmp_path, "shop:app", *options) as server:
        spawned, readied = server.find("spawned"), server.find("readied")
        assert [event["slot"] for event in spawned] == [0, 1]
        assert spawned[1]["n"] < readied[0]["n"]


def test_workers_that_create_a_database_as_they_are_imported_do_not_race(tmp_path: Path) -> None:
    """Each import creates the table if there is none; two at once would both find none."""
    base = tmp_path / "tea.db"
    code = f"""
import sqlite3, threading, time
base = sqlite3.connect({str(base)!r}, isolation_level=None, check_same_thread=False)
if not base.execute("SELECT name FROM sqlite_master").fetchall():
    time.sleep(0.1)
    base.execute("CREATE TABLE tea (name TEXT)")
"""
    (tmp_path / "shop.py").write_text(code + SLOW.format(log=str(tmp_path / "log")) + THREAD)
    options = ("--app-dir", str(tmp_path))
    with serving(tmp_path, "shop:app", *options, workers=4) as server:
        assert not server.find("worker_failed")
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
