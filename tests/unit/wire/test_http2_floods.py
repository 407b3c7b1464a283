"""What HTTP/2 lets a client do for nothing is bounded, and so is what waits for either side."""

from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes

from clusterd.wire.budget import Budget
from clusterd.wire.http2 import CHATTER, FRAME, RESETS
from clusterd.wire.http2_states import KEPT, STREAM_WINDOW
from clusterd.wire.limits import Limits
from tests.support import http2 as frames
from tests.support.http2 import get, post
from tests.unit.wire.recorder import Recorder

CALM = ErrorCodes.ENHANCE_YOUR_CALM

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
    empty = frames.frame(frames.HEADERS, frames.END_STREAM, 1)
    told = Recorder().begin().take(empty, *[full] * 9)
    assert told.goaway == CALM


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


def test_a_head_of_twice_as_much_as_may_be_can_still_be_read() -> None:
    """Twice the bytes in twice the fields, for each of which HPACK counts 32 bytes more."""
    more = [(f"x-{i:02}", "y" * 6) for i in range(16)]
    told = Recorder(Limits(headers=100, fields=10)).begin().take(get(1, "/", *more), get(3))
    assert told.events[0] == (1, 431)
    assert told.events[1][0] == 3


def test_settings_that_nobody_knows_are_not_kept() -> None:
    """There may be 65,536 of them, for each connection."""
    told = Recorder().begin()
    for start in range(2048, 2**14, 2048):
        told.take(frames.settings(*[(code, 1) for code in range(start, start + 2048)]))
    assert told.error is None
    assert len(told.engine._h2.remote_settings) < 10


def test_what_is_kept_of_streams_that_are_over_counts() -> None:
    told = Recorder(streams=10).begin()
    for stream in range(1, 401, 2):
        told.take(post(stream), frames.data(stream, b"", end=True))
        told.engine.head(stream, b"\x88", end=True)
    assert told.engine.held > 150 * 100, "the latest are not forgotten yet"


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
    told.engine.widen(2 * STREAM_WINDOW)
    piece = frames.data(1, b"x" * FRAME)
    told.take(piece * 16)
    assert [sent.stream for sent in told.answer.of(frames.WINDOW_UPDATE)] == [0]
    assert told.goaway is None
    assert told.take(piece).goaway == ErrorCodes.FLOW_CONTROL_ERROR


def test_all_bodies_of_a_connection_together_are_bounded() -> None:
    told = Recorder().begin()
    told.takes = False
    for stream in range(1, 9, 2):
        told.take(post(stream), frames.data(stream, b"x" * 16_383))
    assert told.engine.awaits(1)
    told.take(frames.data(1, b"x" * 3))
    assert not told.engine.awaits(1)
    assert told.goaway is None
    told.take(frames.data(1, b"x"))
    assert told.goaway == ErrorCodes.FLOW_CONTROL_ERROR
    assert not told.answer.of(frames.WINDOW_UPDATE)


def test_a_window_gets_wider_and_narrower() -> None:
    """What is taken is given back but for what the window gets narrower by."""
    told = Recorder().begin().take(post(1))
    told.takes = False
    told.engine.widen(65_535)
    told.take(b"")
    assert told.engine.window == 131_070
    told.take(frames.data(1, b"x" * 16_000) * 4)
    assert not told.engine.is_narrow
    told.take(frames.data(1, b"x" * 16_000))
    assert told.engine.is_narrow
    told.engine.taken(1, 80_000, 60_000)
    told.take(b"")
    assert told.engine.window == 71_070
    said = [(u.stream, int.from_bytes(u.body)) for u in told.answer.of(frames.WINDOW_UPDATE)]
    assert said == [(0, 65_535)], "20,000 bytes are less than half of it"
    told.take(frames.data(1, b"x" * 16_000))
    told.engine.taken(1, 16_000)
    told.take(b"")
    said = [(u.stream, int.from_bytes(u.body)) for u in told.answer.of(frames.WINDOW_UPDATE)]
    assert said == [(0, 65_535), (0, 36_000)]


def test_a_window_that_was_full_gets_narrower_and_no_byte_of_the_rest_is_lost() -> None:
    """What was taken before it was full, and not given back yet, is not forgotten."""
    told = Recorder().begin().take(post(1))
    told.takes = False
    told.engine.widen(65_535)
    told.take(frames.data(1, b"x" * 16_000) * 4)
    told.engine.taken(1, 60_000)  # less than half of it, so that nothing is given back yet
    told.take(frames.data(1, b"x" * 16_000) * 4, frames.data(1, b"x" * 3_070))
    told.engine.taken(1, 16_000, 16_000)
    told.engine.taken(1, 55_070, 49_535)
    told.take(b"")
    assert told.engine.window == 65_535
    said = [(u.stream, int.from_bytes(u.body)) for u in told.answer.of(frames.WINDOW_UPDATE)]
    assert [size for stream, size in said if stream == 0] == [65_535, 60_000]


def test_what_is_half_read_is_let_go_of_where_nothing_is_read_any_more() -> None:
    told = Recorder().begin()
    told.take(frames.frame(frames.HEADERS, 1, 1, b"x" * 9000))
    told.take(*[frames.frame(frames.CONTINUATION, 0, 1, b"")] * 9, b"\0\x10\0 half a frame")
    assert told.engine.held > 9000 + 10 * 700, "with what h2 makes of it"
    told.engine.drop()
    assert told.engine.held == 0
    assert not told.engine.is_parsing


def test_a_body_that_is_taken_goes_on_for_ever() -> None:
    told = Recorder().begin().take(post(1))
    for _ in range(100):
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
    assert told.engine.room(3) == 65_535 - 5


def test_a_budget_is_regained_with_time_up_to_its_most() -> None:
    budget = Budget(2, 1.0)
    assert [budget.spend(0.0) for _ in range(3)] == [True, True, False]
    assert budget.spend(2.0)
    assert [budget.spend(100.0) for _ in range(3)] == [True, True, False]
    budget.earn(50)
    assert [budget.spend(100.0) for _ in range(3)] == [True, True, False]
