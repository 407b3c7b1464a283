"""The running job: what its function reports."""

from typing import Any

import pytest

from clusterd.jobs import CurrentJob, current_job
from clusterd.jobs.current import Report, reset_current, set_current
from clusterd.jobs.records import MOST_LOG_LINE, MOST_LOG_LINES, Claimed

CLAIMED = Claimed("1" * 32, "shop.job", b"", "mail", 0, 7, 2, 3, 0, 60.0, 1, 2)


def test_it_knows_what_was_claimed() -> None:
    job = CurrentJob(CLAIMED, deadline=0.0)
    assert (job.id, job.name, job.queue) == ("1" * 32, "shop.job", "mail")
    assert (job.attempt, job.max_attempts, job.token, job.cancelled) == (2, 3, 7, False)
    assert job.left() == 0
    assert CurrentJob(CLAIMED, deadline=float("inf")).left() > 1e9


def test_current_job_is_there_only_inside_of_a_job() -> None:
    with pytest.raises(RuntimeError, match="no job runs here"):
        current_job()
    job = CurrentJob(CLAIMED, 0.0)
    token = set_current(job)
    assert current_job() is job
    reset_current(token)
    with pytest.raises(RuntimeError):
        current_job()


def test_reports_are_collected_until_the_worker_takes_them() -> None:
    changes: list[None] = []
    job = CurrentJob(CLAIMED, 0.0, lambda: changes.append(None))
    assert job.take_report() is None
    job.log("one")
    job.log("two")
    assert job.take_report() == Report(None, b"", ["one", "two"])
    job.progress(0.25, {"file": 1})
    job.progress(0.5)
    assert job.take_report() == Report(0.5, b"", [])
    job.progress(1, [1])
    assert job.take_report() == Report(1.0, b"[1]", [])
    assert job.take_report() is None
    assert len(changes) == 5


def test_reports_have_limits() -> None:
    job = CurrentJob(CLAIMED, 0.0)
    for n in range(MOST_LOG_LINES + 5):
        job.log(str(n))
    job.log("\u00e4" * MOST_LOG_LINE)
    report = job.take_report()
    assert report is not None
    assert len(report.lines) == MOST_LOG_LINES
    assert report.lines[0] == "6"
    assert report.lines[-1] == "\u00e4" * (MOST_LOG_LINE // 2)
    for part in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            job.progress(part)
    wrong: list[Any] = ["x" * 16384, {1}, float("nan"), (1,)]
    for data in wrong:
        with pytest.raises((ValueError, TypeError), match="data"):
            job.progress(0.5, data)
