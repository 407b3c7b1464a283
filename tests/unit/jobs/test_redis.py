"""What only the store in Redis promises: lost replies, namespaces, forks, plain use, concerns."""

import asyncio
import os
import select
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.jobs import Jobs
from clusterd.jobs.drive import run
from clusterd.jobs.records import Claim, Claimed, Filter, NewJob, Outcome
from clusterd.jobs.redis_connection import Script
from clusterd.jobs.redis_store import RedisStore, create
from clusterd.jobs.states import Event, State
from clusterd.jobs.store import Bell, StoreError, StoreUnavailable
from clusterd.jobs.stores import open_store
from clusterd.jobs.waiting import wait
from tests.support.job_stores import OTHER, OWNER, Clock, Desk, redis_server
from tests.support.stores import LIMIT

JOB = NewJob("1" * 32, "mail", b"[]")
WANTED = Claim(OWNER, ("mail",), ("default",), 10, 30.0)


class Lossy(RedisStore):
    """Loses replies: what it sent is done, and its caller does not learn of it."""

    lost: list[tuple[Script, tuple[Any, ...]]]

    async def _run(self, script: Script, *arguments: Any) -> Any:
        reply = await super()._run(script, *arguments)
        if getattr(self, "loses", False):
            self.lost = [*getattr(self, "lost", []), (script, arguments)]
            raise StoreUnavailable("the reply was lost")
        return reply


@pytest.fixture
def desk() -> Iterator[Desk]:
    server, clock = redis_server(), Clock()
    desk = Desk(Lossy(server, server, uuid.uuid4().hex, clock=clock), clock)
    with desk.runner:
        desk.run(desk.store.open())
        yield desk
        desk.run(desk.store.close())


async def ask(store: Any, command: str, *arguments: Any, **options: Any) -> Any:
    """Send a command of Redis over the connections of a store."""
    return await getattr(store._connections.line().client, command)(*arguments, **options)


def lose(desk: Desk, loses: bool) -> None:
    desk.store.loses = loses  # type: ignore[attr-defined]


@pytest.mark.redis
def test_jobs_of_a_claim_whose_reply_was_lost_are_handed_out_again(desk: Desk) -> None:
    """Their owner lives, so no lease of theirs ever runs out."""
    ids = [desk.add() for _ in range(3)]
    lose(desk, True)
    with pytest.raises(StoreUnavailable):
        desk.claim(1)
    with pytest.raises(StoreUnavailable):
        desk.claim(1)
    lose(desk, False)
    claimed = desk.claim(3)
    assert sorted(job.id for job in claimed) == ids
    assert {job.token for job in claimed} == {1}
    assert desk.claim(3) == []
    for job in claimed:
        assert desk.finish(job, Event.SUCCEEDED)


@pytest.mark.redis
def test_a_claim_that_arrives_after_the_next_one_takes_nothing(desk: Desk) -> None:
    """A server that stalls may read an abandoned connection last."""
    lose(desk, True)
    with pytest.raises(StoreUnavailable):
        desk.claim()
    lose(desk, False)
    assert desk.claim() == []
    id = desk.add()
    ((script, arguments),) = desk.store.lost  # type: ignore[attr-defined]
    assert desk.run(desk.store._run(script, *arguments)) == []  # type: ignore[attr-defined]
    assert desk.state(id) is State.AVAILABLE


@pytest.mark.redis
def test_an_end_whose_reply_was_lost_is_taken_again_with_the_jobs_of_its_claim(desk: Desk) -> None:
    desk.add()
    job, second = desk.one(), desk.add()
    outcome = [Outcome(job.id, job.token, Event.SUCCEEDED)]
    lose(desk, True)
    with pytest.raises(StoreUnavailable):
        desk.run(desk.store.finish(outcome, desk.claims(1)))
    lose(desk, False)
    taken, claimed = desk.run(desk.store.finish(outcome, desk.claims(1)))
    assert taken == [True]
    assert [each.id for each in claimed] == [second]
    assert desk.info(job.id).attempts == 1


@pytest.mark.redis
def test_jobs_that_were_claimed_well_are_not_handed_out_again(desk: Desk) -> None:
    desk.add()
    mine = desk.one()
    lose(desk, True)
    with pytest.raises(StoreUnavailable):
        desk.claim()
    lose(desk, False)
    assert desk.claim() == []
    assert desk.finish(mine, Event.SUCCEEDED)


