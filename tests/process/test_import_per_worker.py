"""Applications that cannot be forked, for real: only workers run anything of them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.ipc.client import Refused
from tests.process.test_reload import GOOD, deploy
from tests.support.server import Server, serving

# A job in a thread of the import: it writes its process's pid every hundredth of a second.
JOB = """
import threading
stop = threading.Event()
def job():
    while not stop.wait(0.01):
        with open({ticks!r}, "a") as file:
            file.write(f"{{os.getpid()}}\\n")
threading.Thread(target=job, daemon=True, name="job").start()
"""


@contextlib.contextmanager
def shop(place: Path, workers: int = 2) -> Iterator[Server]:
    """A cluster that serves an application with a job in a thread."""
    offer(place, "one")
    with serving(place, "shop:app", "--app-dir", str(place), workers=workers) as server:
        yield server


def offer(place: Path, version: str) -> None:
    deploy(place, GOOD.format(version=version) + JOB.format(ticks=str(place / "ticks")))


def who_ticks(place: Path, server: Server) -> set[int]:
    """The processes in which the job runs, once it ran several times in each worker."""
    workers = {w["pid"] for w in server.workers()}
    (place / "ticks").write_text("")
    while True:
        ticks = (place / "ticks").read_text().split()
        if all(ticks.count(str(pid)) > 5 for pid in workers):
            return {int(pid) for pid in ticks}


def until_old_workers_are_gone(server: Server) -> None:
    while {w["phase"] for w in server.workers()} != {"ready"}:
        server.event("exited")


def test_threads_of_the_import_run_in_workers_and_nowhere_else(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        (imported,) = server.find("zygote_readied")[:1]
        assert "thread" in imported["import_per_worker"]
        assert server.get().startswith("one ")
        assert who_ticks(tmp_path, server) == {w["pid"] for w in server.workers()}
        offer(tmp_path, "two")
        server.ask("reload", wait=True)
        until_old_workers_are_gone(server)
        assert server.get().startswith("two ")
        assert who_ticks(tmp_path, server) == {w["pid"] for w in server.workers()}


def test_the_first_import_is_the_first_worker_and_the_zygote_is_small(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        first = server.find("zygote_spawned")[0]["pid"]
        assert server.find("readied")[0]["pid"] == first
        (zygote,) = server.ask("status")["zygotes"]
        assert zygote["pid"] != first
        maps = Path(f"/proc/{zygote['pid']}/maps").read_text()
        assert "uvloop" not in maps, "it has not even loaded what workers need"


def test_a_killed_worker_is_replaced_by_one_that_imports_again(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        for slot in (0, 1):
            pid = next(w["pid"] for w in server.workers() if w["slot"] == slot)
            os.kill(pid, 9)
            server.event("readied", slot=slot)
        assert server.get().startswith("one ")


def test_processes_that_the_import_started_belong_to_a_worker(tmp_path: Path) -> None:
    """The zygote that imported became that worker, and the bare one never had them."""
    code = GOOD.format(version="one")
    code += "import subprocess\nhelper = subprocess.Popen(['sleep', '600'])\n"
    deploy(tmp_path, code)
    with serving(tmp_path, "shop:app", "--app-dir", str(tmp_path)) as server:
        assert server.get().startswith("one ")
        (zygote,) = server.ask("status")["zygotes"]
        children = Path(f"/proc/{zygote['pid']}/task/{zygote['pid']}/children").read_text()
        assert children == ""
        for pid in server.family():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                    os.kill(pid, 15)


def test_a_rollback_is_refused_and_the_reload_says_so_before(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        offer(tmp_path, "two")
        assert "thread" in server.ask("reload", wait=True)["no_rollback"]["web"]
        with pytest.raises(Refused, match="there is no rollback") as refused:
            server.ask("rollback", wait=True)
        assert "put the old code back" in refused.value.remedy
        assert server.get().startswith("two ")
        offer(tmp_path, "one")
        server.ask("reload", wait=True)
        assert server.get().startswith("one ")


def test_a_worker_that_comes_back_with_other_code_is_told_of(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        assert not [e for e in server.rest_so_far() if "other files" in e.get("reason", "")]
        offer(tmp_path, "two")
        os.kill(server.workers()[0]["pid"], 9)
        trouble = server.event("trouble", slot=0)
        assert "they changed on disk" in trouble["reason"]
        assert "clusterd reload" in trouble["next"]
