"""What we use of other packages although they do not promise it, each part by its name.

pyproject.toml has an upper bound for each of these packages: the newest version that passes here.
Where a test fails after a bound was raised, the module that it names has to change first.
"""

import asyncio
import os
import re
import socket
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.exceptions import PayloadTooBig
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode
from websockets.headers import build_extension, parse_extension, parse_subprotocol
from websockets.utils import accept_key, apply_mask

from clusterd.worker.accept import Accepted

ROOT = Path(__file__).parents[2]
BOUND = ("h2", "hdrhistogram", "uvloop", "websockets")
EXTRAS = ("bench", "h2", "dev")
HEADERS = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")]


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(one for extra in EXTRAS for one in extras[extra])]


@pytest.mark.parametrize("package", BOUND)
def test_a_package_whose_private_parts_we_use_has_an_upper_bound(package: str) -> None:
    found = [one for one in requirements() if re.match(r"[\w-]+", one)[0] == package]  # type: ignore[index]
    assert found
    for requirement in found:
        upper = re.search(r",<([0-9.]+)$", requirement)
        assert upper is not None, f"{requirement} has no upper bound"
        bound = [int(part) for part in upper[1].split(".")]
        assert [int(part) for part in version(package).split(".")[: len(bound)]] < bound


# --- h2, in clusterd/wire/http2_states.py


class Recorder:
    """In the place of h2's decoder or encoder."""

    header_table_size = max_header_list_size = max_allowed_table_size = 0

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def decode(self, data: bytes, raw: bool = False) -> list[Any]:
        self.calls.append((data, raw))
        return []

    def encode(self, headers: object) -> bytes:
        self.calls.append((headers,))
        return b"\x88"


def server(validate_outbound_headers: bool = True) -> Any:
    """A server's connection that has sent its settings."""
    config = pytest.importorskip("h2.config").H2Configuration(
        client_side=False,
        validate_inbound_headers=False,
        validate_outbound_headers=validate_outbound_headers,
    )
    made = pytest.importorskip("h2.connection").H2Connection(config)
    made.initiate_connection()
    made.data_to_send()
    return made


def request(*streams: int) -> bytes:
    """A client's preface, and a request on each stream."""
    config = pytest.importorskip("h2.config").H2Configuration(client_side=True)
    client = pytest.importorskip("h2.connection").H2Connection(config)
    client.initiate_connection()
    for stream in streams:
        client.send_headers(stream, HEADERS, end_stream=True)
    data: bytes = client.data_to_send()
    return data


def test_h2_decodes_by_its_attribute_decoder() -> None:
    connection, recorder = server(), Recorder()
    connection.decoder = recorder
    connection.receive_data(request(1))
    ((data, raw),) = recorder.calls
    assert data
    assert raw is True


def test_h2_encodes_by_its_attribute_encoder() -> None:
    connection, recorder = server(validate_outbound_headers=False), Recorder()
    connection.receive_data(request(1))
    connection.encoder = recorder
    connection.send_headers(1, [(b":status", b"200")], end_stream=True)
    assert len(recorder.calls) == 1
    assert connection.data_to_send().endswith(b"\x88")


def test_h2_judges_stream_numbers_by_its_attribute_highest_inbound_stream_id() -> None:
    errors = pytest.importorskip("h2.exceptions")
    connection = server()
    connection.receive_data(request(1))
    assert connection.highest_inbound_stream_id == 1
    connection.highest_inbound_stream_id = 9
    with pytest.raises(errors.StreamIDTooLowError):
        connection.receive_data(request(7)[len(request()) :])


def test_h2_keeps_the_window_in_its_attribute_outbound_flow_control_window() -> None:
    connection = server()
    connection.receive_data(request(1))
    before = connection.local_flow_control_window(1)
    connection.outbound_flow_control_window -= 1000
    assert connection.local_flow_control_window(1) == before - 1000


def test_h2_keeps_the_clients_window_in_a_manager_whose_most_can_be_changed() -> None:
    connection = server()
    manager = connection._inbound_flow_control_window_manager
    assert manager.max_window_size == manager.current_window_size == 65535
    manager.max_window_size += 65535
    connection.increment_flow_control_window(65535)
    assert manager.max_window_size == manager.current_window_size == 131070
    manager.window_consumed(100_000)
    manager.max_window_size -= 30_000
    assert not manager.process_bytes(-30_000)
    assert manager.process_bytes(100_000) == 70_000
    assert manager.current_window_size == manager.max_window_size == 101_070


def test_h2_reads_frames_by_its_attribute_incoming_buffer() -> None:
    connection = server()
    buffer = pytest.importorskip("h2.frame_buffer").FrameBuffer
    assert type(connection.incoming_buffer) is buffer
    connection.receive_data(request(1))
    connection.incoming_buffer = buffer(server=True)
    connection.receive_data(request(1)[:24])  # as at its beginning
    assert len(connection.streams) == 1


