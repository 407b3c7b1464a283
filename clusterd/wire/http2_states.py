"""The package h2 as our engine wants it: the states of connection and streams, and the windows.

Heads pass it by. What it would end a whole connection for, because of one stream, never reaches it;
and what it keeps of streams that are over, or of settings that nobody knows, is bounded.

Nor does it hear of every stream. Most requests are one frame, and their answers two, with nothing
in between: such a stream stays quiet, which is to say that its frames are made here and only the
connection's window is kept up (measured: two thirds of what a request costs). As soon as anything
else happens to it, h2 is told what it missed.
"""

import struct

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from h2.frame_buffer import FrameBuffer
from h2.settings import SettingCodes, Settings

from clusterd.wire.http2_blocks import Decoded
from clusterd.wire.http2_fields import NO_TABLE
from clusterd.wire.http2_head import PSEUDO
from clusterd.wire.limits import Limits

STREAM_WINDOW = 256 * 1024  # bytes of a body that may wait for the app
KEPT = 1024  # streams that are over, of which it is kept how they ended,
CLOSED = 170  # and the bytes that this takes for each
SHORT = 16 * 1024  # bytes that any frame may have (RFC 9113 §4.2)
FRAME_HEAD = struct.Struct("!HBBBI")  # §4.1; the length is of three bytes
DATA, HEADERS, GOAWAY = 0, 1, 7
END_STREAM, END_HEADERS = 1, 4
# h2 wants to see headers, where it has only to know of what kind they are.
FINAL = [(b":status", b"200")]
INTERIM = [(b":status", b"100")]


class Encoded:
    """In the place of h2's encoder: the block was made already."""

    def __init__(self) -> None:
        self.block = b""
        self.header_table_size = 0  # set by h2, as the client wishes; we remember nothing anyway
        self.first = NO_TABLE  # goes in front of the first block

    def encode(self, _headers: object) -> bytes:
        block, self.first = self.first + self.block, b""
        return block


