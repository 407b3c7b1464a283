"""Declaring jobs and enqueueing them."""

import asyncio
import contextvars
import inspect
import json
import os
import subprocess
import sys
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import clusterd.jobs
from clusterd.jobs import Handle, JobNotFound, Jobs, State, StoreError
from clusterd.jobs.backend import Backend, PlainCodec, absolute
from clusterd.jobs.drive import drive
from clusterd.jobs.memory import MemoryStore
from clusterd.jobs.records import Filter, JobInfo
from clusterd.kernel.loading import loading
from tests.unit.jobs import typed_usage

ROOT = Path(__file__).parents[3]
NOW = 2_000_000_000_000_000


class FixedBackend(Backend):
    """A store in memory at a time that stands still."""

    def __init__(self, codec: Any = None) -> None:
        super().__init__("", codec or PlainCodec(), MemoryStore(lambda: NOW))

    def now(self) -> int:
        return NOW

    def all(self) -> list[JobInfo]:
        found = drive(self.open().find(Filter(limit=0)))
        return sorted(found, key=lambda info: info.id)


@pytest.fixture
def jobs() -> Jobs:
    made = Jobs()
    made.backend = FixedBackend()
    return made


def stored(jobs: Jobs) -> list[JobInfo]:
    assert isinstance(jobs.backend, FixedBackend)
    return jobs.backend.all()


def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


async def greet(name: str) -> str:
    return f"hello {name}"


# --- declaring


def test_a_job_is_still_its_function(jobs: Jobs) -> None:
    job = jobs.job(add)
    assert job(1, b=3) == 4
    assert asyncio.run(jobs.job(greet)("x")) == "hello x"
    assert inspect.signature(job) == inspect.signature(add)
    assert (job.__doc__, job.__name__) == ("Add two numbers.", "add")  # type: ignore[attr-defined]


def test_a_job_is_known_by_its_name_and_its_aliases(jobs: Jobs) -> None:
    job = jobs.job(aliases=["old.add", "older.add"])(add)
    assert job.name == f"{__name__}.add"
    assert jobs.registry == {job.name: job, "old.add": job, "older.add": job}
    named = jobs.job(name="greet")(greet)
    assert jobs.registry["greet"] is named


def test_two_jobs_of_one_name_are_refused(jobs: Jobs) -> None:
    jobs.job(add)
    with pytest.raises(ValueError, match=r"two jobs are called .*test_api\.add"):
        jobs.job(add)
    with pytest.raises(ValueError, match="two jobs are called"):
        jobs.job(name="greet", aliases=[f"{__name__}.add"])(greet)
    assert "greet" not in jobs.registry


def test_a_function_without_a_name_of_its_own_is_refused(jobs: Jobs) -> None:
    def inner() -> None: ...

    for function in (inner, lambda: None):
        with pytest.raises(ValueError, match="say name="):
            jobs.job(function)
    assert jobs.job(name="inner")(inner).name == "inner"


def test_what_cannot_be_a_job_is_refused(jobs: Jobs) -> None:
    def generator() -> Any:
        yield

    job = jobs.job(add)
    wrong: list[tuple[Any, str]] = [
        (generator, "generator"),
        (job, "is a job already"),
        (Jobs, "Jobs"),
    ]
    for function, says in wrong:
        with pytest.raises(TypeError, match=says):
            jobs.job(function)
    with pytest.raises(TypeError, match="aliases is a list"):
        jobs.job(name="x", aliases="abc")(add)
    for name in ("", "a b", "x" * 201, "a\nb"):
        with pytest.raises(ValueError, match="not a name of a job"):
            jobs.job(name=name)(add)
    with pytest.raises(TypeError, match="text"):
        jobs.job(name=5)(add)  # type: ignore[call-overload]


def test_a_module_of_shared_jobs_is_included_once(jobs: Jobs) -> None:
    assert typed_usage.NAMES  # was imported: what it says to mypy is also true here
    typed_usage.shared.home = None
    with pytest.raises(RuntimeError, match=r"jobs\.include\('tests\.unit\.jobs\.typed_usage'\)"):
        typed_usage.shared.enqueue("x")
    name = "tests.unit.jobs.typed_usage"
    for _ in range(2):
        jobs.include(name)
    assert list(jobs.registry) == [f"{name}.shared"]
    typed_usage.shared.enqueue("x")
    assert [info.queue for info in stored(jobs)] == ["shared"]


