"""Clients on bad lines, against a server that the test plays."""

from collections.abc import Iterator

import pytest

from clusterd.bench.load import Load
from clusterd.bench.slow import PIECES, SlowConnection, count
from tests.unit.bench.stage import Stage, plan

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def client(stage: Stage) -> SlowConnection:
    """One that is connected, and about to begin."""
    client = SlowConnection(stage, stage.dialer, plan("http://h/a-path-of-some-length", slow_for=1))
    client.dial()
    stage.turn()
    return client


def test_a_request_comes_in_pieces_over_its_time(stage: Stage, client: SlowConnection) -> None:
    assert not client.asked
    stage.due()
    pieces, waits = [stage.heard()], []
    while stage.times:
        waits.append(stage.due())
        pieces.append(stage.heard())
    assert len(pieces) == PIECES
    assert sum(waits) == pytest.approx(1e9, rel=0.05)
    assert b"".join(pieces) == b"GET /a-path-of-some-length HTTP/1.1\r\nHost: h\r\n\r\n"
    assert client.asked  # only now is it the server's turn


def ask(stage: Stage) -> None:
    """Send a whole request."""
    while stage.times:
        stage.due()
    stage.heard()


def test_answers_count_without_a_latency_and_the_next_request_follows(
    stage: Stage, client: SlowConnection
) -> None:
    for number in (1, 2, 3):
        ask(stage)
        stage.says(ANSWER)
        assert (stage.tally.requests, stage.tally.sent) == (number, number)
        assert client.asked == 0
    assert not stage.tally.latency
    assert not stage.tally.errors
    assert not stage.free  # nobody else may ask it
    assert len(stage.peers) == 1


def test_a_server_that_will_not_wait_is_counted_by_its_status(
    stage: Stage, client: SlowConnection
) -> None:
    stage.due()
    stage.due()
    stage.says(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert stage.tally.errors == {"status 408": 1}
    assert len(stage.peers) == 2  # the rest of the request has no place on the old one
    ask(stage)
    stage.says(ANSWER)
    assert (stage.tally.requests, stage.tally.sent) == (2, 2)
    assert stage.tally.errors == {"status 408": 1}


def test_a_server_that_hangs_up_meanwhile_is_an_error(stage: Stage, client: SlowConnection) -> None:
    stage.due()
    stage.heard()
    stage.hangs_up()
    assert stage.tally.errors == {"closed": 1}
    ask(stage)
    stage.says(ANSWER)
    assert stage.tally.requests == 1


def test_a_new_connection_is_not_hurried_by_what_was_planned_for_the_old_one(
    stage: Stage, client: SlowConnection
) -> None:
    stage.due()
    stage.heard()
    stage.hangs_up()
    rounds = 0
    while stage.times:
        stage.due()
        rounds += 1
    assert rounds == PIECES


def test_nothing_is_sent_while_there_is_no_connection(stage: Stage, client: SlowConnection) -> None:
    stage.due()
    stage.hangs_up()
    stage.hangs_up()  # now it waits before it connects again
    stage.due()
    assert stage.tally.sent == 1


def test_the_share_is_one_of_the_connections() -> None:
    assert count(Load(connections=100, slow=0.03)) == 3
    assert count(Load(connections=64, slow=0.03)) == 2
    assert count(Load(connections=64)) == 0
