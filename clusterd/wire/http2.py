"""HTTP/2's engine: bytes in, requests and bodies out by callbacks; answers in, bytes out.

The package h2 keeps the states of connection and streams (`http2_states`). What is ours: frames are
told apart here and given to it one by one, so that nothing depends on how bytes came in and each
flood is counted before it costs; heads are judged by `http2_head`, so that a malformed request
costs its stream and not, as in h2, all others; a client's GOAWAY, which for h2 is the end, is not.

Where bytes come from and when, nothing here knows: time is an argument. After an error that costs
the connection the engine is spent, and `output` has the GOAWAY that says so.
"""

from collections.abc import Callable
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from clusterd.core.errors import PeerError
from clusterd.wire.budget import Budget
from clusterd.wire.http2_blocks import Unreadable, is_pure
from clusterd.wire.http2_events import Events
from clusterd.wire.http2_head import Head, Malformed, judge, judge_trailers
from clusterd.wire.http2_states import States
from clusterd.wire.limits import Limits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
FRAME_HEAD = 9  # bytes of a frame's head (§4.1)
FRAME = 16 * 1024  # bytes of the longest frame that we take, the least that can be (§4.2)
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4  # flags
WHOLE = END_STREAM | END_HEADERS
EVERY = 2**31 - 1  # a stream that no client gets to
# Resets, the client's and those it makes us send. A browser that leaves a page cancels what it had
# begun; who does it over and over has requests begun for nothing (CVE-2023-44487, CVE-2025-8671).
RESETS, RESETS_REGAINED = 500, 50.0  # at once, and a second
# Frames that bring no request nearer to its answer: PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty
# DATA, unknown ones. For each frame of ours the client may move its windows a few times.
CHATTER, CHATTER_REGAINED = 2000, 200.0
MOVES = 8
PING_DATA = b"clusterd"
SAME = 64  # heads of a connection that are remembered,
REPEATED = 2048  # if they have no more bytes than that
HEAD = 1024  # bytes of the objects that such a head is made of, beside its text
FRAME_OBJECTS = 800  # bytes of what h2 makes of each frame of a head, until its end has come

CALM = ErrorCodes.ENHANCE_YOUR_CALM
NO_ERROR = ErrorCodes.NO_ERROR
PROTOCOL_ERROR = ErrorCodes.PROTOCOL_ERROR
REFUSED_STREAM = ErrorCodes.REFUSED_STREAM
CANCEL = ErrorCodes.CANCEL
INTERNAL_ERROR = ErrorCodes.INTERNAL_ERROR