def test_h2_counts_streams_by_its_property_open_inbound_streams() -> None:
    h2 = pytest.importorskip("h2.connection")
    codes = pytest.importorskip("h2.settings").SettingCodes

    class Uncounted(h2.H2Connection):  # type: ignore[misc,name-defined]
        @property
        def open_inbound_streams(self) -> int:
            return 0

    config = pytest.importorskip("h2.config").H2Configuration(client_side=False)
    connection = Uncounted(config)
    connection.local_settings = pytest.importorskip("h2.settings").Settings(
        client=False, initial_values={codes.MAX_CONCURRENT_STREAMS: 1}
    )
    connection.initiate_connection()
    connection.receive_data(request(1, 3, 5))
    assert len(connection.streams) == 3
    assert isinstance(h2.H2Connection.open_inbound_streams, property)
    assert h2.H2Connection.MAX_CLOSED_STREAMS > 0


def test_hpack_which_comes_with_h2_has_the_tables_and_huffmans_code() -> None:
    decoder = pytest.importorskip("hpack").Decoder(100)
    table = decoder.header_table
    assert table.get_by_index(2) == (b":method", b"GET")
    table.add(b"a", b"b")
    assert table.get_by_index(62) == (b"a", b"b")
    assert decoder.max_allowed_table_size == decoder.header_table_size == 4096
    decoder.header_table_size = 0
    with pytest.raises(pytest.importorskip("hpack.exceptions").HPACKDecodingError):
        table.get_by_index(62)
    decode = pytest.importorskip("hpack.huffman_table").decode_huffman
    assert decode(b"\x18\xc7") == b"aaa"


# --- websockets, in clusterd/wire/websocket.py and clusterd/wire/upgrade.py


def test_websockets_compresses_frames_by_permessage_deflate() -> None:
    pair = (False, False, 12, 12)  # no context is given up, windows of 4 kB
    sender, receiver = PerMessageDeflate(*pair), PerMessageDeflate(*pair)
    text = b"again and again " * 100
    sent = sender.encode(Frame(Opcode.TEXT, text))
    assert len(sent.data) < len(text)
    frame = Frame(Opcode.TEXT, bytes(sent.data), True, True)
    assert bytes(receiver.decode(frame, max_size=len(text)).data) == text
    again = Frame(Opcode.TEXT, bytes(sender.encode(Frame(Opcode.TEXT, text)).data), True, True)
    with pytest.raises(PayloadTooBig):
        receiver.decode(again, max_size=10)


def test_websockets_masks_parses_and_accepts() -> None:
    assert apply_mask(b"abcdef", b"\1\2\3\4") == b"``" + b"``" + b"dd"
    assert accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3
    assert list(parse_subprotocol("chat, superchat")) == ["chat", "superchat"]
    assert parse_extension("x; a=1; b") == [("x", [("a", "1"), ("b", None)])]
    assert build_extension([("x", [("a", "1")])]) == "x; a=1"  # type: ignore[list-item]
    assert Close.parse(b"\x03\xe8bye").reason == "bye"


# --- uvloop, in clusterd/worker/accept.py


def test_uvloop_takes_a_descriptor_that_only_looks_like_a_socket() -> None:
    """And its coroutine can be driven by hand: it yields one future, whose end makes it end."""
    loop = uvloop.new_event_loop()
    ours, theirs = socket.socketpair()
    fd, family = ours.detach(), theirs.family

    class Greeting(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            transport.write(b"hello")
            transport.close()

    try:
        coroutine: Any = loop.connect_accepted_socket(Greeting, Accepted(fd, family))  # type: ignore[arg-type]
        future = coroutine.send(None)
        ended = loop.create_future()
        future.add_done_callback(ended.set_result)
        loop.run_until_complete(ended)
        with pytest.raises(StopIteration):
            coroutine.send(None)
        theirs.setblocking(False)
        assert loop.run_until_complete(loop.sock_recv(theirs, 5)) == b"hello"
        assert loop.run_until_complete(loop.sock_recv(theirs, 5)) == b""
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    finally:
        loop.close()
        theirs.close()


# --- hdrhistogram, in clusterd/bench/histogram.py


def test_hdrhistogram_tells_its_counts() -> None:
    kind = pytest.importorskip("hdrh.histogram").HdrHistogram
    made = kind(1, 3_600_000_000, 2)
    made.record_value(100_000, 3)
    counts = made.encoder.payload.counts
    index = next(number for number, count in enumerate(counts) if count)
    assert counts[index] == 3
    assert made.get_counts_array_index(made.max_value) == index
    low, middle = made.get_value_from_index(index), made._hdr_median_equiv_value(100_000)
    assert low <= 100_000
    assert low < middle
