"""TLS over a transport that remembers: handshakes, bytes at any split, ends, and floods."""

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.worker.deadlines import NEVER
from clusterd.worker.tls import PIECE, RECORD, UNREAD
from tests.unit.worker.fakes import Held, echo, get, run, statuses
from tests.unit.worker.fakes_tls import Wire


def test_a_request_is_answered_at_any_split(tmp_path: Path) -> None:
    async def test() -> None:
        for step in (1, 2, 7, 100, 0):
            wire = Wire(tmp_path, echo)
            wire.shake(step)
            answer = await wire.talk(get("/x") + get("/y"), step)
            assert statuses(answer) == [200, 200]
            assert answer.count(b"GET /x ") == 1
            assert wire.server.open == 1

    run(test)


def test_a_request_in_the_packet_that_ends_the_handshake_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        wire.shake(data=get())
        await wire.bench.settle()
        wire.client.hears(wire.taken())
        assert statuses(wire.client.got) == [200]

    run(test)


def test_the_connection_counts_once_and_has_the_deadlines_of_its_phase(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        server = wire.server
        assert (server.open, server.accepted) == (1, 2)  # the bench's own was accepted, too
        assert wire.handshake.due == wire.bench.now + 10.0
        connection = wire.shake()
        assert (server.open, server.accepted) == (1, 2)
        assert server.connections == {connection}
        assert connection.due == wire.bench.now + server.http.header_timeout
        await wire.talk(get())
        assert connection.due == wire.bench.now + server.http.keep_alive
        assert connection.idle
        with socket.socket() as sock:  # one that could be passed on
            wire.transport._extra["socket"] = sock  # type: ignore[attr-defined]
            assert connection.release() is None
        wire.transport.protocol.connection_lost(None)
        assert (server.open, server.connections) == (0, set())

    run(test)


def test_a_handshake_that_is_late_is_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        wire.feed(wire.client.shakes()[:20])
        wire.bench.pass_time(8)
        assert not wire.transport.aborted
        wire.bench.pass_time(4)
        assert wire.transport.aborted

    run(test)


def test_at_the_cap_a_handshake_makes_room(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        connection = wire.shake()
        await wire.talk(get())
        first, second = wire.accept(), wire.accept()
        wire.bench.now += 1
        assert wire.server.shed()
        assert first[0].aborted or second[0].aborted
        assert not connection.is_closing

    run(test)


def test_who_is_sent_away_before_a_handshake_gets_an_alert(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        ours, theirs = socket.socketpair()
        wire.server.refuse(ours, secure=True)
        with theirs:
            wire.client.shakes()
            with pytest.raises(ssl.SSLError, match="INTERNAL_ERROR"):
                wire.client.shakes(theirs.recv(100))
            assert theirs.recv(1) == b""

    run(test)


def test_what_is_not_tls_is_answered_in_plain_text_or_not_at_all(tmp_path: Path) -> None:
    async def test() -> None:
        for sent, status in ((get(), [400]), (b"\0", []), (b"\x80\x2e\1", [])):
            wire = Wire(tmp_path)
            wire.feed(sent)
            wire.feed(b"more")
            assert statuses(wire.taken()) == status
            assert wire.transport.ended
            wire.bench.pass_time(4)
            assert wire.transport.aborted

    run(test)


def test_who_breaks_the_handshake_gets_an_alert(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        wire.feed(b"\x16\x03\x01\x00\x04nope")
        assert wire.taken()[:1] == b"\x15"  # an alert (RFC 8446, 5.1)
        assert wire.transport.ended
        assert wire.server.open == 1  # until the client has read it

    run(test)


def test_who_breaks_the_connection_loses_it(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        wire.shake()
        wire.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert wire.taken()[:1] == b"\x17"  # an alert, encrypted
        assert wire.transport.closed

    run(test)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7])
def test_large_pieces_arrive_whole(tmp_path: Path, size: int) -> None:
    async def test() -> None:
        wire = Wire(tmp_path, echo)
        wire.shake()
        body = bytes(range(256)) * (size // 256 + 1)
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert (await wire.talk(head + body)).endswith(body)

    run(test)


def test_reading_pauses_and_nothing_is_lost_or_overtaken(tmp_path: Path) -> None:
    async def test() -> None:
        app = Held()
        wire = Wire(tmp_path, app)
        wire.shake()
        body = b"".join(b"%07d\n" % number for number in range(40_000))
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        wire.feed(wire.client.says(head + body), 300_000)
        assert wire.transport.paused
        secured = wire.transport.protocol
        assert secured._incoming.pending <= PIECE  # OpenSSL's buffers never shrink
        app.go.set()
        await wire.bench.settle()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not wire.transport.paused
        assert (await wire.talk(b"\r\n")).endswith(body)

    run(test)


def test_what_openssl_s_buffers_have_grown_to_is_counted(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path, echo)
        wire.shake()
        (connection,) = wire.server.connections
        small = connection.measure()
        connection.shed()
        assert not wire.transport.closed, "it holds no more than any other"
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (5 * PIECE)
        await wire.talk(head + bytes(5 * PIECE))
        grown = connection.measure()
        assert PIECE * 2 * 4 // 3 <= grown - small < PIECE * 3, "in and out"
        wire.feed(wire.client.says(get())[:-1], 1000)
        assert connection.measure() - grown == RECORD, "a torn record"
        wire.server.memory.count(connection)
        connection.shed()
        wire.client.hears(wire.taken())
        assert (wire.client.got, wire.client.ended) == (b"", True), "it awaits no response"

    run(test)


def test_what_came_and_waits_for_the_app_counts_at_once_and_goes_with_the_goodbye(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        wire = Wire(tmp_path, Held())
        wire.shake()
        (connection,) = wire.server.connections
        wire.feed(wire.client.says(get() * 4000))
        assert wire.server.memory.held > 6 * PIECE, "nobody looked"
        connection.shed()
        assert connection.measure() < PIECE
        assert not hasattr(wire.transport.protocol, "_tls"), "OpenSSL's buffers are large"

    run(test)


def test_a_slow_reader_pauses_the_app(tmp_path: Path) -> None:
    sent, pieces = 0, 50

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(pieces):
            more = number < pieces - 1
            await send({"type": "http.response.body", "body": bytes(20_000), "more_body": more})
            sent += 1

    async def test() -> None:
        wire = Wire(tmp_path, app)
        wire.shake()
        wire.transport.stuck = True
        wire.feed(wire.client.says(get()))
        await wire.bench.settle()
        waits_at = sent
        assert 0 < waits_at < 10  # 64 KiB fit
        await wire.bench.settle()
        assert sent == waits_at
        wire.transport.drained()
        await wire.bench.settle()
        assert sent == pieces

    run(test)


def test_goodbye_is_said_before_the_end_and_only_once(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        wire.shake()
        answer = await wire.talk(get("/", "Connection: close"))
        assert statuses(answer) == [200]
        assert wire.client.ended
        assert wire.transport.closed
        secured = wire.transport.protocol
        secured.close()
        secured.write(b"too late")
        assert wire.taken() == b""

    run(test)


def test_a_refused_client_may_go_on_sending(tmp_path: Path) -> None:
    """Goodbye, then the end of our direction; what comes is thrown away, up to a limit."""

    async def test() -> None:
        wire = Wire(tmp_path, limit_body=10)
        wire.shake()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nxxx"
        assert statuses(await wire.talk(head)) == [413]
        assert wire.client.ended
        assert wire.transport.ended
        assert not wire.transport.closed
        wire.feed(b"anything" * 1000)
        assert not wire.transport.closed
        wire.feed(bytes(1024 * 1024))
        assert wire.transport.aborted

    run(test)


def test_a_refused_client_that_leaves_is_not_waited_for(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path, limit_body=10)
        wire.shake()
        await wire.talk(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\nxxx")
        assert wire.transport.protocol.eof_received() is False

    run(test)


def test_a_client_that_says_goodbye_is_said_goodbye(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        wire.shake()
        await wire.talk(get())
        wire.client.hears(b"")
        with pytest.raises(ssl.SSLWantReadError):
            wire.client.tls.unwrap()
        wire.feed(wire.client.says())
        wire.client.hears(wire.taken())
        assert wire.client.ended
        assert wire.transport.closed

    run(test)


def test_an_end_without_goodbye_is_an_end(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        wire.shake()
        await wire.talk(get())
        assert not wire.transport.protocol.eof_received()
        assert wire.transport.closed

    run(test)


def test_a_flood_of_what_tls_answers_by_itself_ends_the_connection(tmp_path: Path) -> None:
    """A change of keys (RFC 8446, 4.6.3) costs a client little, and wants an answer."""

    async def test() -> None:
        wire = Wire(tmp_path)
        wire.shake()
        wire.taken()
        secured = wire.transport.protocol
        wire.transport.unsent = UNREAD + 1  # a large answer, say, which it reads slowly
        secured._outgoing.write(b"an answer to a change of keys")
        secured.pump()
        assert wire.taken() == b""
        secured.resume_writing()
        assert wire.taken() == b"an answer to a change of keys"
        secured._outgoing.write(bytes(UNREAD + 1))
        secured.pump()
        assert wire.transport.aborted

    run(test)


def test_nothing_is_left_of_a_lost_connection(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path, Held())
        connection = wire.shake()
        wire.feed(wire.client.says(get()))
        assert connection.exchange is not None
        wire.transport.protocol.connection_lost(ConnectionResetError())
        assert connection.exchange is None
        assert wire.transport.protocol.get_protocol() is not connection
        assert wire.server.open == 0

    run(test)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@given(
    place=st.integers(0, 3000),
    bits=st.integers(1, 255),
    step=st.integers(40, 2000),
    later=st.booleans(),
)
def test_spoilt_bytes_end_the_connection_or_mean_nothing(
    loaded: Path, place: int, bits: int, step: int, later: bool
) -> None:
    """Whatever of the handshake or of a request is changed on its way, nothing else happens."""

    async def test() -> None:
        wire = Wire(loaded)

        def send(data: bytes, spoil: bool) -> None:
            spoilt = bytearray(data)
            if spoil and data:
                spoilt[place % len(data)] ^= bits
            wire.feed(bytes(spoilt), step)

        def broken() -> bool:
            return wire.transport.closed or wire.transport.ended

        send(wire.client.shakes(), not later)
        if not broken():
            try:
                last = wire.client.shakes(wire.taken())
            except ssl.SSLError:
                return  # the client noticed
            if last:
                send(last + wire.client.says(get()), later)
                await wire.bench.settle()
        answered = sum(wire.server.answers)
        (link,) = wire.server.connections
        assert broken() or answered == 1 or link.due < NEVER  # it waits for the rest
        assert answered <= 1

    run(test)


def test_a_drain_lets_a_handshake_become_its_last_request(tmp_path: Path) -> None:
    async def test() -> None:
        wire = Wire(tmp_path)
        wire.feed(first := wire.client.shakes())
        assert first
        wire.server.drain_begins(last=False, leave_by=wire.bench.now + 20)
        assert wire.handshake.idle
        assert wire.handshake.release() is None
        wire.feed(wire.client.shakes(wire.taken()))
        answer = await wire.talk(get())
        assert statuses(answer) == [200]
        assert b"connection: close" in answer
        assert wire.client.ended

    run(test)
