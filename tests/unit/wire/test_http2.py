"""HTTP/2's engine: what is a request, what costs a stream, what the connection; floods; splits."""

import pytest
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.wire.http2 import (
    FRAME,
    PING_DATA,
)
from clusterd.wire.limits import Limits
from tests.support import http2 as frames
from tests.support.http2 import START, Reading, get, pieces, post
from tests.unit.wire.recorder import Recorder

CALM = ErrorCodes.ENHANCE_YOUR_CALM


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
    """Into single bytes, pieces of many sizes, and two at every place."""
    stream = CORPUS[name]
    whole = Recorder().take(stream).outcome()
    assert whole[0] or whole[1] != "None"
    for size in (*range(1, 12), 17, 33, 65, 129):
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


def test_a_body_that_is_taken_after_the_connection_s_end_moves_no_window() -> None:
    """An app may read on what came before the error."""
    told = Recorder()
    told.takes = False
    told.begin()
    for stream in (1, 3, 5):  # together more than half of the connection's window
        told.take(post(stream), frames.data(stream, b"x" * FRAME) * 15)
    told.take(frames.data(0, b"x"))
    assert told.goaway is not None
    for stream in (1, 3, 5):
        told.engine.taken(stream, 15 * FRAME)
    assert told.engine.output() == b""


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
        (frames.frame(frames.HEADERS, 5, 1, b"\xff\xff\xff"), ErrorCodes.COMPRESSION_ERROR),  # §4.3
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


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(FRAMES, st.binary(max_size=30)), max_size=30), st.integers(1, 40))
def test_whatever_comes_is_read_or_is_the_client_s_error(made: list[bytes], size: int) -> None:
    """No exception but Broken, and the same for any split."""
    stream = START + b"".join(made)
    whole = Recorder().take(stream).outcome()
    assert Recorder().take(*pieces(stream, size)).outcome() == whole


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_at_all_make_it_fail_otherwise(data: bytes) -> None:
    Recorder().take(data)
    Recorder().take(START + data)
    Recorder().take(START + frames.frame(frames.HEADERS, 5, 1, data))