class States(H2Connection):
    """The states of one connection."""

    MAX_CLOSED_STREAMS = KEPT

    def __init__(self, limits: Limits, streams: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        # What is longer than it may be is read all the same, up to here, so that 431 can be
        # answered: only who has read one block can read the next.
        self.longest = 2 * limits.headers + 64 * limits.fields
        self.quiet: dict[int, bool] = {}  # streams that h2 has not heard of; True: head is sent
        self.latest = 0  # stream begun
        self._ready = bytearray()  # to be sent before what h2 has to send
        # One field more than may be, so that it is seen that there are too many.
        self.decoded = self.decoder = Decoded(self.longest, limits.fields + len(PSEUDO) + 1)
        self.encoded = Encoded()
        self.encoder = self.encoded  # type: ignore[assignment]
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: streams,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.headers,
            },
        )
        self.initiate_connection()

    @property
    def open_inbound_streams(self) -> int:
        """For h2's own check of their number: one too many would cost the connection.

        To count means to look at all of them, and to forget those that are over: now and then will
        do, instead of at each request.
        """
        if len(self.streams) > 2 * self.local_settings.max_concurrent_streams:
            return super().open_inbound_streams and 0
        return 0

    def forget_unknown_settings(self) -> None:
        """RFC 9113 §6.5.2: they are ignored; there may be 65,536 of them."""
        for code in [code for code in self.remote_settings if not isinstance(code, SettingCodes)]:
            del self.remote_settings[code]

    # --- streams that stay quiet

    def begin(self, stream: int) -> None:
        """A stream begins with a whole request. Not the connection's first: h2 must see one."""
        self.quiet[stream] = False
        self.latest = self.highest_inbound_stream_id = stream

    def tell(self, stream: int) -> None:
        """Let h2 know of a stream after all, and what was sent on it."""
        is_answered = self.quiet.pop(stream)
        self.highest_inbound_stream_id = stream - 1
        self.decoded.is_known = True
        self.receive_data(FRAME_HEAD.pack(0, 0, HEADERS, END_STREAM | END_HEADERS, stream))
        self.decoded.is_known = False
        self.highest_inbound_stream_id = self.latest
        if is_answered:
            self._ready += self.data_to_send()
            self.encoded.block = NO_TABLE  # it wants to see some
            self.send_headers(stream, FINAL)
            self.data_to_send()  # the client has seen it

    @property
    def kept(self) -> int:
        """Bytes of what is kept of streams that are over."""
        return CLOSED * len(self._closed_streams)

    # --- the client's windows

    @property
    def window(self) -> int:
        """Bytes of bodies that the client may have sent before the app takes some."""
        return self._inbound_flow_control_window_manager.max_window_size

    @property
    def is_narrow(self) -> bool:
        """Return whether the client has filled half of that."""
        manager = self._inbound_flow_control_window_manager
        return 2 * manager.current_window_size < manager.max_window_size

    def widen(self, more: int) -> None:
        """Let the client send more at once."""
        self._inbound_flow_control_window_manager.max_window_size += more
        self.increment_flow_control_window(more)

    def narrow(self, less: int) -> None:
        """Give the client so much less back of what is taken next.

        Not by `process_bytes(-less)`: where the client has filled its window that may decide on a
        WINDOW_UPDATE, which would not be sent here, and the client would wait for it for ever.
        """
        manager = self._inbound_flow_control_window_manager
        manager.max_window_size -= less
        manager._bytes_processed -= less

    # --- what goes

    def room(self, stream: int) -> int:
        """Bytes that the client takes on a stream."""
        if stream in self.quiet:
            initial = self.remote_settings.initial_window_size
            return max(0, min(self.outbound_flow_control_window, initial))
        return max(0, self.local_flow_control_window(stream))

    def head(self, stream: int, block: bytes, end: bool) -> None:
        """Send an answer's head, or its trailers, encoded already."""
        if stream in self.quiet:
            size = len(block) + len(self.encoded.first)
            if self.quiet[stream] is False and size <= SHORT:
                flags = END_STREAM | END_HEADERS if end else END_HEADERS
                self._put(HEADERS, flags, stream, self.encoded.first + block)
                self.encoded.first = b""
                self.quiet[stream] = True
                if end:
                    del self.quiet[stream]
                return
            self.tell(stream)
        self.encoded.block = block
        self.send_headers(stream, FINAL, end_stream=end)

    def interim(self, stream: int, block: bytes) -> None:
        """Send a head of status 1xx."""
        if stream in self.quiet:
            self.tell(stream)
        self.encoded.block = block
        self.send_headers(stream, INTERIM)

    def data(self, stream: int, data: bytes, end: bool) -> None:
        """Send a frame of a body, which there is room for."""
        if stream in self.quiet:
            if end:
                self._put(DATA, END_STREAM, stream, data)
                self.outbound_flow_control_window -= len(data)
                del self.quiet[stream]
                return
            self.tell(stream)
        self.send_data(stream, data, end)

    def reset(self, stream: int, code: int) -> None:
        """End a stream at once, if it is not over."""
        if stream in self.quiet:
            self.tell(stream)
        try:
            self.reset_stream(stream, code)
        except StreamClosedError:
            pass

    def part(self, latest: int) -> None:
        """Say that no stream after `latest` is answered. Unlike h2's it ends nothing else."""
        self._put(GOAWAY, 0, 0, struct.pack("!II", latest, ErrorCodes.NO_ERROR))

    def _put(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        """Send a frame, after what h2 has to send."""
        ready = self._ready
        ready += self.data_to_send()
        ready += FRAME_HEAD.pack(len(body) >> 8, len(body) & 255, kind, flags, stream)
        ready += body

    def drop(self) -> None:
        """Let go of what is half read, and of what is remembered."""
        self.incoming_buffer = FrameBuffer(server=True)
        self.decoded.same.clear()

    def output(self) -> bytes:
        """What is to be sent, once."""
        output = self.data_to_send()
        if self._ready:
            output = bytes(self._ready) + output
            self._ready.clear()
        return output
