"""HTTP/2's engine: what is a request, what costs a stream, what the connection; floods; splits."""

from collections.abc import Callable
from typing import Any

import pytest
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.core.errors import PeerError
from clusterd.wire.budget import Budget
from clusterd.wire.http2 import (
    CHATTER,
    FRAME,
    PING_DATA,
    RESETS,
    Broken,
    Engine,
)
from clusterd.wire.http2_head import Head
from clusterd.wire.http2_states import CONNECTION_WINDOW, DEFAULT_WINDOW, KEPT
from clusterd.wire.limits import Limits
from tests.support import http2 as frames
from tests.support.http2 import START, Reading, get, pieces, post

CALM = ErrorCodes.ENHANCE_YOUR_CALM


class Recorder:
    """An engine, and what it told."""

    def __init__(self, limits: Limits | None = None, streams: int = 100) -> None:
        self.engine = Engine(limits or Limits(), streams, self)
        self.events: list[Any] = []
        self.now = 0.0
        self.error: Broken | None = None
        self.sent = b""
        self.takes = True  # a body is taken at once

    def on_request(self, stream: int, head: Head) -> None:
        self.events.append((stream, head))

    def on_refused(self, stream: int, error: PeerError) -> None:
        self.events.append((stream, error.status))
        self.engine.reset(stream, 0)

    def on_body(self, stream: int, data: bytes, credit: int) -> None:
        last = self.events[-1]
        if last[:2] == (stream, "body"):
            self.events[-1] = (stream, "body", last[2] + data)
        else:
            self.events.append((stream, "body", data))
        if self.takes:
            self.engine.taken(stream, credit)

    def on_end(self, stream: int) -> None:
        self.events.append((stream, "end"))

    def on_gone(self, stream: int) -> None:
        self.events.append((stream, "gone"))

    def on_room(self, stream: int) -> None:
        self.events.append((stream, "room"))

    def on_pong(self) -> None:
        self.events.append("pong")

    def take(self, *pieces: bytes) -> "Recorder":
        for piece in pieces:
            if self.error is None:
                try:
                    self.engine.feed(piece, self.now)
                except Broken as error:
                    self.error = error
                self.sent += self.engine.output()
        return self

    def begin(self) -> "Recorder":
        self.take(START)
        self.events.clear()
        return self

    @property
    def answer(self) -> Reading:
        return Reading().take(self.sent)

    @property
    def goaway(self) -> int | None:
        """The code of the GOAWAY that broke the connection, which must be there if it is broken."""
        if self.error is None:
            assert not self.answer.goaways
            return None
        ((_, code),) = self.answer.goaways
        assert code == self.error.code
        return code

    def outcome(self) -> tuple[list[Any], str, bytes]:
        return self.events, str(self.error), self.sent


CORPUS = {
    "a request, and a body with padding and trailers": START
    + get(1, "/a%20b?c=d", ("x-y", "z"), ("cookie", "a=1"), ("cookie", "b=2"))
    + post(3, ("content-length", "7"))
    + frames.frame(frames.DATA, frames.PADDED, 3, b"\x04body....")
    + frames.data(3, b"abc")
    + frames.frame(frames.HEADERS, 5, 3, frames.block(("x-sum", "1"))),
    "a head in pieces": START
    + frames.frame(frames.HEADERS, frames.END_STREAM, 1, frames.asked()[:5])
    + frames.frame(frames.CONTINUATION, 0, 1, frames.asked()[5:9])
    + frames.frame(frames.CONTINUATION, frames.END_HEADERS, 1, frames.asked()[9:])
    + get(3),
    "chatter": START
    + frames.ping()
    + frames.settings((4, 1000), (99, 1))
    + frames.settings(flags=frames.ACK)
    + frames.window(0, 10)
    + frames.frame(frames.PRIORITY, 0, 1, b"\0\0\0\3\x10")
    + frames.frame(0x10, 0, 0, b"unknown")
    + post(1)
    + frames.window(1, 10)
    + frames.data(1)
    + frames.reset(1)
    + frames.data(1, b"late")
    + frames.goaway()
    + get(3),
    "requests that are none, among others": START
    + frames.frame(frames.HEADERS, 5, 1, b"")
    + get(3, "/", ("connection", "close"))
    + post(5, ("content-length", "3"))
    + frames.data(5, b"four")
    + post(7, ("content-length", "3"))
    + frames.data(7, b"2", end=True)
    + get(9, "/", ("content-length", "3"))
    + post(11)
    + frames.frame(frames.HEADERS, frames.END_HEADERS, 11, frames.block(("x-no-end", "1")))
    + get(13),
    "an error that costs the connection": START + get(1) + frames.data(0, b"x") + get(3),
    "no HTTP/2": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + frames.settings(),
    "no SETTINGS": frames.PREFACE + get(1),
    "windows are moved too far": START + post(1) + frames.window(1, 2**31 - 1) + get(3),
}


