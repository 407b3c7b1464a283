"""`clusterd jobs` on a store in a file, without a cluster."""

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clusterd.cli.jobs import jobs
from clusterd.cli.jobs_views import columns, event, listing, remark, statistics
from clusterd.cli.main import run
from clusterd.jobs.drive import drive
from clusterd.jobs.records import Attempt, Claim, JobInfo, NewJob, Outcome, Owner, QueueStats
from clusterd.jobs.sqlite import create
from clusterd.jobs.states import Event, State

SHOP = """
from clusterd.jobs import Jobs
jobs = Jobs()
@jobs.job(queue="mail")
def welcome(email: str) -> None: ...
"""


class Rig:
    """A store, and the command on it."""

    def __init__(self, place: Path) -> None:
        self.url = f"sqlite:{place}/jobs.db"
        self.store = create(self.url)
        drive(self.store.open())
        self._made = 0

    def do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return drive(coroutine)

    def enqueue(self, name: str = "shop.mail", **more: Any) -> str:
        self._made += 1
        id = f"{self._made:032x}"
        self.do(self.store.enqueue([NewJob(id, name, b'{"to":"x@example.com"}', **more)]))
        return id

    def fail(self, name: str, error: str, **more: Any) -> str:
        """A job that has run and was discarded."""
        id = self.enqueue(name, **more)
        claim = Claim(Owner("n", 7, 1, "jobs", 2, 3), (name,), ("default", "mail"), 1, 30.0)
        (claimed,) = self.do(self.store.claim(claim))
        outcome = Outcome(claimed.id, claimed.token, Event.EXHAUSTED, error=error)
        self.do(self.store.finish([outcome]))
        return id

    def state(self, id: str) -> State:
        found = self.do(self.store.get(id))
        return State(found.state)

    def run(self, *args: str) -> Result:
        return CliRunner().invoke(jobs, [args[0], *args[1:], "--store", self.url])

    def said(self, *args: str) -> str:
        result = self.run(*args)
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_jobs_are_listed_the_newest_first_and_by_filters(rig: Rig) -> None:
    first, second = rig.enqueue(), rig.enqueue("shop.report", queue="slow")
    failed = rig.fail("shop.boom", "Traceback …\nValueError: no \x1b[31mcolour\n")
    lines = rig.said("ls").splitlines()
    assert [line.split()[0] for line in lines] == ["ID", failed, second, first]
    assert lines[1].split()[1] == "discarded"
    assert lines[1].endswith("ValueError: no \\x1b[31mcolour")
    assert second in rig.said("ls", "--queue", "slow")
    assert first not in rig.said("ls", "--queue", "slow")
    assert rig.said("ls", "--state", "completed") == "no jobs\n"
    assert [line.split()[0] for line in rig.said("ls", "-n", "1").splitlines()] == ["ID", failed]
    older = rig.said("ls", "-n", "1", "--before", failed)
    assert [line.split()[0] for line in older.splitlines()] == ["ID", second]


def test_a_job_is_shown_with_its_attempts_and_for_programs(rig: Rig) -> None:
    id = rig.fail("shop.boom", "Traceback …\nValueError: no\n")
    page = rig.said("show", id)
    assert f"shop.boom {id}" in page
    assert '{"to":"x@example.com"}' in page
    assert "on worker 2 of jobs, generation 3, process 7: ValueError: no" in page
    told = json.loads(rig.said("show", id, "--json"))
    assert told["state"] == "discarded"
    assert told["payload"] == {"to": "x@example.com"}
    assert told["history"][-1]["event"] == "exhausted"
    unknown = rig.run("show", "f" * 32)
    assert "the store holds no job" in str(unknown.exception)


def test_queues_are_counted_and_can_be_paused(rig: Rig) -> None:
    rig.enqueue()
    rig.enqueue(queue="mail")
    assert rig.said("pause", "mail") == "mail is paused\n"
    rows = [line.split() for line in rig.said("stats").splitlines()]
    assert rows[0][:3] == ["QUEUE", "AVAILABLE", "RUNNING"]
    assert [row[:2] for row in rows[1:]] == [["default", "1"], ["mail", "1"]]
    assert rows[2][-1] == "paused"
    told = [json.loads(line) for line in rig.said("stats", "--json").splitlines()]
    assert [(one["queue"], one["available"], one["paused"]) for one in told] == [
        ("default", 1, False),
        ("mail", 1, True),
    ]
    assert rig.said("resume", "mail") == "mail goes on\n"
    assert "paused" not in rig.said("stats")


