"""The load generator judges what it gets: whole answers only, their status, who closes."""

import socket
import threading

import pytest

from benchmarks import load

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"


def test_an_answer_is_whole_only_with_its_last_byte() -> None:
    """Cut anywhere, it is not an answer yet."""
    assert all(load.parse(WHOLE[:size]) is None for size in range(len(WHOLE)))
    assert load.parse(WHOLE) == load.Answer(200, b"hello", len(WHOLE), stays=False)


def test_an_answer_without_a_length_is_an_error() -> None:
    """Guessing where an answer ends would count requests that were never answered."""
    with pytest.raises(ValueError, match="without a length"):
        load.parse(b"HTTP/1.1 200 OK\r\n\r\n")


def test_a_refused_connection_is_reported_and_not_hidden() -> None:
    """A crowd tells that nobody listens as a report with the error's name."""
    with socket.create_server((load.HOST, 0)) as sock:
        port = sock.getsockname()[1]
    with load.Crowd(port) as crowd:
        conn = crowd.connect()
        crowd.ask(conn, load.request())
        [report] = crowd.turn(5.0)
    assert (report.conn, report.answer, report.error) == (conn, None, "ECONNREFUSED")
    assert conn.waiting


def test_a_hang_up_in_mid_answer_is_no_answer() -> None:
    """Half an answer and then the end of the connection is reported as closed."""

    def serve(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(WHOLE[:-2])

    with (
        socket.create_server((load.HOST, 0)) as listener,
        load.Crowd(listener.getsockname()[1]) as crowd,
    ):
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        crowd.ask(crowd.connect(), load.request())
        reports: list[load.Report] = []
        while not reports:
            reports.extend(crowd.turn(5.0))
        server.join()
    assert [(report.answer, report.error) for report in reports] == [(None, "EOF")]