@pytest.mark.redis
def test_claimers_at_once_share_the_jobs(desk: Desk) -> None:
    ids = {desk.add() for _ in range(50)}

    async def claims() -> list[list[Claimed]]:
        asked = [desk.store.claim(desk.claims(7, owner)) for owner in (OWNER, OTHER) * 5]
        return await asyncio.gather(*asked)

    claimed = [job.id for jobs in desk.run(claims()) for job in jobs]
    assert sorted(claimed) == sorted(ids)


@pytest.mark.redis
def test_only_what_concerns_workers_rings_for_them(desk: Desk) -> None:
    bell = desk.store.available_bell()
    assert heard(bell) == 1  # it listens
    id = desk.add()
    assert heard(bell) == 1
    job = desk.one()
    desk.run(desk.store.renew([OWNER.key], 1.0))
    desk.promote()
    desk.finish(job, Event.SUCCEEDED)
    desk.run(desk.store.retry(Filter(ids=(id,))))  # the only ring, and the last
    assert heard(bell) == 1
    bell.close()


def heard(bell: Bell) -> int:
    """Wait for a ring; return how many there were."""
    poll = select.poll()
    poll.register(bell.fileno(), select.POLLIN)
    assert poll.poll(1000 * LIMIT)
    return os.eventfd_read(bell.fileno())


@pytest.mark.redis
def test_a_bell_is_closed_before_it_ever_listened(desk: Desk) -> None:
    bell = desk.store.available_bell()
    fd = bell.fileno()
    bell.close()
    bell.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.redis
def test_applications_with_other_namespaces_never_meet(desk: Desk) -> None:
    other = create(f"{redis_server()}?namespace={uuid.uuid4().hex}")
    desk.add()
    desk.run(other.open())
    assert desk.run(other.find(Filter())) == []
    assert desk.run(other.claim(WANTED)) == []
    assert desk.run(other.enqueue([JOB]))[0].created
    desk.run(other.close())
    assert len(desk.find()) == 1


@pytest.mark.redis
def test_a_namespace_belongs_to_its_first_application(desk: Desk) -> None:
    url = f"{redis_server()}?namespace={uuid.uuid4().hex}"
    for application in ("&application=shop", "&application=shop", ""):
        store = create(url + application)
        desk.run(store.open())
        desk.run(store.close())
    store = create(f"{url}&application=blog")
    with pytest.raises(StoreError, match=r"belongs to the application 'shop', not to 'blog'"):
        desk.run(store.open())
    desk.run(store.close())