@pytest.mark.parametrize("name", CORPUS)
def test_any_split_gives_the_same_events_and_errors(name: str) -> None:
    """Into single bytes, pieces of each size, and at every two places."""
    stream = CORPUS[name]
    whole = Recorder().take(stream).outcome()
    assert whole[0] or whole[1] != "None"
    for size in range(1, len(stream)):
        assert Recorder().take(*pieces(stream, size)).outcome() == whole
    for cut in range(1, len(stream)):
        assert Recorder().take(stream[:cut], stream[cut:]).outcome() == whole


def test_what_is_told_of_requests() -> None:
    told = Recorder().take(CORPUS["a request, and a body with padding and trailers"])
    (_, head), (_, other), *rest = told.events[1:]
    assert head.asked == ("GET", "/a b", b"/a%20b", b"c=d")
    assert head.headers == [(b"host", b"a"), (b"x-y", b"z"), (b"cookie", b"a=1; b=2")]
    assert (head.length, head.expects) == (0, False)
    assert other.length == 7
    assert rest == [(3, "body", b"bodyabc"), (3, "end")]
    assert told.goaway is None


def test_a_malformed_request_costs_its_stream_and_nothing_else() -> None:
    """RFC 9113 §8.1.1: a stream error of type PROTOCOL_ERROR."""
    told = Recorder().take(CORPUS["requests that are none, among others"])
    assert told.goaway is None
    assert told.answer.resets == dict.fromkeys([1, 3, 5, 7, 9, 11], ErrorCodes.PROTOCOL_ERROR)
    assert [event[0] for event in told.events if event[1] == "gone"] == [5, 7, 11]
    assert told.events[-1][0] == 13


def test_a_body_beyond_the_limit_is_refused_though_nobody_said_how_long_it_is() -> None:
    told = Recorder(Limits(body=10)).begin().take(post(1), frames.data(1, b"x" * 6) * 2)
    assert told.events[-1] == (1, 413)


def test_the_client_s_goaway_ends_nothing_that_has_begun() -> None:
    """§6.8: it is about streams of ours, which there are none of. h2 would send no more."""
    told = Recorder().begin().take(post(1), frames.goaway(), frames.data(1, b"x", end=True))
    assert told.events[-1] == (1, "end")
    assert told.engine.parted
    told.engine.head(1, b"\x88", end=True)
    assert Reading().take(told.engine.output()).ended == {1}


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frames.frame(frames.DATA, 0, 0, b"x"), ErrorCodes.PROTOCOL_ERROR),  # §6.1
        (frames.frame(frames.HEADERS, 5, 0, frames.asked()), ErrorCodes.PROTOCOL_ERROR),  # §6.2
        (frames.frame(frames.HEADERS, 5, 2, frames.asked()), ErrorCodes.PROTOCOL_ERROR),  # §5.1.1
        (frames.data(1, b"x"), ErrorCodes.PROTOCOL_ERROR),  # §5.1: idle
        (frames.reset(1), ErrorCodes.PROTOCOL_ERROR),  # §6.4
        (frames.frame(frames.PING, 0, 0, b"short"), ErrorCodes.FRAME_SIZE_ERROR),  # §6.7
        (frames.frame(frames.PING, 0, 1, b"12345678"), ErrorCodes.PROTOCOL_ERROR),  # §6.7
        (frames.settings((2, 2)), ErrorCodes.PROTOCOL_ERROR),  # §6.5.2
        (frames.settings((4, 2**31)), ErrorCodes.FLOW_CONTROL_ERROR),  # §6.5.2
        (frames.settings((5, 100)), ErrorCodes.PROTOCOL_ERROR),  # §6.5.2
        (frames.window(0, 2**31 - 1), ErrorCodes.FLOW_CONTROL_ERROR),  # §6.9.1
        (frames.window(0, 0), ErrorCodes.PROTOCOL_ERROR),  # §6.9
        (frames.frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\2"), ErrorCodes.PROTOCOL_ERROR),  # §8.4
        (frames.frame(frames.CONTINUATION, 4, 1, b""), ErrorCodes.PROTOCOL_ERROR),  # §6.10
        (frames.frame(frames.HEADERS, 1, 1, b"") + frames.ping(), ErrorCodes.PROTOCOL_ERROR),
        (frames.frame(frames.HEADERS, 5, 1, b"\xff\xff\xff"), ErrorCodes.PROTOCOL_ERROR),  # §4.3
        (bytes.fromhex("004001") + b"\0\0\0\0\0\1", ErrorCodes.FRAME_SIZE_ERROR),  # §4.2
        (frames.frame(frames.DATA, frames.PADDED, 1, b"\x05"), ErrorCodes.PROTOCOL_ERROR),
    ],
)
def test_what_costs_the_connection(stream: bytes, code: int | None) -> None:
    """Each with the code that the RFC has for it, said in a GOAWAY."""
    told = Recorder().begin().take(stream)
    assert told.goaway == code


