"""Jobs for real: a cluster with job workers, jobs enqueued from here, processes that are killed."""

import importlib.util
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clusterd.jobs.drive import run
from clusterd.jobs.handle import Handle
from clusterd.jobs.records import JobInfo
from clusterd.jobs.states import State
from tests.support.job_stores import redis_server
from tests.support.server import APPS, LIMIT, ROOT, Server, running

CODE = APPS / "jobs"
WORKERS = 2
SHORT = ("--graceful-timeout", "1.2")  # a second of it is left to hand jobs back


class Work:
    """The application's jobs, as this process enqueues them, and what they wrote."""

    def __init__(self, place: Path, app: str = "work") -> None:
        self.diary = place / "diary"
        self.gate = place / "gate"
        self.place = place
        self.diary.touch()
        os.mkfifo(self.gate)
        self._pipe = os.open(self.gate, os.O_RDWR | os.O_NONBLOCK)  # kept open: what is in it stays
        spec = importlib.util.spec_from_file_location(app, CODE / f"{app}.py")
        assert spec is not None
        assert spec.loader is not None
        self.module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.diary.read_text().splitlines()]

    def open(self) -> None:
        """Let jobs end that wait at the gate."""
        os.write(self._pipe, b"x")

    def close(self) -> None:
        os.close(self._pipe)
        if (store := self.module.jobs.backend._store) is not None:
            run(store, store.close())


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def work(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Work]:
    url = f"sqlite:{tmp_path}/jobs.db"
    if request.param == "redis":
        url = f"{redis_server()}?namespace={uuid.uuid4().hex}"
    monkeypatch.setenv("CLUSTERD_JOBS_STORE", url)
    monkeypatch.setenv("DIARY", str(tmp_path / "diary"))
    made = Work(tmp_path)
    yield made
    made.close()


@contextmanager
def cluster(
    work: Work, *options: str, app: str = "", code: Path = CODE, jobs: str = "work"
) -> Iterator[Server]:
    """A cluster with job workers that are ready."""
    told = ("--jobs", f"{jobs}:jobs", "--jobs-workers", str(WORKERS), "--app-dir", str(code))
    with running(work.place, app, *told, "--min-ready", "0", *options) as server:
        server.ready()
        if not server.find("readied", group="@scheduler"):
            server.event("readied", group="@scheduler")
        yield server
        if server.process.poll() is None:
            assert server.stop() == 0, server.history()


def pids(server: Server, group: str) -> set[int]:
    """The workers of a group."""
    return {one["pid"] for one in server.workers() if one["group"] == group}


def until(handle: Handle[Any], *states: State) -> JobInfo:
    """Wait until a job is in one of these states."""
    for _ in handle.events():
        if (info := handle.info()).state in states:
            return info
    return handle.info()


def started(work: Work, handle: Handle[Any], times: int = 1) -> int:
    """Wait until a gated job has started so many times; return the process that runs it."""
    while True:
        found = [pid for what, id, pid in work.lines() if (what, id) == ("start", handle.id)]
        if len(found) >= times:
            return int(found[-1])
        handle.info()  # raises if it is gone


@pytest.mark.parametrize("app", ["work:app", "work:view"])
def test_a_request_enqueues_and_a_job_worker_responds(app: str, work: Work) -> None:
    with cluster(work, app=app) as server:
        assert server.get() == "42"
        assert {one["group"] for one in server.workers()} == {"web", "jobs", "@scheduler"}


def test_a_machine_may_have_job_workers_only_and_scripts_enqueue(work: Work) -> None:
    with cluster(work) as server:
        script = "import work; print(work.add.enqueue(1, 2).result(timeout=30))"
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=CODE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        assert done.stdout == "3\n"
        pid = work.module.note.enqueue(1).result(timeout=LIMIT)
        assert pid in pids(server, "jobs")


def test_the_jobs_of_a_killed_worker_run_again_at_once(work: Work) -> None:
    """Its siblings', and those that wait, are not touched."""
    with cluster(work, "--jobs-concurrency", "2") as server:
        handles = [work.module.gated.enqueue(str(work.gate)) for _ in range(6)]
        runs: dict[str, int] = {}
        while len(runs) < 4:
            runs = {id: int(pid) for what, id, pid in work.lines() if what == "start"}
        victim = runs[handles[0].id]
        os.kill(victim, signal.SIGKILL)
        server.event("exited", group="jobs", pid=victim)
        for handle in handles:
            if runs.get(handle.id) == victim:
                started(work, handle, times=2)
        work.open()
        for handle in handles:
            handle.result(timeout=LIMIT)
            info = handle.info()
            lost = runs.get(handle.id) == victim
            assert (info.crashes, info.attempts) == (int(lost), 1)
            causes = [one.text for one in info.history if one.event == "lost"]
            assert causes == ["SIGKILL"] * lost
        starts = Counter(id for what, id, _ in work.lines() if what == "start")
        assert sum(starts.values()) == 6 + sum(pid == victim for pid in runs.values())


