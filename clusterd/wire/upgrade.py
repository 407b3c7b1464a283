"""The handshake of a WebSocket: the request judged, and the answer (RFC 6455 §4.2; RFC 7692 §5).

Headers are read with the `websockets` package's parsers, and its compression is what may be agreed
on. Everything that can be wrong is known before the application hears of the request.
"""

import binascii
from typing import NamedTuple

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension, parse_subprotocol
from websockets.typing import ExtensionHeader
from websockets.utils import accept_key

from clusterd.core.errors import PeerError
from clusterd.wire.heads import Pair

# Windows of 4 kB and little else: 11 kB a connection to decompress, 33 kB to compress.
COMPRESSION = ServerPerMessageDeflateFactory(
    server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
)
# A client that lets us bound its window says so (RFC 7692 §7.1.2.2). Else it is one of 32 kB, which
# thus is not kept from one message to the next.
BOUND = "client_max_window_bits"
FORGETFUL = ServerPerMessageDeflateFactory(
    server_max_window_bits=12, client_no_context_takeover=True, compress_settings={"memLevel": 5}
)
# zlib cannot compress with a window of 256 bytes (its issue 171), and before version 17 the package
# found out by failing.
TOO_SMALL = ("server_max_window_bits", "8")
STATUS_LINE = b"HTTP/1.1 101 Switching Protocols\r\n"
VERSION = b"13"
VERSION_LINES = b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
SWITCH = b"upgrade: websocket\r\nconnection: Upgrade\r\n"
OURS = b"sec-websocket-"  # how the headers begin that only the handshake itself sets


class Refused(PeerError):
    """The request is no proper handshake. `lines`: headers that its answer must have."""

    def __init__(self, status: int, message: str, lines: bytes = b"") -> None:
        super().__init__(status, message)
        self.lines = lines


class Upgrade(NamedTuple):
    """A well-formed handshake."""

    subprotocols: list[str]  # as offered, in the client's order
    deflate: PerMessageDeflate | None
    lines: bytes  # the answer's headers, but for the subprotocol


def judge(method: str, headers: list[Pair], compress: bool) -> Upgrade:
    """Judge a request that asks for a WebSocket (§4.2.1); raises Refused."""
    if method != "GET":
        raise Refused(405, "a handshake is a GET", b"allow: GET\r\n")
    if _only(headers, b"sec-websocket-version") != VERSION:
        raise Refused(426, "only version 13 is spoken here", VERSION_LINES)  # §4.2.2
    key = _only(headers, b"sec-websocket-key")
    try:
        nonce = binascii.a2b_base64(key, strict_mode=True)
    except binascii.Error:
        nonce = b""
    if len(nonce) != 16:
        raise Refused(400, "Sec-WebSocket-Key is malformed")
    subprotocols = _joined(headers, b"sec-websocket-protocol")
    extensions = _joined(headers, b"sec-websocket-extensions")
    try:
        names = [str(name) for name in parse_subprotocol(subprotocols)] if subprotocols else []
        offers = parse_extension(extensions) if extensions else []
    except InvalidHeader:
        raise Refused(400, "a header of the handshake is malformed") from None
    deflate, line = _agree(offers if compress else [])
    accepted = b"sec-websocket-accept: %b\r\n" % accept_key(key.decode()).encode()
    return Upgrade(names, deflate, SWITCH + accepted + line)


def _agree(offers: list[ExtensionHeader]) -> tuple[PerMessageDeflate | None, bytes]:
    """The first offer of compression that can be had, and the header that says so."""
    for name, parameters in offers:
        if name == COMPRESSION.name and TOO_SMALL not in parameters:
            is_bound = any(name == BOUND for name, _ in parameters)
            factory = COMPRESSION if is_bound else FORGETFUL
            try:
                agreed, deflate = factory.process_request_params(parameters, [])
            except NegotiationError:
                continue  # RFC 7692 §7.1: what cannot be agreed on is declined
            extension = build_extension([(COMPRESSION.name, agreed)]).encode()
            return deflate, b"sec-websocket-extensions: %b\r\n" % extension
    return None, b""


def switch(upgrade: Upgrade, subprotocol: str | None, lines: list[bytes]) -> bytes:
    """The head that ends HTTP on the connection; `lines` are headers besides its own."""
    chosen = b"sec-websocket-protocol: %b\r\n" % subprotocol.encode() if subprotocol else b""
    return b"".join((STATUS_LINE, *lines, upgrade.lines, chosen, b"\r\n"))


def _only(headers: list[Pair], name: bytes) -> bytes:
    """The value of a header that may come once; empty where it does not."""
    values = [value for found, value in headers if found == name]
    return values[0] if len(values) == 1 else b""


def _joined(headers: list[Pair], name: bytes) -> str:
    return ", ".join(value.decode("latin-1") for found, value in headers if found == name)