class Broken(PeerError):
    """The connection cannot go on; `code` is what our GOAWAY says (RFC 9113 §7)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(400, message)
        self.code = code


class Body:
    """Of a request that is still being sent."""

    __slots__ = ("left", "seen")

    def __init__(self, left: int) -> None:
        self.left = left  # bytes that Content-Length has still to come, below 0 where there is none
        self.seen = 0


class Engine:
    """One connection's."""

    __slots__ = (
        "_block",
        "_block_frames",
        "_bodies",
        "_chatter",
        "_events",
        "_h2",
        "_is_greeted",
        "_is_known",
        "_is_unended",
        "_limits",
        "_need",
        "_now",
        "_resets",
        "_torn",
        "is_spent",
        "parted",
        "ready",
    )

    def __init__(self, limits: Limits, streams: int, events: Events) -> None:
        self._limits = limits
        self._events = events
        self._h2 = States(limits, streams)
        self._bodies: dict[int, Body] = {}  # by stream
        self._torn = bytearray()  # of a frame, or of the preface
        self._need = len(PREFACE)  # bytes that make it whole
        self._block = -1  # bytes of a head whose end has not come, -1 for none,
        self._block_frames = 0  # and the frames that it has come in
        self._is_greeted = False  # the preface was read,
        self._is_known = False  # and the first SETTINGS
        self._is_unended = False  # the trailers being read do not end their stream
        self._now = 0.0
        self._resets = Budget(max(RESETS, 2 * streams), RESETS_REGAINED)
        self._chatter = Budget(max(CHATTER, 2 * streams), CHATTER_REGAINED)
        self.ready = 0  # bytes of bodies that wait in `output`
        self.is_spent = False  # nothing can be read or sent any more
        self.parted = False  # the client begins no more requests

    @property
    def latest(self) -> int:
        """The last stream that has begun."""
        return self._h2.latest

    # --- what comes

    @property
    def is_parsing(self) -> bool:
        """Whether a frame, or the head of a request, is half read."""
        return bool(self._torn) or self._block >= 0

    @property
    def in_head(self) -> bool:
        """Whether the head of a request is half read: nothing else can come before its end."""
        return self._block >= 0 or not self._is_known

    @property
    def block(self) -> int:
        """Bytes of a head that is half read, -1 for none."""
        return self._block

    @property
    def held(self) -> int:
        """Bytes of frames and heads that are half read, and of what is remembered."""
        held = len(self._torn) + self._h2.kept
        if self._block >= 0:
            held += self._block + FRAME_OBJECTS * self._block_frames
        if self._h2.decoded.same:
            held += sum([HEAD + head.size for head in self._h2.decoded.same.values()])
        return held

    def feed(self, data: bytes, now: float) -> None:
        """Take what came. Raises Broken, after which there is nothing but `output` to be asked."""
        self._now = now
        torn = self._torn
        if torn:
            torn += data
            if not self._is_greeted:
                self._check_preface(torn)
            if len(torn) < self._need:
                return
            data = bytes(torn)
            torn.clear()
        position, size = 0, len(data)
        if not self._is_greeted:
            self._check_preface(data)
            if size < len(PREFACE):
                torn += data
                return
            self._is_greeted = True
            self._take(PREFACE)
            position = len(PREFACE)
        self._need = FRAME_HEAD
        while size - position >= FRAME_HEAD:
            length = int.from_bytes(data[position : position + 3])
            if length > FRAME:
                self._break(ErrorCodes.FRAME_SIZE_ERROR, "a frame is too large")
            self._need = FRAME_HEAD + length
            if size - position < self._need:
                break
            self._on_frame(data[position : position + self._need], length)
            position += self._need
            self._need = FRAME_HEAD
        if position < size:
            torn += data[position:]

    def _check_preface(self, data: bytes | bytearray) -> None:
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            self._break(PROTOCOL_ERROR, "this is not HTTP/2")

    def _on_frame(self, frame: bytes, length: int) -> None:
        kind, flags = frame[3], frame[4]
        stream = int.from_bytes(frame[5:9]) & EVERY
        if stream in self._h2.quiet:
            self._h2.tell(stream)
        if not self._is_known:
            if kind != SETTINGS or flags & ACK:
                self._break(PROTOCOL_ERROR, "the first frame is not SETTINGS")  # §3.4
            self._is_known = True
        if self._block >= 0:
            self._on_continuation(kind, flags, length)
        elif kind == HEADERS:
            if flags == WHOLE and stream & 1 and stream > self._h2.latest > 0:
                self._on_whole(stream, frame[FRAME_HEAD:])
                return
            if not flags & END_HEADERS:
                self._block = length
                self._block_frames = 1
            if stream not in self._bodies:
                if stream <= self._h2.latest:
                    self._provoked()  # the stream is over: h2 resets it, or breaks
            elif not flags & END_STREAM:
                # §8.1: malformed. For h2 the end of the connection, so it is shown another frame.
                self._is_unended = True
                frame = b"%b%c%b" % (frame[:4], flags | END_STREAM, frame[5:])
        elif kind == DATA:
            if stream not in self._bodies:
                self._chat()  # h2 resets what is over once more
        elif kind == GOAWAY and stream == 0 and length >= 8:
            self._chat()
            self.parted = True
            return
        else:
            self._chat()
        self._take(frame)

    def _on_continuation(self, kind: int, flags: int, length: int) -> None:
        """Only one can follow a head without an end (§6.10); h2 sees to that, and to 64 of them."""
        self._block += length
        self._block_frames += 1
        if self._block > self._h2.longest:
            self._break(CALM, "a head has no end")
        if kind == CONTINUATION and flags & END_HEADERS:
            self._block = -1

    def _take(self, data: bytes) -> None:
        """Let h2 judge a frame, and pass on what it makes of it."""
        try:
            events = self._h2.receive_data(data)
        except ProtocolError as error:  # its GOAWAY is made already
            self.is_spent = True
            raise Broken(error.error_code, str(error)) from None
        except Unreadable as error:
            self._break(error.code, str(error))
        for event in events:
            handle = HANDLERS.get(event.__class__)
            if handle is not None:
                handle(self, event)

    # --- what h2 makes of it

    def _on_request(self, event: RequestReceived) -> None:
        self._h2.latest = event.stream_id
        self._begin(event.stream_id, event.stream_ended is not None)

    def _on_whole(self, stream: int, block: bytes) -> None:
        """A request in one frame, which h2 need not hear of; of many clients one like the last."""
        decoded = self._h2.decoded
        head = decoded.same.get(block)
        if head is None:
            try:
                decoded.decode(block)
            except Unreadable as error:
                self._break(error.code, str(error))
        self._h2.begin(stream)
        if head is not None:
            self._events.on_request(stream, head)
            return
        head = self._begin(stream, ended=True)
        if head is not None and is_pure(block) and head.size <= REPEATED:
            if len(decoded.same) >= SAME:
                decoded.same.clear()
            decoded.same[block] = head

    def _begin(self, stream: int, ended: bool) -> Head | None:
        """Judge a head, and pass it on."""
        try:
            head = judge(self._h2.decoded.take(), ended, self._limits)
        except Malformed:
            self._provoked()
            self.reset(stream, PROTOCOL_ERROR)
        except PeerError as error:
            if not ended:
                self._bodies[stream] = Body(-1)
            self._events.on_refused(stream, error)
        else:
            if not ended:
                self._bodies[stream] = Body(head.length)
            self._events.on_request(stream, head)
            return head
        return None

    def _on_data(self, event: DataReceived) -> None:
        stream, data, credit = event.stream_id, event.data, event.flow_controlled_length
        body = self._bodies.get(stream)
        if body is None:
            self.taken(stream, credit)
            return
        size = len(data)
        if not size:
            if event.stream_ended is None:
                self._chat()
            self.taken(stream, credit)
            return
        body.seen += size
        if body.left >= 0:
            body.left -= size
            if body.left < 0:
                self.taken(stream, credit)
                self._blame(stream)
                return
        if self._limits.body and body.seen > self._limits.body:
            self.taken(stream, credit)
            self._events.on_refused(stream, PeerError(413, "the request body is too large"))
            return
        self._events.on_body(stream, data, credit)

    def _on_trailers(self, event: TrailersReceived) -> None:
        """They are dropped, and the end of the stream is told after them."""
        is_unended, self._is_unended = self._is_unended, False
        try:
            judge_trailers(self._h2.decoded.take(), self._limits)
        except PeerError:
            is_unended = True
        if is_unended:
            self._blame(event.stream_id)

    def _on_end(self, event: StreamEnded) -> None:
        stream = event.stream_id
        body = self._bodies.get(stream)
        if body is None:
            return
        if body.left > 0:
            self._blame(stream)  # §8.1.1: fewer bytes than its Content-Length
        else:
            del self._bodies[stream]
            self._events.on_end(stream)

    def _on_reset(self, event: StreamReset) -> None:
        self._bodies.pop(event.stream_id, None)
        self._provoked()
        self._events.on_gone(event.stream_id)

    def _on_window(self, event: WindowUpdated) -> None:
        self._events.on_room(event.stream_id)

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self._h2.forget_unknown_settings()
        self._events.on_room(0)

    def _on_pong(self, event: PingAckReceived) -> None:
        if event.ping_data == PING_DATA:
            self._events.on_pong()

    # --- what a client may not do, or not so often

    def _blame(self, stream: int) -> None:
        """A request turned out to be none: it is reset."""
        self._provoked()
        self.reset(stream, PROTOCOL_ERROR)
        self._events.on_gone(stream)

    def _provoked(self) -> None:
        if not self._resets.spend(self._now):
            self._break(CALM, "there are too many resets")

    def _chat(self) -> None:
        if not self._chatter.spend(self._now):
            self._break(CALM, "there are too many frames that are for nothing")

    def _break(self, code: int, message: str) -> None:
        raise self.end(code, message)

    def end(self, code: int, message: str) -> Broken:
        """Have `output` end with a GOAWAY that says so; return the error that it is."""
        self.is_spent = True
        self._h2.close_connection(code, last_stream_id=self._h2.latest)
        return Broken(code, message)

    # --- what goes

    def head(self, stream: int, block: bytes, end: bool) -> None:
        """An answer's head, or its trailers."""
        self._h2.head(stream, block, end)
        self._chatter.earn(MOVES)

    def interim(self, stream: int, block: bytes) -> None:
        """A head of status 1xx, before the answer's."""
        self._h2.interim(stream, block)

    def room(self, stream: int) -> int:
        """Bytes that the client takes on a stream."""
        return self._h2.room(stream)

    def data(self, stream: int, data: bytes, end: bool) -> None:
        """A frame of a body: no longer than `room` and `FRAME`."""
        self._h2.data(stream, data, end)
        self.ready += len(data)
        self._chatter.earn(MOVES)

    def is_open(self, stream: int) -> bool:
        """Whether the client is still sending a request's body."""
        return stream in self._bodies

    def taken(self, stream: int, credit: int, less: int = 0) -> None:
        """Bytes of a body were taken: let the client send as many again.

        `less` of them are not given back to the connection, whose window gets narrower.
        """
        if credit and not self.is_spent:
            if less:
                self._h2.narrow(less)
            self._h2.acknowledge_received_data(credit, stream)

    @property
    def window(self) -> int:
        """Bytes of all bodies that the client may have sent before the app takes some."""
        return self._h2.window

    @property
    def is_narrow(self) -> bool:
        """Return whether the client has filled half of `window`."""
        return not self.is_spent and self._h2.is_narrow

    def widen(self, more: int) -> None:
        """Let the client send more bytes at once."""
        self._h2.widen(more)

    def awaits(self, stream: int) -> bool:
        """Return whether the client may send more of a body."""
        return stream in self._bodies and self._h2.remote_flow_control_window(stream) > 0

    def reset(self, stream: int, code: int) -> None:
        """End a stream at once. No more is told of it."""
        self._bodies.pop(stream, None)
        if not self.is_spent:
            self._h2.reset(stream, code)

    def refuse(self, stream: int) -> None:
        """There are streams enough: the client may try again (§8.7)."""
        self.reset(stream, REFUSED_STREAM)
        self._provoked()

    def part(self, latest: int) -> None:
        """Say that no stream after `latest` is answered; those before go on."""
        if not self.is_spent:
            self._h2.part(latest)

    def ping(self) -> None:
        """Ask for a sign that the client has read what was sent."""
        if not self.is_spent:
            self._h2.ping(PING_DATA)

    def forget(self) -> None:
        """The connection is lost. h2 holds itself, and we who hold us: the collector is spared."""
        self.is_spent = True
        vars(self._h2).clear()
        del self._events

    def drop(self) -> None:
        """Let go of what is half read, since nothing that comes is looked at any more."""
        self._torn = bytearray()
        self._block = -1
        self._h2.drop()

    def output(self) -> bytes:
        """What is to be sent, once."""
        self.ready = 0
        return self._h2.output()


HANDLERS: dict[type, Callable[[Engine, Any], None]] = {
    RequestReceived: Engine._on_request,
    DataReceived: Engine._on_data,
    TrailersReceived: Engine._on_trailers,
    StreamEnded: Engine._on_end,
    StreamReset: Engine._on_reset,
    WindowUpdated: Engine._on_window,
    RemoteSettingsChanged: Engine._on_settings,
    PingAckReceived: Engine._on_pong,
}
