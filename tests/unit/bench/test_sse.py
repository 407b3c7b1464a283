"""Clients that listen to events, against a server that the test plays."""

from collections.abc import Iterator

import pytest

from clusterd.bench.load import SSE
from clusterd.bench.sse import SseConnection
from tests.unit.bench.stage import Stage, plan

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ONE = b"9\r\ndata: a\n\n\r\n"  # an event in a chunk
END = b"0\r\n\r\n"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def client(stage: Stage) -> SseConnection:
    """One that has asked for a stream."""
    client = SseConnection(stage, stage.dialer, plan("http://h/events", SSE))
    client.dial()
    stage.turn()
    assert stage.free == [client]
    stage.free.clear()
    client.ask(due=1, now=2)
    assert stage.heard().startswith(b"GET /events HTTP/1.1\r\n")
    return client


def test_a_stream_is_answered_with_its_first_event(stage: Stage, client: SseConnection) -> None:
    stage.says(CHUNKED + b"6\r\n: hi\n\n\r\n")
    assert (stage.tally.requests, client.under_way) == (0, 1)
    stage.says(ONE[:5])
    assert stage.tally.requests == 0
    stage.says(ONE[5:])
    assert (stage.tally.requests, stage.tally.sse_events) == (1, 1)
    assert (client.under_way, client.asked) == (0, 0)  # no time limit from here on


def test_all_its_events_are_counted_and_its_bytes(stage: Stage, client: SseConnection) -> None:
    stage.says(CHUNKED + ONE * 2)
    stage.says(ONE * 3)
    stage.says(ONE)
    assert (stage.tally.requests, stage.tally.sse_events) == (1, 6)
    assert stage.tally.bytes == len(CHUNKED + ONE * 6)
    assert sum(stage.tally.latency.values()) == 1
    assert not stage.free  # held


def test_the_next_stream_follows_the_end_of_one(stage: Stage, client: SseConnection) -> None:
    for number in (1, 2):
        stage.says(CHUNKED + ONE * 2 + END)
        assert (stage.tally.requests, stage.tally.sse_events) == (number, 2 * number)
        assert stage.free == [client] * number
        client.ask(1, 2)
    assert not stage.tally.errors
    assert len(stage.peers) == 1


def test_a_stream_that_ends_with_its_connection(stage: Stage, client: SseConnection) -> None:
    stage.says(HEAD + b"\r\ndata: a\n\ndata: b\n\n")
    stage.hangs_up()
    assert (stage.tally.requests, stage.tally.sse_events) == (1, 2)
    assert not stage.tally.errors
    assert len(stage.peers) == 2


def test_a_connection_that_is_said_to_close_is_made_anew(
    stage: Stage, client: SseConnection
) -> None:
    stage.says(HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + ONE + END)
    assert len(stage.peers) == 2
    assert stage.free == [client]
    assert not stage.tally.errors


def test_a_stream_that_breaks_off_is_an_error(stage: Stage, client: SseConnection) -> None:
    stage.says(CHUNKED + ONE)
    stage.hangs_up()
    assert stage.tally.errors == {"closed": 1}
    assert (stage.tally.requests, len(stage.peers)) == (1, 2)


def test_half_an_event_is_no_part_of_the_next_stream(stage: Stage, client: SseConnection) -> None:
    stage.says(CHUNKED + ONE[:8])
    stage.hangs_up()
    client.ask(1, 2)
    stage.says(CHUNKED + b"6\r\n: hi\n\n\r\n")
    assert (stage.tally.requests, stage.tally.sse_events) == (0, 0)


def test_no_answer_at_all_is_an_error(stage: Stage, client: SseConnection) -> None:
    stage.hangs_up()
    assert stage.tally.errors == {"closed": 1}
    assert "Does it speak TLS?" in stage.tally.texts["closed"]  # nobody was answered so far
    assert stage.tally.requests == 0


def test_an_error_of_the_application_is_an_answer(stage: Stage, client: SseConnection) -> None:
    stage.says(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno")
    assert stage.tally.errors == {"status 503": 1}
    assert (stage.tally.requests, stage.tally.sse_events) == (1, 0)
    assert stage.free == [client]


def test_what_is_no_stream_of_events_is_an_error(stage: Stage, client: SseConnection) -> None:
    stage.says(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\ndata: a\n\n"
    )
    assert stage.tally.errors == {"protocol": 1}
    assert "text/html" in stage.tally.texts["protocol"]
    assert (stage.tally.requests, stage.tally.sse_events) == (0, 0)


def test_a_stream_without_events_is_an_error(stage: Stage, client: SseConnection) -> None:
    stage.says(CHUNKED + END)
    assert stage.tally.errors == {"closed": 1}
    assert "before its first event" in stage.tally.texts["closed"]


def test_what_is_no_answer_is_an_error(stage: Stage, client: SseConnection) -> None:
    stage.says(b"SSH-2.0-OpenSSH\r\n\r\n")
    assert stage.tally.errors == {"protocol": 1}
    assert "SSH server" in stage.tally.texts["protocol"]


def test_an_answer_before_the_question_is_an_error(stage: Stage) -> None:
    client = SseConnection(stage, stage.dialer, plan("http://h/events", SSE))
    client.dial()
    stage.turn()
    stage.says(CHUNKED + ONE)
    assert stage.tally.errors == {"protocol": 1}
    assert stage.tally.requests == 0
