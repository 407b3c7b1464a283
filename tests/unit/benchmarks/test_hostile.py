"""The attack of the benchmark: all kinds, within its bounds, and a fair count of what it costs."""

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks import attack
from benchmarks.environment import Environment
from benchmarks.scenarios import hostile
from benchmarks.session import Session
from tests.support.hostile import KINDS


class Client:
    """A hostile client without a connection, which sends whatever it may."""

    def __init__(self, fd: int = 0) -> None:
        self.fd = fd
        self.sent = 0

    def attack(self, most: int) -> int:
        self.fd = 0
        self.sent += most
        return most

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        self.fd = -1


def test_all_kinds_are_measured_and_their_mix() -> None:
    """Those of the tests of the memory budget, which cannot be read without h2."""
    assert set(hostile.KINDS) == {*KINDS, attack.ANY}
    assert len(attack.gather(1, attack.ANY, 20)) == 20
    assert hostile.INNOCENT == attack.INNOCENT


def test_no_more_bytes_are_sent_than_allowed_and_by_all_in_turn() -> None:
    clients = [Client() for _ in range(10)]
    order = itertools.cycle(clients)
    for _ in range(4):
        assert attack.take_turns(order, 10, 5 * attack.PIECE // 2) == 5 * attack.PIECE // 2
    assert [client.sent * 2 // attack.PIECE for client in clients] == [4, 3, 1, 2, 2, 1, 2, 2, 1, 2]


def test_no_more_connections_are_made_than_allowed() -> None:
    clients = [Client(fd=-1) for _ in range(100)]
    attack.take_turns(itertools.cycle(clients), 100, 2**40)
    assert sum(client.fd >= 0 for client in clients) == attack.CONNECTS * attack.PART


def test_what_the_server_has_closed_is_connected_anew() -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    (_, gone), (_, half), (_, serving) = pairs
    clients = [Client(mine.fileno()) for mine, _ in pairs]
    gone.close()
    half.shutdown(socket.SHUT_WR)  # it lingers, and has said its last
    serving.sendall(b"HTTP/1.1 200 OK")
    kept = clients[2].fd
    attack.drop_closed([*clients, Client(-1)])
    assert [client.fd for client in clients] == [-1, -1, kept]
    for sock in itertools.chain(*pairs):
        sock.close()


@pytest.fixture
def server() -> Iterator[tuple[int, list[bytes]]]:
    """A server of one thread that sends these responses, and then 200 for ever."""
    responses: list[bytes] = []
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(sock: socket.socket) -> None:
            with sock:
                while sock.recv(65536):
                    response = responses.pop(0) if responses else good
                    sock.sendall(response)
                    if b"close" in response:
                        break

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1], responses
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_each_request_counts_and_those_that_failed(server: tuple[int, list[bytes]]) -> None:
    port, responses = server
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    responses += [good] * 10 + [busy] * 3
    p99, failed = hostile.ask(port, 0.3)
    assert p99 > 0
    assert failed == 3 / (hostile.CLIENTS * int(0.3 * hostile.EACH))


def test_without_h2_nothing_is_measured() -> None:
    outcome = hostile.run(Session(Environment("python", {}), (), rounds=1, smoke=False))
    assert not outcome.samples
    assert not outcome.figures
    assert "h2" in outcome.notes[0]
