"""Disk for request bodies: counted to the byte, bounded, and taken from clients that are stuck."""

import os
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from clusterd.app.spool import NoRoomOnDiskError, Spool
from clusterd.kernel import disk
from clusterd.worker.deadlines import RATE
from clusterd.worker.memory_budget import GRACE, LOOK
from clusterd.worker.spool_budget import LEAST, SpoolBudget
from tests.support.spools import Client

MIB, GIB = 2**20, 2**30
LIMIT = 100 * MIB


class Worker:
    """A budget, and clients with bodies on disk."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.budget = SpoolBudget(LIMIT, GIB, 1, lambda: self.now)

    def spool(self, size: int, awaits_body: bool = True) -> Client:
        client = Client(awaits_body)
        client.spool = Spool(b"", self.budget, client)
        client.spool._is_file = True  # without the file, which is not written to
        client.spool._file = SimpleNamespace(raw=SimpleNamespace(close=int))  # type: ignore[assignment]
        self.grow(client, size)
        return client

    def grow(self, client: Client, size: int) -> None:
        assert client.spool is not None
        self.budget.grow(client.spool, size)

    def pass_time(self, seconds: float, each: Callable[[], object]) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 1.01 * LOOK  # whatever a sum of floats is
            each()


def test_it_is_counted_to_the_byte_and_given_back() -> None:
    worker = Worker()
    first, second = worker.spool(30 * MIB), worker.spool(1)
    worker.grow(second, 9)
    assert worker.budget.held == 30 * MIB + 10
    for client in (first, second, second):
        assert client.spool is not None
        worker.budget.forget(client.spool)
    assert worker.budget.held == 0
    assert not worker.budget._marks


def test_all_of_it_may_be_used_and_not_a_byte_more(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    client = worker.spool(LIMIT, awaits_body=False)
    for _ in range(3):
        with pytest.raises(NoRoomOnDiskError):
            worker.spool(1)
        with pytest.raises(NoRoomOnDiskError):
            worker.grow(client, 1)
    assert worker.budget.held == LIMIT
    (record,) = caplog.records
    assert "100 MiB of 100 MiB on disk" in record.getMessage()
    assert "spool_budget" in record.getMessage()


def test_the_largest_that_makes_no_progress_goes_first() -> None:
    worker = Worker()
    largest, second, third = worker.spool(40 * MIB), worker.spool(30 * MIB), worker.spool(15 * MIB)
    growing = worker.spool(1)
    worker.pass_time(GRACE + 2 * LOOK, lambda: worker.grow(growing, 100))
    assert [client.is_refused for client in (largest, second, third)] == [True, False, False]
    assert 45 * MIB < worker.budget.held < 46 * MIB


def test_nothing_is_taken_away_while_there_is_room_or_before_it_had_time_to_grow() -> None:
    worker = Worker()
    stuck, growing = worker.spool(75 * MIB), worker.spool(1)
    worker.pass_time(60, lambda: worker.grow(growing, 100))
    assert not stuck.is_refused
    worker.grow(growing, 10 * MIB)
    worker.pass_time(GRACE - 2 * LOOK, lambda: worker.grow(growing, 100))
    assert not stuck.is_refused


def test_a_body_that_comes_or_is_complete_stays() -> None:
    worker = Worker()
    coming, complete = worker.spool(40 * MIB), worker.spool(40 * MIB, awaits_body=False)
    slow, slow_enough = worker.spool(1000), worker.spool(1000)

    def grow() -> None:
        worker.grow(slow_enough, int(RATE * LOOK) + 4)
        if not slow.is_refused:
            worker.grow(slow, int(RATE * LOOK) - 4)
        worker.grow(coming, 40 * MIB // 500)  # it needs 50 s for all of it

    worker.pass_time(GRACE + 3 * LOOK, grow)
    assert not coming.is_refused
    assert not complete.is_refused
    assert slow.is_refused
    assert not slow_enough.is_refused


def test_a_body_that_grows_too_slowly_is_refused_as_it_grows() -> None:
    worker = Worker()
    worker.spool(85 * MIB, awaits_body=False)
    slow = worker.spool(1000)
    worker.now += LOOK
    worker.grow(slow, 1)
    worker.now += GRACE
    with pytest.raises(NoRoomOnDiskError):
        worker.grow(slow, 1)


def test_a_large_body_has_to_come_within_a_minute() -> None:
    worker = Worker()
    worker.spool(30 * MIB, awaits_body=False)
    fast, slow = worker.spool(15 * MIB), worker.spool(40 * MIB)

    def grow() -> None:
        worker.grow(fast, 20 * MIB // 600)
        if not slow.is_refused:
            worker.grow(slow, 38 * MIB // 600)

    worker.pass_time(GRACE + 3 * LOOK, grow)
    assert slow.is_refused
    assert not fast.is_refused


@pytest.mark.parametrize(
    ("free", "limit_spool", "sharers", "budget"),
    [
        (400 * GIB, GIB, 1, 100 * GIB),
        (400 * GIB, GIB, 4, 25 * GIB),
        (4 * GIB, GIB, 8, GIB),
        (4 * GIB, 3 * GIB, 1, 3 * GIB),
        (0, 0, 0, LEAST),
    ],
)
def test_by_default_it_is_a_quarter_of_the_free_space_by_workers(
    free: int, limit_spool: int, sharers: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_space", lambda _: free)
    monkeypatch.setattr(disk, "is_in_memory", lambda _: False)
    spools = SpoolBudget(0, limit_spool, sharers)
    assert spools.is_on_disk(0)
    assert spools.limit == budget
    monkeypatch.setattr(disk, "free_space", lambda _: 1)
    assert spools.is_on_disk(0)
    assert spools.limit == budget, "it is what was free at first"
    given = SpoolBudget(5, limit_spool, sharers)
    assert given.is_on_disk(0)
    assert given.limit == 5


def test_files_in_memory_are_no_business_of_it() -> None:
    spools = SpoolBudget(0, GIB, 1)
    fd = os.memfd_create("x")
    assert not spools.is_on_disk(fd)
    os.close(fd)
    assert spools.limit == 0
