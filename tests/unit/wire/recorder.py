"""HTTP/2's engine, and what it told and sent."""

from typing import Any

from clusterd.core.errors import PeerError
from clusterd.wire.http2 import Broken, Engine
from clusterd.wire.http2_head import Head
from clusterd.wire.limits import Limits
from tests.support.http2 import START, Reading


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
