"""What HTTP clients count, whatever a server does to them; the test plays the server."""

from collections.abc import Iterator

import pytest

from clusterd.bench.http import FreshConnection, HttpConnection, PipelinedConnection
from clusterd.bench.load import Load, Request
from clusterd.bench.plan import Plan, made
from clusterd.bench.target import parse_target
from tests.unit.bench.stage import Stage, plan

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def asked(stage: Stage, plan: Plan) -> HttpConnection:
    """A client with a request under way."""
    client = HttpConnection(stage, stage.dialer, plan)
    client.dial()
    stage.turn()
    ask(stage, client)
    return client


def ask(stage: Stage, client: HttpConnection) -> bytes:
    """The next request, of one that is free: what the server hears of it."""
    assert stage.free.pop() is client
    assert not client.under_way
    client.ask(due=1, now=2)
    stage.turn()
    return stage.heard() if client.stands else b""


def counts(stage: Stage) -> tuple[int, dict[str, int]]:
    """Answers, and errors. A latency for each answer and for nothing else."""
    assert sum(stage.tally.latency.values()) == stage.tally.requests
    return stage.tally.requests, stage.tally.errors


def test_an_answer_frees_the_connection_for_the_next_request(stage: Stage) -> None:
    client = asked(stage, plan())
    for number in range(1, 4):  # the first is read, those after it are known
        stage.says(OK)
        assert counts(stage) == (number, {})
        assert stage.tally.bytes == number * len(OK)
        assert ask(stage, client) == b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    assert len(stage.peers) == 1
    assert stage.tally.sent == 4


def test_an_answer_in_pieces_counts_once(stage: Stage) -> None:
    client = asked(stage, plan())
    stage.says(OK)
    ask(stage, client)
    for at in range(len(OK)):
        assert counts(stage) == (1, {})
        stage.says(OK[at : at + 1])
    assert counts(stage) == (2, {})


