"""Streams that h2 never hears of, and those it hears of late, are streams like any other."""

from collections.abc import Callable

from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.wire.http2_fields import literal, status_field
from tests.support import http2 as frames
from tests.support.http2 import Reading, get
from tests.unit.wire.recorder import Recorder

HEAD = status_field(200) + literal(b"x", b"y")
Ask = Callable[[int], bytes]


def whole(stream: int) -> bytes:
    """A request that may stay quiet."""
    return get(stream)


def torn(stream: int) -> bytes:
    """The same in two frames, which goes through h2."""
    first = frames.frame(frames.HEADERS, frames.END_STREAM, stream, frames.asked())
    return first + frames.frame(frames.CONTINUATION, frames.END_HEADERS, stream)


class Server:
    """Does to streams what it is told, as far as it is allowed."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.told = Recorder().begin().take(get(1))
        self.stages: dict[int, int] = {}  # 0 begun, 1 head sent, 2 over
        self.latest = 1

    def act(self, what: str, stream: int, amount: int) -> None:
        engine = self.told.engine
        if self.told.error is not None:
            return
        if what == "ask":
            self.latest += 2
            self.stages[self.latest] = 0
            self.told.take(self.ask(self.latest))
            return
        if what in CLIENT:
            self.told.take(CLIENT[what](stream, amount))
            for event in self.told.events:
                if event[1] == "gone":
                    self.stages[event[0]] = 2
            return
        stage = self.stages.get(stream, 2)
        if stage == 2:
            return
        size = min(amount, engine.room(stream)) if what in ("some", "rest") else 0
        if what == "interim" and stage == 0:
            engine.interim(stream, status_field(103))
        elif what in ("head", "bare") and stage == 0:
            engine.head(stream, HEAD, end=what == "bare")
            self.stages[stream] = 2 if what == "bare" else 1
        elif what == "some" and stage == 1:
            engine.data(stream, b"x" * size, end=False)
        elif what == "rest" and stage == 1:
            engine.data(stream, b"x" * size, end=True)
            self.stages[stream] = 2
        elif what == "trailers" and stage == 1:
            engine.head(stream, literal(b"x-sum", b"1"), end=True)
            self.stages[stream] = 2
        elif what == "reset":
            engine.reset(stream, amount % 14)
            self.stages[stream] = 2
        self.told.sent += engine.output()


CLIENT: dict[str, Callable[[int, int], bytes]] = {
    "window": lambda stream, amount: frames.window(stream, amount + 1),
    "all windows": lambda _, amount: frames.window(0, amount + 1),
    "settings": lambda _, amount: frames.settings((4, amount)),
    "cancel": lambda stream, _: frames.reset(stream),
    "body": lambda stream, amount: frames.data(stream, b"z" * (amount % 100)),
    "priority": lambda stream, _: frames.frame(frames.PRIORITY, 0, stream, b"\0\0\0\0\x10"),
}
SERVER = ("interim", "head", "head", "bare", "some", "rest", "rest", "trailers", "reset")
ACTS = st.tuples(
    st.sampled_from(("ask", "ask", *SERVER, *CLIENT)),
    st.sampled_from((3, 5, 7, 9)),
    st.sampled_from((0, 1, 10, 500, 16_384, 70_000)).map(lambda amount: min(amount, 16_384)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTS, max_size=25))
def test_it_makes_no_difference_when_h2_hears_of_a_stream(acts: list[tuple[str, int, int]]) -> None:
    """The same is told and sent, byte for byte, and the same is left of the windows."""
    first, second = Server(whole), Server(torn)
    for act in acts:
        first.act(*act)
        second.act(*act)
    assert first.told.outcome() == second.told.outcome()
    if first.told.error is None:
        for stream, stage in first.stages.items():
            if stage < 2:
                assert first.told.engine.room(stream) == second.told.engine.room(stream)


def test_most_streams_stay_quiet() -> None:
    """Else all this is for nothing."""
    server = Server(whole)
    for stream in range(3, 103, 2):
        for what in ("ask", "head", "rest"):
            server.act(what, stream, 10)
    h2 = server.told.engine._h2
    assert set(h2.streams) == {1}
    assert not h2.quiet
    assert server.told.answer.ended == set(range(3, 103, 2))
    assert h2.outbound_flow_control_window == 65535 - 50 * 10


def test_a_head_beyond_a_frame_is_continued() -> None:
    """RFC 9113 §6.10, by h2."""
    server = Server(whole)
    server.act("ask", 3, 0)
    server.told.engine.head(3, HEAD + literal(b"x", b"y" * 40_000), end=True)
    sent = Reading().take(server.told.engine.output())
    kinds = [frame.kind for frame in sent.frames[-3:]]
    assert kinds == [frames.HEADERS, frames.CONTINUATION, frames.CONTINUATION]


def test_a_client_that_repeats_itself_is_told_apart_from_one_that_does_not() -> None:
    """A block's meaning is remembered until the table that it names has changed."""
    told = Recorder().begin()
    encoder = Encoder()
    wanted = [1, 1, 1, 2, 2, 1, 3, 3, 1, 2, 2]
    blocks = [
        encoder.encode(
            [(":method", "GET"), (":scheme", "http"), (":authority", f"{n}"), (":path", f"/{n}")]
        )
        for n in wanted
    ]
    assert blocks[2] == blocks[4]  # the same names, and not the same meaning
    for number, block in enumerate(blocks):
        told.take(frames.frame(frames.HEADERS, 5, 2 * number + 1, block))
    assert [event[1].asked[1] for event in told.events] == [f"/{n}" for n in wanted]
    assert [event[1].headers for event in told.events] == [[(b"host", b"%d" % n)] for n in wanted]
