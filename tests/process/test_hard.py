"""A real worker under hostile apps and hostile clients: it answers others meanwhile, in bounded
memory, and is the same worker afterwards."""

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import LIMIT, Server, serving
from tests.unit.worker.nonsense import CLOSED, CUT, SECRET, TABLE, WHOLE
from tests.unit.worker.test_hard_answers import is_whole

MIB = 1024 * 1024
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LONG = b"POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
CHUNKED = b"POST /reads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def connect(server: Server) -> socket.socket:
    return socket.create_connection(server.address, timeout=LIMIT)


def everything(sock: socket.socket) -> bytes:
    """All that comes, up to the end or a reset."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(1 << 16):
            data += piece
    return data


def the_worker(server: Server) -> int:
    (worker,) = server.workers()
    return int(worker["pid"])


@pytest.fixture(scope="module")
def nonsense(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("nonsense")
    # Some of its apps would never end.
    with serving(place, "nonsense:app", "--graceful-timeout", "1", workers=1) as server:
        yield server


def test_no_nonsense_of_an_app_costs_a_worker(nonsense: Server) -> None:
    """Every row of the table over a socket: one 500 or a cut connection, and nothing told."""
    before = the_worker(nonsense)
    wrong = []
    for number, (name, (_, wanted)) in enumerate(TABLE.items()):
        with connect(nonsense) as sock:
            sock.sendall(b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % number)
            answer = everything(sock)
        status = answer[9:12].decode()
        if wanted in (WHOLE, CLOSED):
            fine = status in ("200", "204", "304") and is_whole(answer)
        elif wanted == CUT:
            fine = status in ("200", "") and not is_whole(answer)
        else:
            fine = status == wanted and is_whole(answer)
        if not fine or SECRET.encode() in answer or b"Traceback" in answer:
            wrong.append((name, wanted, answer[:200]))
    assert wrong == []
    assert the_worker(nonsense) == before


def rss(pid: int) -> int:
    """Bytes of memory (proc(5), statm)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def pushed(sock: socket.socket, first: bytes, more: bytes) -> int:
    """Bytes that can be sent until nobody takes any more for a while."""
    sock.sendall(first)
    sock.settimeout(0.3)
    count = 0
    with contextlib.suppress(TimeoutError, ConnectionError):  # it may be given up, too
        while count < 1024 * MIB:
            count += sock.send(more)
    return count


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"POST /waits HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n", bytes(65536)),
        (CHUNKED.replace(b"reads", b"waits"), b"8000\r\n" + bytes(32768) + b"\r\n"),
        (CHUNKED.replace(b"reads", b"waits"), b"1\r\nx\r\n" * 10_000),
        (GET.replace(b"/", b"/waits", 1), GET * 2000),
        (b"", GET * 2000),  # which answers, that are never read
        (b"GET /streams HTTP/1.1\r\nHost: a\r\n\r\n", GET * 2000),
    ],
    ids=["body", "chunks", "tiny chunks", "pipeline", "unread answers", "unread stream"],
)
def test_who_sends_on_is_held_back(nonsense: Server, first: bytes, more: bytes) -> None:
    """To an app that does not read, or without reading its answers: the worker takes little of it,
    the rest stays with the sender. (Four at once, so that what each costs would be seen.)"""
    pid = the_worker(nonsense)
    before = rss(pid)
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            sock = stack.enter_context(connect(nonsense))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            assert pushed(sock, first, more) < 64 * MIB
        assert rss(pid) - before < 12 * MIB
        assert nonsense.get()
    assert the_worker(nonsense) == pid


FAST = ("--header-timeout", "1", "--body-timeout", "1", "--write-timeout", "1", "--keep-alive", "4")
SLOW = {
    "silence": (b"", b""),
    "half a head": (b"GET / HTTP/1.1\r\nHo", b"408"),
    "a stalled body": (LONG + b"abc", b"408"),
    "half a chunk-size line": (CHUNKED + b"3;a=", b"408"),
    "half a chunk": (CHUNKED + b"3\r\na", b"408"),
    "half a trailer": (CHUNKED + b"0\r\nA: ", b"408"),
    "an idle connection": (GET, b"200"),
    "a refused one": (b"\0", b"400"),
}


def test_every_phase_ends_by_itself(tmp_path: Path) -> None:
    """Each of them under a clock of its own; also an answer that nobody takes."""
    with (
        serving(tmp_path, "nonsense:app", *FAST, workers=1) as server,
        contextlib.ExitStack() as all_,
    ):
        deaf = all_.enter_context(connect(server))
        deaf.sendall(b"GET /streams HTTP/1.1\r\nHost: a\r\n\r\n")
        slow = {name: all_.enter_context(connect(server)) for name in SLOW}
        for name, (data, _) in SLOW.items():
            slow[name].sendall(data)
        for name, (_, status) in SLOW.items():
            assert everything(slow[name])[9:12] == status, name
        # By now the answer's deadline has passed: what is left of it is in our kernel.
        assert len(everything(deaf)) < 256 * MIB
        assert server.get()


def test_a_flood_of_silent_connections_starves_nobody(tmp_path: Path) -> None:
    """At the cap of 20 the silent go first: five hundred of them, and all others are served."""
    with (
        serving(tmp_path, "nonsense:app", "--max-connections", "20", workers=1) as server,
        contextlib.ExitStack() as flood,
    ):
        pid = the_worker(server)
        kept = server.connect()
        for number in range(500):
            flood.enter_context(connect(server))
            if number % 10 == 0:
                assert server.get()
            if number % 25 == 0:
                assert server.get(connection=kept)
        kept.close()
        assert the_worker(server) == pid


def test_a_crowd_of_idle_connections_gives_way(tmp_path: Path) -> None:
    """Thirty browsers with a connection kept each, at a cap of ten: the newest are kept."""
    with serving(tmp_path, "nonsense:app", "--max-connections", "10", workers=1) as server:
        crowd = [server.connect() for _ in range(30)]
        for browser in crowd:
            assert server.get(connection=browser)
        assert all(server.get(connection=browser) for browser in itertools.islice(crowd, 25, 30))
        for browser in crowd:
            browser.close()


def test_who_finds_no_room_is_told_so(tmp_path: Path) -> None:
    """Two requests in hand at a cap of two: others get 503 and when to come again, and no reset
    that would take the answer along, although nobody has read what they asked."""
    options = ("--max-connections", "2", "--graceful-timeout", "1")
    with (
        serving(tmp_path, "nonsense:app", *options, workers=1) as server,
        connect(server) as one,
        connect(server) as two,
    ):
        one.sendall(LONG.replace(b"reads", b"waits"))
        two.sendall(LONG.replace(b"reads", b"waits"))
        for size in (0, 100, 5000):
            for _ in range(20):
                with connect(server) as third:
                    third.sendall(GET[:-2] + b"X: " + b"y" * size + b"\r\n\r\n")
                    answer = everything(third)
                assert answer.startswith(b"HTTP/1.1 503 "), answer
                assert b"\r\nretry-after: 1\r\n" in answer