def test_nothing_is_lost_where_the_master_is_killed(work: Work) -> None:
    with cluster(work, *SHORT) as server:
        handle = work.module.gated.enqueue(str(work.gate))
        started(work, handle)
        family = server.family()
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait(LIMIT)
        # Its workers leave, and hand back what does not end.
        while server.family() & family:
            pass
    work.open()
    with cluster(work):
        assert handle.result(timeout=LIMIT)


def test_a_reload_under_load_loses_no_job_and_runs_none_twice(work: Work) -> None:
    with cluster(work, *SHORT) as server:
        handles = []
        for number in range(3):
            calls = [work.module.note.call(100 * number + n) for n in range(100)]
            handles += work.module.jobs.enqueue_many(calls)
            handles.append(work.module.gated.enqueue(str(work.gate)))
            assert server.ask("reload")["ok"]
            if number == 2:
                work.open()
            server.event("rollout_finished", group="jobs")
        for handle in handles:
            handle.result(timeout=LIMIT)
            info = handle.info()
            assert (info.attempts, info.crashes) == (1, 0)
    noted = Counter(number for what, number, _ in work.lines() if what == "note")
    assert noted == Counter(str(n) for n in range(300))


def test_a_worker_that_leaves_hands_back_what_does_not_end(work: Work) -> None:
    with cluster(work, *SHORT) as server:
        handle = work.module.gated.enqueue(str(work.gate))
        first = started(work, handle)
        assert server.ask("reload")["ok"]
        second = started(work, handle, times=2)
        assert second != first
        work.open()
        assert handle.result(timeout=LIMIT) == second
        info = handle.info()
        assert (info.attempts, info.crashes) == (1, 0)
        assert [one.event for one in info.history] == ["enqueued", "returned", "succeeded"]


def test_broken_job_code_is_turned_back_and_the_old_one_goes_on(work: Work, tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    good = (CODE / "work.py").read_text()
    (code / "work.py").write_text(good)
    with cluster(work, code=code) as server:
        (code / "work.py").write_text(good + "\nraise RuntimeError('broken')\n")
        assert server.ask("reload")["ok"]
        server.event("rollout_failed", group="jobs")
        assert work.module.add.enqueue(1, 2).result(timeout=LIMIT) == 3


def test_a_job_that_ends_its_process_is_discarded_and_the_queue_goes_on(work: Work) -> None:
    with cluster(work) as server:
        handle = work.module.crash.enqueue()
        info = until(handle, State.DISCARDED)
        assert (info.state, info.crashes, info.attempts) == (State.DISCARDED, 4, 0)
        lost = [one for one in info.history if one.event in ("lost", "poisoned")]
        assert [one.text for one in lost] == ["SIGSEGV"] * 4
        assert [what for what, _ in work.lines()] == ["crash"] * 4
        assert work.module.add.enqueue(1, 2).result(timeout=LIMIT) == 3
        assert server.find("exited", group="jobs") or server.rest_so_far()


def test_a_killed_scheduler_is_replaced_and_delayed_jobs_run(work: Work) -> None:
    with cluster(work) as server:
        handle = work.module.add.options(delay=0.5).enqueue(1, 2)
        (scheduler,) = pids(server, "@scheduler")
        os.kill(scheduler, signal.SIGKILL)
        server.event("readied", group="@scheduler")
        assert handle.result(timeout=LIMIT) == 3


def test_a_death_while_there_is_no_scheduler_is_found(work: Work) -> None:
    with cluster(work) as server:
        handle = work.module.gated.enqueue(str(work.gate))
        pid = started(work, handle)
        (scheduler,) = pids(server, "@scheduler")
        os.kill(scheduler, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        os.kill(scheduler, signal.SIGKILL)
        server.event("readied", group="@scheduler")
        started(work, handle, times=2)
        work.open()
        handle.result(timeout=LIMIT)


def test_job_groups_serve_the_queues_that_they_are_told(work: Work, tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text(
        '[jobs]\napp = "work:jobs"\nworkers = 1\nqueues = ["default"]\n'
        '[jobs.slow]\nqueues = ["other"]\n'
    )
    with running(tmp_path, "", "--min-ready", "0", "--app-dir", str(CODE)) as server:
        server.ready()
        pid = int(work.module.elsewhere.enqueue().result(timeout=LIMIT))
        assert pids(server, "jobs-slow") == {pid}
        pid = work.module.note.enqueue(1).result(timeout=LIMIT)
        assert pids(server, "jobs") == {pid}
        assert server.stop() == 0


def test_a_store_that_cannot_be_used_is_said_and_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERD_JOBS_STORE", f"sqlite:{tmp_path}/jobs.db")
    (tmp_path / "jobs.db").write_text("this is no database, and never was one" * 100)
    told = ("--jobs", "work:jobs", "--app-dir", str(CODE))
    with running(tmp_path, "", *told, "--min-ready", "0") as server:
        assert server.wait() == 3
        assert "jobs.db" in server.log()