@pytest.mark.redis
def test_a_server_that_may_lose_jobs_is_reported(desk: Desk) -> None:
    (concern,) = desk.run(desk.store.concerns())
    assert "appendonly no" in concern


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"aof_enabled": 1, "maxmemory_policy": "noeviction"}, []),
        ({}, []),  # this user may not ask
        ({"aof_enabled": 0}, ["appendonly no"]),
        ({"aof_enabled": 1, "maxmemory_policy": "allkeys-lru"}, ["maxmemory-policy allkeys-lru"]),
    ],
)
def test_concerns_are_of_what_the_server_says(
    info: dict[str, Any], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create("redis://127.0.0.1?namespace=n")

    async def told() -> dict[str, Any]:
        return info

    monkeypatch.setattr(store._connections, "info", told)
    concerns = asyncio.run(store.concerns())
    assert len(concerns) == len(words)
    assert all(word in concern for word, concern in zip(words, concerns, strict=True))


def test_an_old_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    store = create("redis://127.0.0.1?namespace=n")

    async def told() -> dict[str, Any]:
        return {"redis_version": "6.2.14"}

    monkeypatch.setattr(store._connections, "info", told)
    with pytest.raises(StoreError, match=r"is Redis 6\.2\.14, expected 7 or newer"):
        asyncio.run(store.open())


def test_a_server_that_is_away_is_unavailable_and_its_password_is_not_shown() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        port = bound.getsockname()[1]
        store = open_store(f"redis://ann:secret@127.0.0.1:{port}/2?namespace=shop")
        assert store.url == f"redis://ann@127.0.0.1:{port}/2?namespace=shop"
        with pytest.raises(StoreUnavailable, match=r"redis://ann@127") as caught:
            run(store, store.open())
        run(store, store.close())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://:secret@host?colour=red", "not a valid option: colour"),
        ("redis://:secret@host:port", "not a valid URL"),
        ("redis:", "expected redis://HOST"),
        ("unix:///", "expected redis://HOST"),
        ("redis://host?namespace={a}", "it has a brace"),
        ("redis://:secret@host", "names no namespace"),
        ("redis://host?namespace=", "names no namespace"),
    ],
)
def test_a_url_that_cannot_be_is_refused_without_its_password(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("clusterd.jobs.redis_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(StoreError, match=r"Install clusterd\[redis\]"):
        open_store("redis://host?namespace=n")


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    url = f"{redis_server()}?namespace={uuid.uuid4().hex}"
    monkeypatch.setenv("CLUSTERD_JOBS_STORE", url)
    jobs = Jobs()
    yield jobs
    store = jobs.backend.open()
    run(store, store.close())


@pytest.mark.redis
def test_plain_functions_of_many_threads_enqueue_and_wait(jobs: Jobs) -> None:
    jobs.job(name="mail")(print)
    handles: list[Any] = []
    threads = [
        threading.Thread(target=lambda: handles.append(jobs.registry["mail"].enqueue("x")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    store = jobs.backend.open()
    claimed = run(store, store.claim(WANTED))
    assert {job.id for job in claimed} == {handle.id for handle in handles}
    outcomes = [Outcome(job.id, job.token, Event.SUCCEEDED, b"null") for job in claimed]
    run(store, store.finish(outcomes))
    for handle in handles:
        info = wait(jobs.backend, handle.id, float("inf"))
        assert info is not None
        assert info.state is State.COMPLETED


@pytest.mark.redis
def test_a_forked_child_uses_connections_of_its_own(jobs: Jobs, tmp_path: Path) -> None:
    jobs.job(name="mail")(print)
    jobs.registry["mail"].enqueue("parent")
    store = jobs.backend.open()
    mine = run(store, ask(store, "client_id"))
    pid = os.fork()
    if pid == 0:
        signal.alarm(int(LIMIT))  # a child that hangs shall not outlive the test
        try:
            jobs.registry["mail"].enqueue("child")
            (tmp_path / "id").write_text(str(run(store, ask(store, "client_id"))))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert int((tmp_path / "id").read_text()) != mine
    assert run(store, ask(store, "client_id")) == mine
    assert len(run(store, store.find(Filter()))) == 2


@pytest.mark.redis
def test_a_bell_whose_connection_is_cut_listens_again_and_rings(desk: Desk) -> None:
    """What was published in between is lost: its process must look."""
    bell = desk.store.available_bell()
    assert heard(bell) == 1
    desk.run(ask(desk.store, "client_kill_filter", _type="pubsub"))
    assert heard(bell) == 1
    desk.add()
    assert heard(bell) == 1
    bell.close()


@pytest.mark.redis
def test_a_wrong_password_is_an_error_of_the_settings(desk: Desk) -> None:
    desk.run(ask(desk.store, "acl_setuser", "ann", True, passwords=["+right"]))
    host = redis_server().removeprefix("redis://")
    store = create(f"redis://ann:wrong@{host}?namespace=n")
    with pytest.raises(StoreError, match="refuses to serve us") as caught:
        desk.run(store.open())
    assert "wrong" not in str(caught.value)
    desk.run(store.close())


def test_nothing_is_sent_twice_to_a_server_that_does_not_respond() -> None:
    """It may have done what it was sent. redis-py by itself tries ten times."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        store = RedisStore(url, url, "n", timeout=0.05)
        with pytest.raises(StoreUnavailable, match="127"):
            run(store, store.enqueue([JOB]))
        connection, _ = listener.accept()
        connection.close()
        with pytest.raises(BlockingIOError):
            listener.accept()
        run(store, store.close())


@pytest.mark.redis
def test_connections_of_a_parent_process_are_not_used_in_its_loop_either(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = desk.run(ask(desk.store, "client_id"))
    store: Any = desk.store
    kept = store._connections._lines
    with monkeypatch.context() as child:
        child.setattr("clusterd.jobs.redis_connection.os.getpid", lambda: 1)
        assert desk.run(ask(store, "client_id")) != mine
        desk.run(store.close())
    store._connections._lines, store._connections._pid = kept, os.getpid()
    assert desk.run(ask(store, "client_id")) == mine
