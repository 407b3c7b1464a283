"""The store in SQLite beside what all stores promise: its file, its locks, forks, errors."""

import asyncio
import contextlib
import gc
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.jobs import sqlite_database
from clusterd.jobs.drive import drive
from clusterd.jobs.records import Claim, Filter, NewJob, Outcome
from clusterd.jobs.sqlite import SqliteStore, create
from clusterd.jobs.sqlite_schema import NEWEST
from clusterd.jobs.states import Event, State
from clusterd.jobs.store import StoreError, StoreUnavailable
from tests.support.job_stores import OWNER, SECOND, Clock, Desk

Connection = sqlite3.Connection


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "jobs.sqlite3")


@pytest.fixture
def store(path: str) -> Iterator[SqliteStore]:
    store = SqliteStore(path)
    drive(store.open())
    yield store
    drive(store.close())


def connection_of(store: SqliteStore) -> Connection:
    connection = store._database._connection
    assert connection is not None
    return connection


@contextlib.contextmanager
def outside(path: str) -> Iterator[Connection]:
    """A connection as another program has it."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        yield connection
    finally:
        connection.close()


def job(number: int, **options: object) -> NewJob:
    return NewJob(f"{number:032x}", "mail", **{"payload": b"{}", **options})  # type: ignore[arg-type]


def ids(store: SqliteStore) -> list[int]:
    return sorted(int(info.id, 16) for info in drive(store.find(Filter(limit=0))))


# --- the URL


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:/var/lib/jobs", "/var/lib/jobs"),
        ("sqlite:///var/lib/jobs", "/var/lib/jobs"),
        ("sqlite:/a b%20c#d?synchronous=full&application=shop", "/a b%20c#d"),
    ],
)
def test_a_url_names_a_file(url: str, path: str) -> None:
    assert create(url).url == f"sqlite:{path}"


def test_a_relative_path_is_of_the_current_directory() -> None:
    assert create("sqlite:jobs").url == f"sqlite:{os.getcwd()}/jobs"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "sqlite:/",
        "sqlite::memory:",
        "sqlite:/dir/",
        "sqlite:/jobs?synchronous=off",
        "sqlite:/jobs?mode=ro",
    ],
)
def test_a_url_that_names_no_file_or_no_such_option_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match=r"expected"):
        create(url)


# --- the file


def test_only_its_owner_may_read_what_is_stored(path: str, store: SqliteStore) -> None:
    drive(store.enqueue([job(1)]))
    place = Path(path).parent
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in place.iterdir()}
    names = ("jobs.sqlite3", "jobs.sqlite3-wal", "jobs.sqlite3-shm", "jobs.sqlite3-bell")
    assert modes == dict.fromkeys(names, 0o600)


def test_a_file_and_a_directory_that_exist_keep_their_mode(tmp_path: Path) -> None:
    path = tmp_path / "jobs"
    path.touch(0o640)
    tmp_path.chmod(0o750)
    store = SqliteStore(str(path))
    drive(store.open())
    drive(store.close())
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


@pytest.mark.parametrize(("synchronous", "number"), [("normal", 1), ("full", 2)])
def test_a_commit_is_in_a_write_ahead_log_and_synced_as_asked(
    path: str, synchronous: str, number: int
) -> None:
    store = create(f"sqlite:{path}?synchronous={synchronous}")
    drive(store.open())
    pragmas = ("journal_mode", "synchronous", "busy_timeout")
    found = [connection_of(store).execute(f"PRAGMA {each}").fetchone()[0] for each in pragmas]
    assert found == ["wal", number, 0]
    drive(store.close())


def test_jobs_are_there_after_the_store_was_closed_and_opened(
    path: str, store: SqliteStore
) -> None:
    drive(store.enqueue([job(1)]))
    drive(store.close())
    drive(store.close())
    drive(store.open())
    assert ids(store) == [1]


def test_a_store_that_is_dropped_closes_its_file(path: str) -> None:
    store = SqliteStore(path)
    drive(store.enqueue([job(1)]))
    del store
    gc.collect()  # ResourceWarning is an error here
    assert not Path(f"{path}-wal").exists()  # the last connection to close removes it


def test_pruning_copies_the_log_into_the_database(path: str, store: SqliteStore) -> None:
    drive(store.enqueue([job(1, payload=b"x" * 100_000)]))
    before = os.path.getsize(path)
    drive(store.prune())
    assert os.path.getsize(path) > before + 100_000


def test_two_that_create_the_same_store_at_once_make_it_once(path: str) -> None:
    stores = [SqliteStore(path) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda n=n: drive(stores[n].enqueue([job(n)]))) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(stores[0]) == [0, 1, 2, 3]
    for store in stores:
        drive(store.close())


# --- the schema


def refused(path: str, application: str = "") -> str:
    """Return why a store cannot be opened."""
    store = SqliteStore(path, application=application)
    with pytest.raises(StoreError) as caught:
        drive(store.open())
    drive(store.close())
    return str(caught.value)


def test_a_newer_schema_is_refused_but_the_next_one(path: str, store: SqliteStore) -> None:
    drive(store.close())
    for version in (NEWEST, NEWEST + 1):
        with outside(path) as connection:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (version,))
        if version == NEWEST:
            drive(store.open())
            drive(store.close())
    assert f"made by a newer clusterd: it has schema {NEWEST + 1}" in refused(path)


def test_the_store_of_another_application_is_refused(path: str) -> None:
    for application in ("shop", "", "shop"):
        store = SqliteStore(path, application=application)
        drive(store.open())
        drive(store.close())
    assert "belongs to the application 'shop', not to 'blog'" in refused(path, "blog")


def test_a_database_of_another_program_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = str(tmp_path / "other")
    with outside(path) as connection:
        connection.execute("CREATE TABLE users (id)")
    assert "a database of another program, not a job store" in refused(path)
    with outside(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == [("users",)]


def test_what_is_not_a_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "text"
    text = "Dear diary,\n" * 100
    path.write_text(text)
    assert "it is not an SQLite database" in refused(str(path))
    assert path.read_text() == text


def test_a_damaged_database_is_refused(path: str, store: SqliteStore) -> None:
    drive(store.enqueue([job(n) for n in range(100)]))
    drive(store.close())
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8 * 4096)
    assert "it is damaged" in refused(path)


# --- errors: nothing is half done, and it goes on afterwards


def test_a_full_disk_stores_nothing_and_says_so(store: SqliteStore) -> None:
    drive(store.enqueue([job(1)]))
    connection = connection_of(store)
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreUnavailable, match=r"jobs\.sqlite3 cannot be used: the disk is full"):
        drive(store.enqueue([job(2), job(3, payload=b"x" * 100_000)]))
    assert ids(store) == [1]
    (queue,) = drive(store.stats())
    assert queue.counts == {State.AVAILABLE: 1}
    connection.execute("PRAGMA max_page_count = 1000000")
    drive(store.enqueue([job(2), job(3, payload=b"x" * 100_000)]))
    assert ids(store) == [1, 2, 3]


def test_a_result_that_does_not_fit_leaves_the_job_running(store: SqliteStore) -> None:
    """So that its worker may try again until its lease ends."""
    clock = Clock()
    desk = Desk(store, clock)
    with desk.runner:
        drive(store.enqueue([job(1)]))
        claimed = desk.one()
        connection = connection_of(store)
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreUnavailable):
            desk.finish(claimed, Event.SUCCEEDED, result=b"x" * 100_000)
        assert desk.state(claimed.id) is State.RUNNING
        connection.execute("PRAGMA max_page_count = 1000000")
        assert desk.finish(claimed, Event.SUCCEEDED, result=b"x" * 100_000)


def test_a_store_that_may_not_be_written_to_says_so_and_is_read(store: SqliteStore) -> None:
    drive(store.enqueue([job(1)]))
    connection_of(store).execute("PRAGMA query_only = 1")
    with pytest.raises(StoreUnavailable, match="it may not be written to"):
        drive(store.enqueue([job(2)]))
    assert ids(store) == [1]
    connection_of(store).execute("PRAGMA query_only = 0")
    drive(store.enqueue([job(2)]))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to all files")
def test_a_file_without_write_access_says_so(path: str, store: SqliteStore) -> None:
    drive(store.close())
    os.chmod(path, 0o400)
    with pytest.raises(StoreUnavailable, match=r"jobs\.sqlite3 cannot be used"):
        drive(store.enqueue([job(1)]))


@pytest.mark.parametrize("place", ["/proc/none/jobs", "/dev/null/jobs", "/proc"])
def test_a_path_where_no_file_can_be_says_so(place: str) -> None:
    with pytest.raises(StoreUnavailable, match=f"the job store {place} cannot be used: "):
        drive(SqliteStore(place).open())


@pytest.mark.parametrize("again", ["deleted", "replaced", "with its directory"])
def test_a_file_that_vanishes_is_reported_once_and_made_anew(
    path: str, store: SqliteStore, again: str
) -> None:
    drive(store.enqueue([job(1)]))
    for name in os.listdir(os.path.dirname(path)):
        os.unlink(os.path.join(os.path.dirname(path), name))
    if again == "replaced":
        other = SqliteStore(path)
        drive(other.enqueue([job(7)]))
        drive(other.close())
    elif again == "with its directory":
        os.rmdir(os.path.dirname(path))
    with pytest.raises(StoreUnavailable, match="was deleted or replaced"):
        drive(store.enqueue([job(2)]))
    drive(store.enqueue([job(3)]))
    assert ids(store) == ([3, 7] if again == "replaced" else [3])


def test_a_lock_that_is_kept_too_long_is_an_error(path: str) -> None:
    store = SqliteStore(path, locked_for=0.01)
    drive(store.open())
    with outside(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"locked by another process for 0\.01 s"):
            drive(store.enqueue([job(1)]))
        assert ids(store) == []  # a lock for writing keeps nobody from reading
        connection.execute("ROLLBACK")
    drive(store.enqueue([job(1)]))
    assert ids(store) == [1]
    drive(store.close())


def test_a_claim_that_finds_nothing_does_not_wait_for_the_lock(path: str) -> None:
    """A bell wakes all workers, and most of them come too late for the job."""
    store = SqliteStore(path, locked_for=0.0)
    drive(store.enqueue([job(1, run_at=1 << 60)]))
    with outside(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert drive(store.claim(Claim(OWNER, ("mail",), ("default",), 5, 30.0))) == []
    drive(store.close())


def test_the_event_loop_goes_on_while_another_process_has_the_lock(
    path: str, store: SqliteStore
) -> None:
    async def release(connection: Connection) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        connection.execute("COMMIT")

    async def both(connection: Connection) -> None:
        await asyncio.gather(store.enqueue([job(1)]), release(connection))

    with outside(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        asyncio.run(both(connection))
    assert ids(store) == [1]


def test_an_error_of_an_action_undoes_all_of_it(store: SqliteStore) -> None:
    def break_off(connection: Connection) -> None:
        connection.execute("INSERT INTO paused VALUES ('default')")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(store._database.write(break_off))
    assert drive(store.stats()) == []
    drive(store.enqueue([job(1)]))


def test_a_network_file_system_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_database, "shared_file_system", lambda _: "NFS")
    assert "on a network file system (NFS)" in refused(path)


def test_a_fuse_file_system_is_warned_of(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_database, "shared_file_system", lambda _: "FUSE")
    store = SqliteStore(path)
    drive(store.open())
    drive(store.close())
    assert "is on a FUSE file system" in caplog.text


def descriptors(path: str) -> set[str]:
    """Return the descriptors of a file that this process has."""
    place = Path("/proc/self/fd")
    return {each.name for each in place.iterdir() if each.is_symlink() and each.samefile(path)}


def test_a_connection_of_before_a_fork_is_neither_used_nor_closed(
    path: str, store: SqliteStore
) -> None:
    """Python's hooks close it before. Here is what remains for a fork behind their back."""
    before = descriptors(path)
    store._database._pid += 1  # as in the child
    drive(store.close())
    gc.collect()
    assert len(before) == 1
    assert descriptors(path) == before
    drive(store.enqueue([job(1)]))
    assert descriptors(path) > before


