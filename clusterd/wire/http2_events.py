"""What HTTP/2's engine tells whoever serves with it."""

from typing import Protocol

from clusterd.core.errors import PeerError
from clusterd.wire.http2_head import Head


class Events(Protocol):
    """Who is told what came. Streams go by their numbers."""

    def on_request(self, stream: int, head: Head) -> None:
        """A request has begun."""

    def on_refused(self, stream: int, error: PeerError) -> None:
        """A request, begun or not, is to be answered with the error's status and nothing else."""

    def on_body(self, stream: int, data: bytes, credit: int) -> None:
        """A piece of a body. `credit` bytes of window are to be given back: `Engine.taken`."""

    def on_end(self, stream: int) -> None:
        """A request that had a body is complete."""

    def on_gone(self, stream: int) -> None:
        """A request was reset, by the client or for what the client did."""

    def on_room(self, stream: int) -> None:
        """More can be sent, on a stream or (0) on any."""

    def on_pong(self) -> None:
        """The client has answered our PING, so it has read what we sent before."""
