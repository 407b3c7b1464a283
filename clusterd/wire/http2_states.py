"""The package h2 as our engine wants it: the states of connection and streams, and the windows.

Heads pass it by. What it would end a whole connection for, because of one stream, never reaches it;
and what it keeps of streams that are over, or of settings that nobody knows, is bounded.
"""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Decoder

from clusterd.wire.heads import Pair
from clusterd.wire.http2_fields import NO_TABLE
from clusterd.wire.limits import Limits

STREAM_WINDOW = 256 * 1024  # bytes of a body that may wait for the app
CONNECTION_WINDOW = 1024 * 1024  # the same of all bodies of a connection
DEFAULT_WINDOW = 65535  # RFC 9113 §6.9.2
KEPT = 1024  # streams that are over, of which it is kept how they ended
# h2 wants to see headers, where it has only to know of what kind they are.
FINAL = [(b":status", b"200")]
INTERIM = [(b":status", b"100")]


class Decoded(Decoder):
    """Decodes blocks, and keeps what comes out from h2."""

    fields: list[Pair]

    def decode(self, data: bytes, raw: bool = False) -> list[Pair]:  # type: ignore[override]
        self.fields = super().decode(data, raw=True)  # type: ignore[assignment]
        return []


class Encoded:
    """In the place of h2's encoder: the block was made already."""

    def __init__(self) -> None:
        self.block = b""
        self.header_table_size = 0  # set by h2, as the client wishes; we remember nothing anyway
        self._first = NO_TABLE

    def encode(self, _headers: object) -> bytes:
        block, self._first = self._first + self.block, b""
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
        self.decoded = self.decoder = Decoded(self.longest)
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
        self.increment_flow_control_window(CONNECTION_WINDOW - DEFAULT_WINDOW)

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

    def headers(self, stream: int, block: bytes, end: bool, interim: bool = False) -> None:
        """Send a head, or trailers, encoded already."""
        self.encoded.block = block
        self.send_headers(stream, INTERIM if interim else FINAL, end_stream=end)
