"""Clients in a closed loop know when an answer is whole, however it is cut, and what it says."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from benchmarks import load
from benchmarks.clients import Ask, Clients, text_frame, upgrade

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
RECUT = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


@contextmanager
def answering(wanted: bytes, answers: Sequence[bytes], cut: int = 0) -> Iterator[int]:
    """A server of one connection, which answers each request with the next answer."""

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for answer in answers:
                size = len(upgrade()) if answer is SWITCH else len(wanted)
                if len(peer.recv(size, socket.MSG_WAITALL)) < size:
                    return
                for piece in (answer[:cut], answer[cut:]):
                    if piece:
                        peer.sendall(piece)

    with socket.create_server((load.HOST, 0)) as listener:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        yield listener.getsockname()[1]
        server.join()


@pytest.mark.parametrize("answer", [SIZED, CHUNKED])
def test_a_cut_answer_is_one_answer(answer: bytes) -> None:
    """Wherever the bytes of an answer part, it is counted once, and the next is asked for."""
    wanted = load.request("/", body=b"x" * 10)
    for cut in range(1, len(answer)):
        with answering(wanted, [answer] * 4, cut) as port, Clients(port, Ask(wanted), 1) as clients:
            assert clients.saturate(3) == 3


def test_chunks_may_be_cut_otherwise_each_time() -> None:
    """The end of a chunked answer is its last chunk, not a number of bytes."""
    wanted = load.request()
    answers = [CHUNKED, RECUT, CHUNKED, RECUT]
    with answering(wanted, answers) as port, Clients(port, Ask(wanted), 1) as clients:
        assert clients.saturate(3) == 3


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([SIZED, SIZED.replace(b"200", b"500")], ValueError),
        ([SIZED, SIZED + b"more"], ConnectionResetError),
        ([SIZED, SIZED[:-1]], ConnectionResetError),
        ([SIZED.replace(b"200", b"500")], ValueError),
        ([CHUNKED, CHUNKED[:-1]], ConnectionResetError),
        ([SWITCH, SIZED], ValueError),
    ],
)
def test_what_is_no_proper_answer_ends_the_run(
    answers: list[bytes], error: type[Exception]
) -> None:
    """A cost per request means nothing where requests failed."""
    wanted = load.request()
    opening = upgrade() if answers[0] is SWITCH else b""

    def ask_twice(port: int) -> None:
        with Clients(port, Ask(wanted, opening), 1) as clients:
            clients.saturate(1)
            clients.saturate(1)

    with answering(wanted, answers) as port, pytest.raises(error):
        ask_twice(port)


def test_a_websocket_is_opened_and_its_frames_are_counted() -> None:
    """After the handshake, a message is answered by a frame."""
    wanted = text_frame(b"hello")
    echo = b"\x81\x05hello"
    with (
        answering(wanted, [SWITCH, echo, echo, echo]) as port,
        Clients(port, Ask(wanted, upgrade()), 1) as clients,
    ):
        assert clients.saturate(2) == 2


@pytest.mark.parametrize("size", [0, 5, 125, 126, 300])
def test_frames_of_a_client_are_masked(size: int) -> None:
    """RFC 6455 §5.2: length, mask, and the payload under it."""
    payload = bytes(number % 251 for number in range(size))
    frame = text_frame(payload)
    extended = 2 if size > 125 else 0
    assert frame[0] == 0x81
    assert frame[1] == 0x80 | (126 if extended else size)
    assert not extended or int.from_bytes(frame[2:4]) == size
    mask = frame[2 + extended : 6 + extended]
    masked = frame[6 + extended :]
    assert bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked)) == payload