def test_a_shared_job_of_another_is_refused(jobs: Jobs) -> None:
    module = types.ModuleType(__name__)
    module.job = clusterd.jobs.job(add)  # type: ignore[attr-defined]
    Jobs().include(module)
    with pytest.raises(ValueError, match="belongs to another Jobs"):
        jobs.include(module)


SCRIPT = """
from clusterd.jobs import Jobs
jobs = Jobs("sqlite:jobs.sqlite3")

@jobs.job
def task() -> None: ...

if __name__ == "__main__":
    print(task.name)
    print(task.enqueue().info().name)
"""


def test_a_job_of_a_module_that_runs_as_a_script_has_the_name_that_workers_know(
    tmp_path: Path,
) -> None:
    (tmp_path / "shop.py").write_text(SCRIPT)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("-m", "shop")
    assert done.stdout.split() == ["shop.task", "shop.task"], done.stderr
    done = run("shop.py")  # by its path: nothing tells how workers import it
    assert done.stdout.split() == ["__main__.task"]
    assert "define it in a module, or say name=" in done.stderr


# --- enqueueing


def test_enqueue_stores_the_call_and_returns_its_handle(jobs: Jobs) -> None:
    job = jobs.job(queue="mail", priority="high", attempts=5, timeout="1m", keep="1d")(add)
    handle = job.enqueue(1, b=3)
    [info] = stored(jobs)
    assert isinstance(handle, Handle)
    assert (handle.id, handle.created) == (info.id, True)
    assert (info.name, info.queue, info.priority) == (job.name, "mail", 10)
    assert (info.timeout, info.max_attempts, info.state) == (60, 5, State.AVAILABLE)
    assert json.loads(info.payload) == {"a": 1, "b": 3}
    assert handle.info().id == info.id
    assert repr(handle) == f"<Handle {job.name} {info.id}>"


def test_options_of_one_enqueue_count_before_those_of_the_job(jobs: Jobs) -> None:
    job = jobs.job(queue="mail", expires="1h")(add)
    job.options(
        delay="10m", queue="other", priority=-7, attempts=1, timeout=5, expires="1d"
    ).enqueue(1)
    at = datetime.fromtimestamp(NOW / 1e6 + 60, UTC)
    job.options(at=at).enqueue(1)
    job.options(at=datetime(2001, 1, 1, tzinfo=UTC)).enqueue(1)
    later, at_time, past = stored(jobs)
    assert (later.queue, later.priority, later.max_attempts) == ("other", -7, 1)
    assert (later.timeout, later.run_at, later.state) == (5, NOW + 600_000_000, State.SCHEDULED)
    assert later.expires_at == NOW + 86_400_000_000
    assert (at_time.run_at, at_time.expires_at) == (NOW + 60_000_000, NOW + 3600_000_000)
    assert past.state is State.AVAILABLE
    with pytest.raises(ValueError, match="expire before it is due"):
        job.options(delay="2h").enqueue(1)


def test_a_unique_key_gives_the_handle_of_the_unfinished_job(jobs: Jobs) -> None:
    first, other = jobs.job(add), jobs.job(greet)
    one = first.options(unique="x").enqueue(1)
    again = first.options(unique="x").enqueue(2)
    assert (again.id, again.created) == (one.id, False)
    assert other.options(unique="x").enqueue("x").created  # a key is of one job
    assert len(stored(jobs)) == 2


def test_many_calls_are_stored_at_once(jobs: Jobs) -> None:
    job = jobs.job(add)
    handles = jobs.enqueue_many([job.call(1), job.options(delay=5).call(2)])
    assert [handle.id for handle in handles] == [info.id for info in stored(jobs)]
    assert jobs.enqueue_many([]) == []
    with pytest.raises(TypeError, match="argument 'a'"):
        jobs.enqueue_many([job.call(3), job.call("x")])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not belong"):
        jobs.enqueue_many([Jobs().job(add).call(1)])
    assert len(stored(jobs)) == 2


def test_coroutines_enqueue_with_aenqueue(jobs: Jobs) -> None:
    job = jobs.job(add)

    async def main() -> list[str]:
        one = await job.aenqueue(1)
        two = await job.options(delay=1).aenqueue(2)
        [three] = await jobs.aenqueue_many([job.call(3)])
        assert (await one.ainfo()).id == one.id
        assert await two.acancel()
        return [one.id, two.id, three.id]

    assert asyncio.run(main()) == [info.id for info in stored(jobs)]