@pytest.mark.parametrize(
    ("command", "prepare", "words", "after"),
    [
        ("cancel", Rig.enqueue, "1 cancelled", State.CANCELLED),
        ("retry", lambda rig: rig.fail("a", "b"), "1 run again", State.AVAILABLE),
        ("run-now", lambda rig: rig.enqueue(run_at=2**52), "1 run now", State.AVAILABLE),
    ],
)
def test_jobs_are_changed_by_their_ids(
    command: str, prepare: Callable[[Rig], str], words: str, after: State, rig: Rig
) -> None:
    id = prepare(rig)
    other = prepare(rig)
    before = rig.state(other)
    assert rig.said(command, id) == f"{words}\n"
    assert (rig.state(id), rig.state(other)) == (after, before)


def test_ended_jobs_are_deleted_and_waiting_ones_where_that_is_said(rig: Rig) -> None:
    waits, failed = rig.enqueue(), rig.fail("a", "b")
    assert rig.said("purge", waits) == "0 deleted\n"
    assert rig.said("purge", "--state", "discarded") == "1 deleted\n"
    assert rig.do(rig.store.get(failed)) is None
    assert rig.said("purge", "--state", "available") == "1 deleted\n"


def test_many_are_changed_in_several_transactions(rig: Rig) -> None:
    new = [NewJob(f"{n:032x}", "a", b"{}") for n in range(1200)]
    rig.do(rig.store.enqueue(new))
    assert rig.said("cancel", "--name", "a") == "1200 cancelled\n"


@pytest.mark.parametrize("command", ["cancel", "retry", "run-now", "purge"])
def test_all_jobs_are_never_meant_by_saying_nothing(command: str, rig: Rig) -> None:
    result = rig.run(command)
    assert result.exit_code == 2
    assert "say which jobs" in result.output


def test_a_job_is_enqueued_by_its_name_and_its_arguments_are_checked(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLUSTERD_JOBS_STORE", rig.url)
    (tmp_path / "shop_of_cli.py").write_text(SHOP)
    app = ("--jobs", "shop_of_cli:jobs", "--app-dir", str(tmp_path))
    name = "shop_of_cli.welcome"
    options = ("--delay", "1h", "--priority", "high", "--unique", "x")
    id = rig.said("enqueue", name, '{"email": "x@example.com"}', *app, *options).strip()
    info = rig.do(rig.store.get(id))
    assert (info.queue, info.state, info.priority) == ("mail", State.SCHEDULED, 10)
    again = rig.said("enqueue", name, '{"email": "x@example.com"}', *app, "--unique", "x")
    assert again == f"{id} (it was there)\n"
    wrong = rig.run("enqueue", name, '{"mail": "x"}', *app)
    assert str(wrong.exception) == f"{name}: there is no argument 'mail'"
    wrong = rig.run("enqueue", name, "{no json", *app)
    assert wrong.exit_code != 0
    unknown = rig.run("enqueue", "nope", *app)
    assert "It has: shop_of_cli.welcome." in str(unknown.exception)


def test_without_a_store_both_ways_to_name_it_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CLUSTERD_JOBS_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    assert run(["jobs", "ls"]) == 4
    said = capsys.readouterr().err
    assert "CLUSTERD_JOBS_STORE" in said
    assert "clusterd.toml" in said


def made(**more: Any) -> JobInfo:
    """A job as a store tells of it."""
    usual: dict[str, Any] = {
        "id": "0" * 32,
        "name": "a",
        "queue": "default",
        "state": State.AVAILABLE,
        "payload": b"{}",
        "priority": 0,
        "run_at": 0,
        "expires_at": 0,
        "timeout": 1.0,
        "attempts": 0,
        "max_attempts": 3,
        "crashes": 0,
        "unique_key": "",
        "owner": "",
        "token": 0,
        "lease_until": 0,
        "progress": 0.0,
        "progress_data": b"",
        "error": "",
        "result": b"",
        "created": 0,
        "started": 0,
        "finished": 0,
    }
    return JobInfo(**usual | more)


@pytest.mark.parametrize(
    ("info", "said"),
    [
        (made(), ""),
        (made(state=State.SCHEDULED, run_at=90_000_000), "in 1m20s"),
        (made(state=State.SCHEDULED, run_at=90_000_000, attempts=1), "again in 1m20s"),
        (made(state=State.RUNNING, started=5_000_000), "for 5.0s"),
        (made(state=State.RUNNING, started=5_000_000, progress=0.4), "for 5.0s, 40% done"),
        (
            made(state=State.RUNNING, started=5_000_000, cancel_requested=True),
            "for 5.0s, to be cancelled",
        ),
        (made(state=State.DISCARDED, error="Traceback\nValueError: no\n"), "ValueError: no"),
    ],
)
def test_a_remark_says_what_the_state_does_not(info: JobInfo, said: str) -> None:
    assert remark(info, now=10_000_000) == said


def test_views_of_nothing_and_of_what_a_codec_made() -> None:
    assert listing([], 0) == "no jobs"
    assert statistics([], 0) == "no jobs"
    assert columns([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d"
    assert "1 " in statistics([QueueStats("q", {State.EXPIRED: 1})], 0)
    assert event(Attempt(0, "enqueued")).endswith(" enqueued")