# --- threads


def test_threads_share_a_store(store: SqliteStore) -> None:
    def enqueue(first: int) -> None:
        for number in range(first, first + 25):
            drive(store.enqueue([job(number, unique_key="" if number % 5 else "k")]))

    threads = [threading.Thread(target=enqueue, args=(n * 25,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids(store)) == 80 + 1


def test_a_store_is_used_in_one_event_loop_after_the_other(store: SqliteStore) -> None:
    for number in range(2):
        asyncio.run(store.enqueue([job(number)]))
    assert ids(store) == [0, 1]


def test_a_claim_is_decided_by_its_index_alone(store: SqliteStore) -> None:
    """Jobs of unknown names and expired ones cost no look at their rows, and nothing is sorted."""
    statements: list[str] = []
    connection_of(store).set_trace_callback(statements.append)
    drive(store.finish([], Claim(OWNER, ("mail", "video"), ("default",), 5, 30.0)))
    (claim,) = (each for each in statements if each.startswith("UPDATE job"))
    plan = connection_of(store).execute(f"EXPLAIN QUERY PLAN {claim}").fetchall()
    steps = [step for *_, step in plan]
    assert [step for step in steps if "USING COVERING INDEX ready (queue=?" in step]
    assert not [step for step in steps if "TEMP B-TREE" in step]


# --- cost: what a statement does must not grow with the jobs that it does not concern


def instructions(store: SqliteStore, action: object) -> int:
    """Return how many instructions of SQLite's machine a call of the store takes."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return 0

    connection = connection_of(store)
    connection.set_progress_handler(step, 1)
    drive(action)  # type: ignore[arg-type]
    connection.set_progress_handler(None, 0)
    return count


def fill(desk: Desk, jobs: int) -> None:
    """Store so many jobs in each state."""
    store, now = desk.store, desk.clock.now
    desk.add("video", queue="other")
    for event in (Event.SUCCEEDED, Event.EXHAUSTED, Event.RETURNED):
        desk.run(store.enqueue([desk.new() for _ in range(jobs)]))
        claimed = desk.claim(jobs)
        outcomes = [Outcome(each.id, each.token, event) for each in claimed]
        desk.run(store.finish(outcomes))
    later = [desk.new(run_at=now + SECOND, expires_at=now + SECOND) for _ in range(jobs)]
    desk.run(store.enqueue(later))


def test_no_call_costs_more_with_many_jobs(tmp_path: Path) -> None:
    costs = []
    for jobs in (5, 500):
        clock = Clock()
        store = SqliteStore(str(tmp_path / str(jobs)), clock=clock)
        desk = Desk(store, clock)
        with desk.runner:
            fill(desk, jobs)
            claimed = desk.claim(2)
            outcome = Outcome(claimed[0].id, claimed[0].token, Event.SUCCEEDED)
            failed = Outcome(claimed[1].id, claimed[1].token, Event.FAILED, error="x")
            newest = Filter(limit=2)
            calls = {
                "enqueue": store.enqueue([desk.new(unique_key="k")]),
                "claim": store.claim(desk.claims(3)),
                "claim nothing": store.claim(desk.claims(3, queues=("none",))),
                "finish": store.finish([outcome, failed], desk.claims(2)),
                "cancel_requested": store.cancel_requested("x"),
                "renew": store.renew(["x"], 1.0),
                "owners": store.owners("node"),
                "release": store.release(["x"], ""),
                "reap": store.reap(),
                "promote": store.promote(),
                "next_due": store.next_due(),
                "prune": store.prune(),
                "stats": store.stats(),
                "get": store.get(claimed[0].id),
                "find": store.find(newest),
                "find by name": store.find(Filter(name="video", limit=2)),
                "find running": store.find(Filter(states=(State.RUNNING,), limit=2)),
                "find failed": store.find(Filter(states=(State.DISCARDED,), limit=2)),
                "find by id": store.find(Filter(ids=(claimed[0].id,))),
            }
            costs.append({name: instructions(store, call) for name, call in calls.items()})
            desk.run(store.close())
    few, many = costs
    dear = {name: (few[name], many[name]) for name in few if many[name] > few[name] * 1.2 + 20}
    assert not dear