def test_a_known_answer_behind_a_part_of_another_is_no_answer(stage: Stage) -> None:
    client = asked(stage, plan())
    stage.says(OK)
    ask(stage, client)
    stage.says(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    stage.says(OK)
    assert counts(stage) == (1, {})
    assert client.under_way == 1


def test_a_status_from_400_is_an_answer_and_an_error(stage: Stage) -> None:
    client = asked(stage, plan())
    for number in range(1, 3):
        stage.says(BUSY)
        assert counts(stage) == (number, {"status 503": number})
        ask(stage, client)


def test_the_same_bytes_mean_another_end_to_a_head(stage: Stage) -> None:
    """To a HEAD this is a whole answer, and to a GET the beginning of one."""
    target = parse_target("http://h/")
    requests = (Request(method="HEAD"), Request(method="GET"))
    both = made(target, Load(requests=requests), seed=1)
    head, get = both.asks
    drawn = iter((head, get, head, get))
    both.draw = lambda: next(drawn)
    client = asked(stage, both)

    stage.says(OK[:-5])
    assert counts(stage) == (1, {})
    ask(stage, client)
    stage.says(OK[:-5])
    assert counts(stage) == (1, {})
    stage.says(b"hello")
    assert counts(stage) == (2, {})
    ask(stage, client)
    stage.says(OK[:-5])
    assert counts(stage) == (3, {})


def test_a_close_that_was_announced_is_followed_by_another_connection(stage: Stage) -> None:
    client = asked(stage, plan())
    for number in range(1, 4):
        stage.says(LAST)
        assert len(stage.peers) == number + 1  # at once, and without waiting for the server's
        ask(stage, client)
        assert counts(stage) == (number, {})


def test_a_close_between_requests_is_no_error(stage: Stage) -> None:
    client = asked(stage, plan())
    stage.says(OK)
    assert stage.free == [client]
    stage.free.clear()

    stage.hangs_up()

    assert counts(stage) == (1, {})
    assert stage.free == [client]  # once it stands again
    assert ask(stage, client)
    stage.says(OK)
    assert counts(stage) == (2, {})


def test_a_close_that_crosses_a_request_is_what_became_of_it(stage: Stage) -> None:
    client = asked(stage, plan())
    stage.says(OK)
    stage.free.remove(client)
    stage.peer.close()
    client.ask(due=1, now=2)  # before it could see the end
    stage.turn()
    assert counts(stage) == (1, {"closed": 1})


@pytest.mark.parametrize("part", [b"", OK[:10], OK[:-1]])
def test_an_end_instead_of_an_answer_or_in_it_is_an_error(stage: Stage, part: bytes) -> None:
    client = asked(stage, plan())
    stage.says(part)
    stage.hangs_up()
    assert counts(stage) == (0, {"closed": 1})
    assert "ended the connection" in stage.tally.texts["closed"]
    assert not client.under_way


def test_a_reset_is_one_of_its_own(stage: Stage) -> None:
    client = HttpConnection(stage, stage.dialer, plan())
    client.dial()
    stage.turn()
    stage.free.clear()
    client.ask(due=1, now=2)  # and is not read
    stage.hangs_up()
    assert counts(stage) == (0, {"reset": 1})


def test_a_body_that_ends_with_the_connection_is_whole_by_its_end(stage: Stage) -> None:
    client = asked(stage, plan())
    stage.says(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert counts(stage) == (0, {})
    stage.hangs_up()
    assert counts(stage) == (1, {})
    assert len(stage.peers) == 2
    assert ask(stage, client)


@pytest.mark.parametrize(
    ("sent", "text"),
    [(b"\x15\x03\x03\x00\x02\x02\x46", "TLS"), (b"SSH-2.0-x\r\n", "SSH"), (b"\0" * 9, "no status")],
)
def test_what_is_no_answer_is_told_as_what_it_is(stage: Stage, sent: bytes, text: str) -> None:
    asked(stage, plan())
    stage.says(sent)
    assert counts(stage) == (0, {"protocol": 1})
    assert text in stage.tally.texts["protocol"]
    assert len(stage.peers) == 2


def test_more_than_was_asked_for_is_one_error_and_no_answer(stage: Stage) -> None:
    """As to a HEAD with a body: a request has one outcome."""
    asked(stage, plan())
    stage.says(OK + OK)
    assert counts(stage) == (0, {"protocol": 1})
    assert len(stage.peers) == 2


def test_an_answer_that_nobody_asked_for_is_an_error(stage: Stage) -> None:
    client = asked(stage, plan())
    stage.says(OK)
    stage.says(OK)
    assert counts(stage) == (1, {"protocol": 1})
    stage.free.clear()
    assert client.stands


def test_a_server_may_say_why_it_ends_an_idle_connection(stage: Stage) -> None:
    asked(stage, plan())
    stage.says(OK)
    stage.says(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
    assert counts(stage) == (1, {})
    assert len(stage.peers) == 2


def test_answers_that_are_never_the_same_do_not_pile_up(stage: Stage) -> None:
    one = plan()
    client = asked(stage, one)
    for number in range(1200):
        stage.says(OK[:-5] + b"%05d" % number)
        ask(stage, client)
    assert counts(stage) == (1200, {})
    assert len(one.asks[0].known) <= 512


def upload(size: int) -> Plan:
    target = parse_target("http://h/")
    load = Load(requests=(Request(method="POST", body=b"x" * size),))
    return made(target, load, seed=1)


def test_a_large_request_is_sent_as_there_is_room(stage: Stage) -> None:
    size = 3_000_000
    client = HttpConnection(stage, stage.dialer, upload(size))
    client.dial()
    stage.turn()
    client.ask(due=1, now=2)
    assert client.unsent
    got = b""
    while not got.endswith(b"x" * 100) or len(got) < size:
        got += stage.heard()
        stage.turn()
    assert not client.unsent
    assert got.partition(b"\r\n\r\n")[2] == b"x" * size
    stage.says(OK)
    assert counts(stage) == (1, {})


def test_an_answer_before_the_whole_request_counts_and_ends_the_connection(stage: Stage) -> None:
    client = HttpConnection(stage, stage.dialer, upload(3_000_000))
    client.dial()
    stage.turn()
    client.ask(due=1, now=2)
    stage.peer.sendall(BUSY.replace(b"503", b"413"))
    stage.peer.close()  # with a part of the request unread: a reset follows the answer
    stage.turn()
    assert counts(stage) == (1, {"status 413": 1})
    assert len(stage.peers) == 2


def test_nothing_follows_a_request_that_was_answered_before_it_was_sent(stage: Stage) -> None:
    """The server may go on reading, and would take the next request for the rest of this one."""
    client = HttpConnection(stage, stage.dialer, upload(3_000_000))
    client.dial()
    stage.turn()
    client.ask(due=1, now=2)
    stage.says(BUSY)
    assert counts(stage) == (1, {"status 503": 1})
    assert len(stage.peers) == 2
    assert not client.unsent


# -- a connection for each request


def fresh(stage: Stage) -> FreshConnection:
    client = FreshConnection(stage, stage.dialer, plan(fresh=True))
    client.dial()
    assert not stage.peers
    assert stage.free.pop() is client
    client.ask(due=1, now=2)
    stage.turn()
    return client


@pytest.mark.parametrize("answer", [LAST, OK])  # the latter by a server that does not listen
def test_a_fresh_connection_for_each_request(stage: Stage, answer: bytes) -> None:
    client = fresh(stage)
    for number in range(1, 4):
        assert b"Connection: close" in stage.heard()
        stage.says(answer)
        assert counts(stage) == (number, {})
        assert stage.standing == 0
        assert stage.free.pop() is client
        client.ask(due=1, now=2)
        stage.turn()
        assert len(stage.peers) == number + 1
    assert stage.tally.sent == 4


def test_a_fresh_connection_that_ends_early_is_one_error(stage: Stage) -> None:
    client = fresh(stage)
    stage.hangs_up()
    assert counts(stage) == (0, {"reset": 1})
    assert stage.free == [client]


# -- several at once


def pipelined(stage: Stage, depth: int = 4) -> PipelinedConnection:
    client = PipelinedConnection(stage, stage.dialer, plan(pipeline=depth))
    client.dial()
    stage.turn()
    assert stage.free.pop() is client
    client.ask(due=1, now=1)
    return client


def test_so_many_are_under_way_and_answered_in_turn(stage: Stage) -> None:
    client = pipelined(stage)
    assert stage.heard().count(b"GET / ") == 4
    stage.says(OK + OK + OK[:7])
    assert counts(stage) == (2, {})
    assert client.under_way == 2
    assert stage.free.pop() is client
    client.ask(due=1, now=1)
    assert stage.heard().count(b"GET / ") == 2
    stage.says(OK[7:] + OK + OK + OK)
    assert counts(stage) == (6, {})
    assert stage.tally.sent == 6
    assert client.under_way == 0


@pytest.mark.parametrize("answer", [LAST, b"HTTP/1.1 200 OK\r\n\r\nhello"])
def test_requests_behind_an_announced_close_were_never_asked(stage: Stage, answer: bytes) -> None:
    client = pipelined(stage)
    stage.heard()
    stage.says(OK + answer)
    stage.hangs_up()
    assert counts(stage) == (2, {})
    assert client.under_way == 0
    assert stage.free[-1] is client
    assert stage.tally.sent == 2


def test_requests_under_way_fail_with_their_connection(stage: Stage) -> None:
    client = pipelined(stage)
    stage.heard()
    stage.says(OK)
    stage.hangs_up()
    assert counts(stage) == (1, {"closed": 3})
    assert client.under_way == 0


def test_the_answers_of_a_pipeline_end_with_what_was_asked(stage: Stage) -> None:
    pipelined(stage, depth=2)
    stage.heard()
    stage.says(OK * 3)
    assert counts(stage) == (2, {"protocol": 1})


def test_one_whose_bytes_are_no_answer_fails_all(stage: Stage) -> None:
    pipelined(stage)
    stage.heard()
    stage.says(OK + b"what?")
    assert counts(stage) == (1, {"protocol": 3})
