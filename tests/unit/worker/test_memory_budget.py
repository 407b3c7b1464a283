"""What a worker holds for clients is counted, bounded, and given up where it has to be."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from clusterd.kernel.heap import APART, TOGETHER
from clusterd.worker import memory_budget
from clusterd.worker.deadlines import RATE
from clusterd.worker.memory_budget import ALLOWANCE, GRACE, LOOK, UNSEEN, MemoryBudget, size_of

MIB = 2**20
LIMIT = 100 * MIB


class Loop:
    """One timer, which a test lets go off."""

    def __init__(self) -> None:
        self.callback: Callable[[], None] | None = None

    def call_later(self, _delay: float, callback: Callable[[], None]) -> "Loop":
        assert self.callback is None, "one timer is enough"
        self.callback = callback
        return self

    def call_soon(self, callback: Callable[[], None]) -> None:
        callback()


class Client:
    """A connection whose buffers a test fills."""

    def __init__(self, size: int = 0, moved: int = 0, awaits_client: bool = True) -> None:
        self.size = size
        self.moved = moved
        self.awaits_client = awaits_client
        self.held = 0
        self.is_read = True
        self.is_shed = False
        self.is_closing = False
        self.left_over = 0  # when it is shed
        self.asked = 0

    def measure(self) -> int:
        self.asked += 1
        return self.size

    def count_moved(self) -> int:
        return self.moved

    def hold_off(self) -> None:
        self.is_read = False

    def go_on(self) -> None:
        self.is_read = True

    def shed(self) -> None:
        self.is_shed = True
        self.size = self.left_over


class Worker:
    """A budget, and the connections that it is for."""

    def __init__(self, *clients: Client, limit: int = LIMIT) -> None:
        self.clients = list(clients)
        self.loop = Loop()
        self.now = 1000.0
        loop: Any = self.loop
        self.budget = MemoryBudget(limit, loop, self.clients, lambda: self.now)

    def count(self) -> None:
        for client in self.clients:
            self.budget.count(client)

    def pass_time(self, seconds: float, each: Callable[[], object] = lambda: None) -> None:
        """Let the timer go off, as often as it is set."""
        end = self.now + seconds
        while self.now < end:
            self.now += LOOK
            each()
            callback, self.loop.callback = self.loop.callback, None
            if callback is None:
                return
            callback()


def test_what_is_small_is_not_counted() -> None:
    worker = Worker(Client(ALLOWANCE), Client(ALLOWANCE + 1))
    worker.count()
    assert worker.budget.held == ALLOWANCE + 1
    assert worker.loop.callback is None


def test_what_went_is_noticed_at_the_next_look_and_small_clients_are_not_asked() -> None:
    large, small = Client(MIB), Client(100)
    worker = Worker(large, small)
    worker.count()
    large.size = 0
    worker.budget.look(worker.now)
    assert worker.budget.held == 0
    asked = small.asked, large.asked
    worker.budget.look(worker.now + 2 * LOOK)
    assert (small.asked, large.asked) == asked, "nobody holds anything"


def test_what_outlives_its_connection_is_asked_also_while_memory_is_short() -> None:
    leftover = Client(40 * MIB, awaits_client=False)
    worker = Worker(Client(50 * MIB, awaits_client=False))
    worker.budget.count(leftover)
    worker.count()
    assert worker.budget.is_short
    leftover.size = 0
    worker.pass_time(LOOK)
    assert worker.budget.held == 50 * MIB


def test_a_look_is_not_taken_too_often() -> None:
    worker = Worker(Client(MIB))
    worker.count()
    worker.budget.look(worker.now)
    asked = worker.clients[0].asked
    worker.budget.look(worker.now + LOOK / 2)
    assert worker.clients[0].asked == asked
    worker.budget.look(worker.now + LOOK)
    assert worker.clients[0].asked == asked + 1


def test_small_clients_are_looked_at_where_all_of_them_could_hide_too_much() -> None:
    clients = [Client(ALLOWANCE) for _ in range(20)]
    worker = Worker(*clients, limit=19 * UNSEEN)
    worker.budget.look(worker.now)
    assert worker.budget.held == 20 * ALLOWANCE
    few = Worker(*clients[:4], limit=19 * UNSEEN)
    few.budget.look(few.now)
    assert few.budget.held == 0


def test_many_small_ones_cost_the_largest() -> None:
    large = Client(90 * MIB, awaits_client=False)
    small = [Client() for _ in range(1000)]
    worker = Worker(large, *small)
    worker.budget.count(large)
    for client in small:
        client.size = ALLOWANCE
        worker.budget.count(client)
        assert worker.budget.held <= LIMIT
    assert (large.is_shed, any(client.is_shed for client in small)) == (True, False)


def test_memory_is_returned_once_a_second_or_when_much_was_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trims: list[float] = []
    apart: list[int] = []
    client, other = Client(50 * MIB, awaits_client=False), Client(35 * MIB, awaits_client=False)
    worker = Worker(client, other)
    monkeypatch.setattr(memory_budget, "trim", lambda: trims.append(worker.now))
    monkeypatch.setattr(memory_budget, "keep_apart", apart.append)
    worker.count()
    assert apart == [APART]
    trims.clear()
    worker.pass_time(3.0)
    assert 2 <= len(trims) <= 4
    trims.clear()
    client.size -= 6 * MIB
    worker.pass_time(LOOK)
    assert len(trims) == 1
    client.size = other.size = 0
    worker.pass_time(LOOK)
    worker.budget.look(worker.now + 1)
    assert apart == [APART, TOGETHER]


def test_a_connection_that_is_over_holds_nothing() -> None:
    client = Client(90 * MIB)
    worker = Worker(client)
    worker.count()
    assert not client.is_read
    worker.budget.forget(client)
    assert worker.budget.held == 0
    assert not worker.budget.stopped
    assert client.held == 0


def test_a_connection_that_is_over_is_let_go_of_while_memory_is_short() -> None:
    client = Client(5 * MIB)
    worker = Worker(Client(85 * MIB, awaits_client=False), client)
    worker.count()
    worker.pass_time(LOOK)
    assert worker.budget.is_short
    assert not client.is_shed
    worker.budget.forget(client)
    worker.clients.remove(client)
    reference = weakref.ref(client)
    del client
    gc.collect()
    assert reference() is None


def test_from_80_percent_on_nothing_large_is_read_until_there_is_room() -> None:
    first, second = Client(79 * MIB, awaits_client=False), Client(2 * MIB, awaits_client=False)
    worker = Worker(first, second)
    worker.count()
    assert (first.is_read, second.is_read) == (True, False)
    worker.pass_time(3)
    assert not second.is_read
    first.size = 75 * MIB  # less than 80 %, and not yet as usual
    worker.pass_time(1)
    assert not second.is_read
    first.size = 60 * MIB
    worker.pass_time(1)
    assert second.is_read
    assert worker.loop.callback is None, "no timer is left"
    assert not first.is_shed
    assert not second.is_shed


def test_the_largest_that_makes_no_progress_goes_first() -> None:
    largest, second, third = Client(40 * MIB), Client(30 * MIB), Client(20 * MIB)
    worker = Worker(largest, second, third)
    worker.count()
    worker.pass_time(GRACE + 3 * LOOK)
    assert [client.is_shed for client in worker.clients] == [True, False, False]
    assert worker.budget.held == 50 * MIB
    assert worker.loop.callback is None
    assert third.is_read


def test_nothing_is_dropped_before_it_had_time_to_move() -> None:
    worker = Worker(Client(90 * MIB))
    worker.count()
    worker.pass_time(GRACE - 2 * LOOK)
    assert not worker.clients[0].is_shed


def test_who_makes_progress_or_waits_for_the_app_stays() -> None:
    moving, with_app, stuck = Client(40 * MIB, moved=1), Client(35 * MIB), Client(10 * MIB, moved=1)
    with_app.awaits_client = False
    worker = Worker(moving, with_app, stuck)
    worker.count()

    def move() -> None:
        moving.moved += MIB // 10 * 8  # 8 MiB a second
        stuck.moved += 1000  # 10 kB a second, far from enough to get through with 10 MiB

    worker.pass_time(GRACE + 3 * LOOK, move)
    assert [client.is_shed for client in worker.clients] == [False, False, True]


def test_a_small_one_needs_the_usual_rate_at_least() -> None:
    slow = Client(1000, moved=1)
    large = Client(90 * MIB, awaits_client=False)
    worker = Worker(large, slow)
    worker.count()

    def move() -> None:
        slow.moved += int(RATE * LOOK) - 4

    worker.pass_time(GRACE + 3 * LOOK, move)
    assert slow.is_shed
    assert not large.is_shed


def test_without_the_kernels_count_a_change_of_size_is_progress() -> None:
    changing, still = Client(50 * MIB), Client(40 * MIB)
    worker = Worker(changing, still)
    worker.count()

    def move() -> None:
        changing.size += MIB // 5

    worker.pass_time(GRACE + 3 * LOOK, move)
    assert (changing.is_shed, still.is_shed) == (False, True)


def test_beyond_the_budget_what_grows_is_refused_at_once() -> None:
    first, second = Client(70 * MIB, awaits_client=False), Client(40 * MIB)
    worker = Worker(first, second)
    worker.count()
    assert (first.is_shed, second.is_shed) == (False, True)
    assert worker.budget.held == 70 * MIB


def test_what_an_app_has_made_for_its_client_costs_the_largest() -> None:
    """The client that it happens to is not to blame, and what is unsent is there already."""
    first, second = Client(70 * MIB, awaits_client=False), Client(40 * MIB)
    worker = Worker(first, second)
    worker.budget.count(first)
    worker.budget.count_unsent(second)
    assert (first.is_shed, second.is_shed) == (True, False)


def test_a_small_one_is_read_and_served_while_memory_is_short() -> None:
    large, small = Client(90 * MIB, awaits_client=False), Client(ALLOWANCE, moved=1)
    worker = Worker(large, small)
    worker.budget.count(large)
    worker.pass_time(2 * LOOK)
    assert small.held == ALLOWANCE, "now everything counts"
    worker.budget.count(small)
    assert small.is_read
    large.size = 110 * MIB
    worker.budget.count(small)
    assert not small.is_shed


def test_where_a_part_was_given_up_the_rest_still_counts() -> None:
    client = Client(110 * MIB)
    client.left_over = 30 * MIB
    worker = Worker(client)
    worker.count()
    assert client.is_shed
    assert worker.budget.held == 30 * MIB


def test_before_anything_is_refused_those_that_shrank_are_asked() -> None:
    first, second = Client(70 * MIB), Client()
    worker = Worker(first, second)
    worker.count()
    worker.now += 2 * LOOK
    first.size, second.size = 0, 40 * MIB
    worker.budget.count(second)
    assert not second.is_shed
    assert second.is_read
    assert worker.budget.held == 40 * MIB
    assert not worker.budget.is_short


def test_memory_that_is_short_is_told_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(90 * MIB, awaits_client=False)
    worker = Worker(client)
    for _ in range(3):
        client.size = 90 * MIB
        worker.count()
        client.size = 0
        worker.pass_time(1)
    assert len(caplog.records) == 1
    assert "90 MiB of 100 MiB" in caplog.records[0].getMessage()


def test_headers_count_with_their_objects() -> None:
    assert size_of([]) == 0
    assert size_of([(b"ab", b"c"), (b"d", b"")]) == 4 + 2 * 128
