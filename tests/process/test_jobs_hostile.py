"""Jobs that do to their worker what no job should, with real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.jobs.states import State
from tests.process.test_jobs import Work, cluster, pids, until
from tests.support.server import LIMIT


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    monkeypatch.setenv("CLUSTERD_JOBS_STORE", f"sqlite:{tmp_path}/jobs.db")
    made = Work(tmp_path, "hostile")
    yield made
    made.close()


def test_a_job_that_is_deaf_to_its_timeout_ends_and_its_worker_is_replaced(work: Work) -> None:
    with cluster(work, "--graceful-timeout", "1.2", jobs="hostile") as server:
        handle = work.module.deaf.enqueue()
        info = until(handle, State.DISCARDED)
        assert (info.attempts, info.crashes) == (1, 0)
        assert "JobTimeout" in info.error
        reason = server.event("leaving", group="jobs")["reason"]
        assert reason == "job hostile.deaf does not end when it is cancelled"
        assert work.module.pid.enqueue().result(timeout=LIMIT) in pids(server, "jobs")


@pytest.mark.parametrize("name", ["fork", "fork_in_thread"])
def test_a_child_that_a_job_forked_does_not_go_on_as_its_worker(name: str, work: Work) -> None:
    """It would end the attempt a second time, and claim jobs in its parent's name."""
    with cluster(work, jobs="hostile") as server:
        handle = getattr(work.module, name).enqueue()
        child = handle.result(timeout=LIMIT)
        assert child > 0
        while f"job hostile.{name} forked, and the child {child} came out" not in server.log():
            pass  # the child reports it
        for _ in range(20):
            assert work.module.pid.enqueue().result(timeout=LIMIT) in pids(server, "jobs")
        while child in server.family():
            pass  # it ends
        assert not server.find("exited", group="jobs")


def test_a_job_that_is_stuck_in_a_thread_is_handed_back_and_keeps_no_worker(work: Work) -> None:
    with cluster(work, "--graceful-timeout", "1.2", jobs="hostile") as server:
        handle = work.module.stuck.enqueue()
        until(handle, State.RUNNING)
        assert server.stop() == 0
        assert "exit handlers did not end" not in server.log()
        assert not server.find("killed")
    info = handle.info()
    assert (info.state, info.attempts, info.crashes) == (State.AVAILABLE, 0, 0)