def test_a_frame_too_large_is_refused_by_its_head() -> None:
    """h2 would wait for up to 16 MiB of it."""
    told = Recorder().begin().take((FRAME + 1).to_bytes(3) + b"\0\0\0\0\0\1")
    assert told.goaway == ErrorCodes.FRAME_SIZE_ERROR


def test_frames_on_streams_that_are_over() -> None:
    """§5.1: after END_STREAM a stream error; after a reset, what was on its way is ignored."""
    told = Recorder().begin().take(get(1), frames.data(1, b"x"))
    assert told.answer.resets == {1: ErrorCodes.STREAM_CLOSED}
    assert told.events[-1] == (1, "gone")
    told = Recorder().begin().take(post(1), frames.reset(1), frames.data(1, b"x"), get(3))
    assert told.goaway is None
    assert told.events[-1][0] == 3


# --- floods


FLOODS: dict[str, tuple[Callable[[int], bytes], int]] = {
    "rapid reset (CVE-2023-44487)": (lambda n: get(n) + frames.reset(n), RESETS),
    "MadeYouReset (CVE-2025-8671): a window moved too far": (
        lambda n: post(n) + frames.window(n, 2**31 - 1),
        RESETS,
    ),
    "MadeYouReset: a body after its end": (lambda n: get(n) + frames.data(n, b"x"), RESETS),
    "MadeYouReset: requests that are none": (
        lambda n: frames.frame(frames.HEADERS, 5, n, frames.block((":path", "/"))),
        RESETS,
    ),
    "empty HEADERS": (lambda n: frames.frame(frames.HEADERS, 5, n, b""), RESETS),
    "PING": (lambda _: frames.ping(), CHATTER),
    "SETTINGS": (lambda n: frames.settings((3, n)), CHATTER),
    "PRIORITY": (lambda n: frames.frame(frames.PRIORITY, 0, n, b"\0\0\0\0\x10"), CHATTER),
    "WINDOW_UPDATE": (lambda _: frames.window(0, 1), CHATTER),
    "unknown frames": (lambda n: frames.frame(0xFE, 0, n, b""), CHATTER),
    "GOAWAY": (lambda _: frames.goaway(), CHATTER),
    "resets of nothing": (
        lambda n: get(1) + frames.reset(1) if n == 1 else frames.reset(1),
        CHATTER,
    ),
    "empty DATA": (lambda n: post(1) if n == 1 else frames.data(1), CHATTER),
    "DATA with nothing but padding": (
        lambda n: post(1) if n == 1 else frames.frame(frames.DATA, frames.PADDED, 1, b"\x02\0\0"),
        CHATTER,
    ),
    "DATA for what is over": (
        lambda n: post(1) + frames.reset(1) if n == 1 else frames.data(1, b"x"),
        CHATTER,
    ),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_the_connection_after_so_many(name: str) -> None:
    make, most = FLOODS[name]
    told = Recorder().begin()
    count = 0
    while told.error is None and count <= most + 10:
        told.take(make(2 * count + 1))
        count += 1
    assert told.goaway == CALM
    assert most - 10 < count <= most + 10


@pytest.mark.parametrize("name", FLOODS)
def test_the_same_slowly_is_let_be(name: str) -> None:
    """A browser cancels, a proxy pings, all day long."""
    make, most = FLOODS[name]
    told = Recorder().begin()
    for count in range(most + 10):
        told.now += 0.05
        told.take(make(2 * count + 1))
    assert told.goaway is None


def test_what_we_send_lets_the_client_move_its_windows() -> None:
    """A long download brings two WINDOW_UPDATE for each of its frames, faster than any rate."""
    told = Recorder().begin().take(frames.window(0, 2**30), get(1), frames.window(1, 2**30))
    told.engine.head(1, b"\x88", end=False)
    for _ in range(2 * CHATTER):
        told.engine.data(1, b"x", end=False)
        told.take(frames.window(0, 1) + frames.window(1, 1))
    assert told.error is None


def test_a_head_without_end_is_bounded_in_frames_and_bytes() -> None:
    """CONTINUATION flood (CVE-2024-27316)."""
    begun = frames.frame(frames.HEADERS, frames.END_STREAM, 1, frames.asked())
    told = Recorder().begin().take(begun, *[frames.frame(frames.CONTINUATION, 0, 1)] * 64)
    assert told.goaway == ErrorCodes.PROTOCOL_ERROR
    full = frames.frame(frames.CONTINUATION, 0, 1, b"\0\1a\0" * 4096)
    told = Recorder().begin().take(begun, *[full] * 9)
    assert told.goaway == CALM
    assert told.engine.is_parsing


def test_a_head_that_unpacks_into_too_much_ends_the_connection() -> None:
    """An HPACK bomb (CVE-2016-6581): one long field, remembered, then named over and over."""
    bomb = b"\x40\1a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 12000
    told = Recorder().begin().take(frames.frame(frames.HEADERS, 5, 1, frames.asked() + bomb))
    assert told.goaway == CALM


def test_a_head_that_is_too_long_by_less_is_answered_431() -> None:
    """And the next request can still be read: the tables of both sides agree."""
    limits = Limits(headers=5000)
    long = [(f"x-{i}", "y" * 100) for i in range(50)]
    told = Recorder(limits).begin().take(get(1, "/", *long), get(3))
    assert told.events[0] == (1, 431)
    assert told.events[1][0] == 3
    told = Recorder(Limits(fields=10)).begin().take(get(1, "/", *long[:11]))
    assert told.events == [(1, 431)]


def test_settings_that_nobody_knows_are_not_kept() -> None:
    """There may be 65,536 of them, for each connection."""
    told = Recorder().begin()
    for start in range(2048, 2**16, 2048):
        told.take(frames.settings(*[(code, 1) for code in range(start, start + 2048)]))
    assert told.error is None
    assert len(told.engine._h2.remote_settings) < 10


def test_streams_that_are_over_are_not_kept() -> None:
    """A connection may see thousands of requests an hour."""
    told = Recorder(streams=10).begin()
    for stream in range(1, 4 * KEPT, 2):
        told.take(get(stream))
        told.engine.head(stream, b"\x88", end=True)
    assert len(told.engine._h2.streams) <= 21
    assert len(told.engine._h2._closed_streams) <= KEPT


def test_resets_of_ours_do_not_pile_up_where_a_stream_is_one_too_many() -> None:
    """§5.1.2, §8.7: it costs its stream, not the connection."""
    told = Recorder(streams=1).begin().take(get(1), get(3))
    told.engine.refuse(3)
    told.take(get(5))
    assert told.goaway is None
    told.sent += told.engine.output()
    assert told.answer.resets == {3: ErrorCodes.REFUSED_STREAM}


# --- flow control


def test_a_body_that_is_not_taken_stops_its_client() -> None:
    """Windows are given back as the app takes, not as bytes come."""
    told = Recorder().begin()
    told.takes = False
    told.take(post(1))
    piece = frames.data(1, b"x" * FRAME)
    told.take(piece * 16)
    assert not told.answer.of(frames.WINDOW_UPDATE)[1:]
    assert told.goaway is None
    assert told.take(piece).goaway == ErrorCodes.FLOW_CONTROL_ERROR


def test_all_bodies_of_a_connection_together_are_bounded() -> None:
    told = Recorder().begin()
    told.takes = False
    for stream in range(1, 11, 2):
        told.take(post(stream), frames.data(stream, b"x" * FRAME) * 16)
    assert told.goaway == ErrorCodes.FLOW_CONTROL_ERROR
    first = told.answer.of(frames.WINDOW_UPDATE)[0]
    assert int.from_bytes(first.body) == CONNECTION_WINDOW - DEFAULT_WINDOW


def test_a_body_that_is_taken_goes_on_for_ever() -> None:
    told = Recorder().begin().take(post(1))
    for _ in range(300):
        told.take(frames.data(1, b"x" * FRAME))
    assert told.goaway is None


def test_what_nobody_will_take_is_given_back() -> None:
    """A body for a stream that was reset counts for the connection's window all the same."""
    told = Recorder().begin().take(post(1))
    told.engine.reset(1, 8)
    for _ in range(100):
        told.take(frames.data(1, b"x" * FRAME))
        told.now += 1
    assert told.goaway is None


def test_room_is_the_lesser_of_both_windows() -> None:
    told = Recorder().take(frames.PREFACE + frames.settings((4, 10)) + get(1) + get(3))
    assert told.engine.room(1) == 10
    told.engine.head(1, b"\x88", end=False)
    told.engine.data(1, b"x" * 10, end=False)
    assert told.engine.room(1) == 0
    told.take(frames.settings((4, 5)))
    assert told.engine.room(1) == 0  # §6.9.2: below nothing
    told.take(frames.settings((4, 2**31 - 1)), frames.window(0, 5))
    assert told.engine.room(3) == DEFAULT_WINDOW - 5


# --- parting


def test_parting_says_which_streams_will_be_answered_and_answers_them() -> None:
    told = Recorder().begin().take(get(1))
    told.engine.part(2**31 - 1)
    told.engine.ping()
    told.take(get(3), frames.ping(PING_DATA, frames.ACK))
    assert told.events[-2][0] == 3
    assert told.events[-1] == "pong"
    told.engine.part(told.engine.latest)
    for stream in (1, 3):
        told.engine.head(stream, b"\x88", end=True)
    told.take(frames.ping(b"whatever", frames.ACK))
    assert told.answer.goaways == [(2**31 - 1, 0), (3, 0)]
    assert told.answer.ended == {1, 3}
    assert told.events[-1] == "pong"


def test_a_spent_engine_says_no_more() -> None:
    told = Recorder().begin().take(post(1), frames.data(0, b"x"))
    told.engine.taken(1, 5)
    told.engine.reset(1, 8)
    told.engine.part(5)
    told.engine.ping()
    assert told.engine.output() == b""


def test_a_budget_is_regained_with_time_up_to_its_most() -> None:
    budget = Budget(2, 1.0)
    assert [budget.spend(0.0) for _ in range(3)] == [True, True, False]
    assert budget.spend(2.0)
    assert [budget.spend(100.0) for _ in range(3)] == [True, True, False]
    budget.earn(50)
    assert [budget.spend(100.0) for _ in range(3)] == [True, True, False]


# --- whatever may come

KINDS = st.integers(0, 11)
FRAMES = st.builds(
    frames.frame,
    KINDS,
    st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 32, 37, 255]),
    st.sampled_from([0, 1, 1, 2, 3, 5, 2**31 - 1]),
    st.one_of(
        st.binary(max_size=20),
        st.just(frames.asked()),
        st.just(frames.asked("POST", "/", ("content-length", "5"))),
        st.just(frames.encoded(*frames.ASKED)),
        st.sampled_from([b"\0\0\0\1", b"\x7f\xff\xff\xff", b"12345678", b"\0\4\0\0\0\5"]),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(FRAMES, st.binary(max_size=30)), max_size=30), st.integers(1, 40))
def test_whatever_comes_is_read_or_is_the_client_s_error(made: list[bytes], size: int) -> None:
    """No exception but Broken, and the same for any split."""
    stream = START + b"".join(made)
    whole = Recorder().take(stream).outcome()
    assert Recorder().take(*pieces(stream, size)).outcome() == whole


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_make_it_fail_otherwise(data: bytes) -> None:
    Recorder().take(data)
    Recorder().take(START + data)
    Recorder().take(START + frames.frame(frames.HEADERS, 5, 1, data))