def test_a_plain_call_where_an_event_loop_runs_names_the_other(jobs: Jobs) -> None:
    job = jobs.job(add)
    handle = job.enqueue(1)
    calls: list[tuple[str, Any]] = [
        ("enqueue", lambda: job.enqueue(1)),
        ("enqueue", lambda: job.options(delay=1).enqueue(1)),
        ("enqueue_many", lambda: jobs.enqueue_many([job.call(1)])),
        ("result", handle.result),
        ("info", handle.info),
        ("cancel", handle.cancel),
        ("events", lambda: next(handle.events())),
    ]

    async def main() -> None:
        for name, call in calls:
            with pytest.raises(RuntimeError, match=f"await a{name}"):
                call()

    asyncio.run(main())
    assert len(stored(jobs)) == 1


def test_plain_calls_work_in_a_thread_of_an_event_loop(jobs: Jobs) -> None:
    job = jobs.job(add)
    handle = asyncio.run(asyncio.to_thread(job.enqueue, 1))
    assert handle.id == stored(jobs)[0].id


def test_a_codec_has_arguments_and_results_in_its_hands() -> None:
    class Reversed:
        def encode(self, data: bytes) -> bytes:
            return data[::-1]

        def decode(self, data: bytes) -> bytes:
            return data[::-1]

    jobs = Jobs(codec=Reversed())
    job = jobs.job(greet)
    with jobs.testing() as test:
        handle = job.enqueue("x")
        assert json.loads(test.jobs()[0].payload[::-1]) == {"name": "x"}
        test.drain()
        assert handle.info().result == b'"hello x"'[::-1]
        assert handle.result() == "hello x"
        assert test.arguments(test.jobs()[0]) == {"name": "x"}


def test_a_handle_is_had_again_by_its_id(jobs: Jobs) -> None:
    job = jobs.job(greet)
    with jobs.testing() as test:
        id = job.enqueue("x").id
        test.drain()
        assert job.handle(id).result() == "hello x"
        with pytest.raises(JobNotFound):
            job.handle("0" * 32).info()


# --- the store


def test_a_child_that_is_forked_after_an_enqueue_enqueues_as_well(tmp_path: Path) -> None:
    """As gunicorn's or multiprocessing's; the parent's connection is not used there."""
    jobs = Jobs(f"sqlite:{tmp_path}/jobs.sqlite3")
    job = jobs.job(add)
    ids = [job.enqueue(1).id]
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(writer, job.enqueue(2).id.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        ids.append(pipe.read())
    os.waitpid(pid, 0)
    ids.append(job.enqueue(3).id)
    assert [json.loads(job.handle(id).info().payload)["a"] for id in ids] == [1, 2, 3]


def test_a_store_is_not_opened_while_the_application_is_imported(tmp_path: Path) -> None:
    """Workers are forked from the process that imports, and would share what is open."""
    jobs = Jobs(f"sqlite:{tmp_path}/jobs.sqlite3")
    job = jobs.job(add)
    with loading(), pytest.raises(StoreError, match="while the application is being imported"):
        job.enqueue(1)
    made = job.options(delay=1)
    with loading():
        jobs.job(name="declared")(add)  # declaring is what an import is for
        made.call(1)


def test_the_store_that_is_named_must_be_that_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLUSTERD_JOBS_STORE", "sqlite:/a/jobs.sqlite3")
    job = Jobs("sqlite:/b/jobs.sqlite3").job(add)
    with pytest.raises(StoreError, match=r"names another store .* sqlite:/a/jobs\.sqlite3"):
        job.enqueue(1)


def test_paths_of_stores_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("sqlite:jobs.db") == f"sqlite:{tmp_path}/jobs.db"
    assert (
        absolute("sqlite:../x?synchronous=full") == f"sqlite:{tmp_path.parent}/x?synchronous=full"
    )
    assert absolute("sqlite:///var/x") == "sqlite:/var/x"
    assert absolute("redis://h/0") == "redis://h/0"


def test_a_context_variable_does_not_leak_out_of_a_job(jobs: Jobs) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    def change() -> int:
        variable.set(5)
        return variable.get()

    job = jobs.job(name="change")(change)
    with jobs.testing() as test:
        handle = job.enqueue()
        test.drain()
        assert handle.result() == 5
    assert variable.get() == 0
