"""How connections come to stand and go, over real sockets: TLS, Unix sockets, refusals, waits."""

import errno
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic_ns

import pytest

from clusterd.bench.closed import Closed
from clusterd.bench.connection import FIRST_WAIT, LONGEST_WAIT
from clusterd.bench.dialer import Dialer
from clusterd.bench.errors import Unreachable
from clusterd.bench.http import FreshConnection, HttpConnection
from clusterd.bench.interval import Interval
from clusterd.bench.load import Load, Request, Target
from clusterd.bench.plan import made
from tests.support.authority import Authority
from tests.unit.bench.answering import OK, Answer, Server
from tests.unit.bench.stage import Stage, plan

LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000


class Client:
    """A closed loop with one connection."""

    def __init__(
        self, target: Target, load: Load | None = None, kind: type[HttpConnection] = HttpConnection
    ) -> None:
        self.said: list[Interval] = []
        self.loop = Closed(30.0, self.said.append)
        load = load or Load()
        self.connection = kind(self.loop, Dialer(target), made(target, load, seed=1))
        self.there = self.loop.gather([self.connection], 10.0)

    def drive(self, seconds: float = 0.05) -> None:
        self.loop.drive(monotonic_ns(), seconds)

    def stop_at(self, last: int, number: int) -> bytes:
        """Return the response to request `number`; before the last one the run is stopped.

        The server's thread stops the loop itself. A timer would be too late where the loop waits
        already, for it sends the next request as soon as it has this response.
        """
        if number >= last:
            self.loop.stop()
        return OK

    def close(self) -> None:
        self.connection.close()
        self.loop._epoll.close()

    @property
    def requests(self) -> int:
        return sum(one.requests for one in self.said)

    @property
    def errors(self) -> dict[str, int]:
        return dict(sum((Counter(one.errors) for one in self.said), Counter[str]()))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


Serve = Callable[[Answer], Server]
Reach = Callable[..., Client]


@pytest.fixture
def secure(authority: Authority) -> Iterator[Serve]:
    """Starts servers that speak TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("server", "localhost"))
    servers: list[Server] = []

    def serve(answer: Answer) -> Server:
        servers.append(Server(answer, context))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
def reach(secure: Serve) -> Iterator[Reach]:
    """Makes clients, which go before the servers do."""
    clients: list[Client] = []

    def reach(
        target: Target, load: Load | None = None, kind: type[HttpConnection] = HttpConnection
    ) -> Client:
        clients.append(Client(target, load, kind))
        return clients[-1]

    yield reach
    for client in clients:
        client.close()


def trusting(server: Server, authority: Authority) -> Target:
    return Target("https", "localhost", server.port, ca_file=authority.path)


@pytest.mark.parametrize("kind", [HttpConnection, FreshConnection])
def test_requests_under_tls(
    secure: Serve, reach: Reach, authority: Authority, kind: type[HttpConnection]
) -> None:
    server = secure(lambda number: client.stop_at(3, number))
    client: Client = reach(trusting(server, authority), Load(fresh=kind is FreshConnection), kind)
    client.drive(60)

    assert client.errors == {}
    assert client.requests in (2, 3)
    assert server.requests == 3
    assert (server.connections > 1) is (kind is FreshConnection)


def test_what_is_larger_than_a_record_comes_and_goes_under_tls(
    secure: Serve, reach: Reach, authority: Authority
) -> None:
    """Nothing is left in OpenSSL that no event would tell of."""
    server = secure(lambda number: LARGE if client.stop_at(3, number) else None)
    load = Load(requests=(Request(method="POST", body=b"x" * 3_000_000),))
    client: Client = reach(trusting(server, authority), load)
    client.drive(60)

    assert client.errors == {}
    assert sum(one.bytes for one in client.said) == client.requests * len(LARGE) > 0


def test_a_certificate_that_is_not_trusted_is_an_error_of_its_own(
    secure: Serve, reach: Reach
) -> None:
    client = reach(secure(lambda _number: OK).target)

    assert client.there == 0
    assert client.loop.tally.errors.keys() == {"tls"}
    assert "authority" in client.loop.tally.texts["tls"]


def test_one_that_is_not_looked_at_is_fine(secure: Serve, reach: Reach) -> None:
    server = secure(lambda number: client.stop_at(2, number))
    client: Client = reach(Target("https", "localhost", server.port, verify=False))
    client.drive(60)

    assert client.errors == {}
    assert client.requests > 0


def test_a_server_without_tls_is_told_as_such(reach: Reach) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            end, _ = listener.accept()
            with end:
                end.recv(65536)
                end.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        client = reach(Target("https", "localhost", listener.getsockname()[1]))
        thread.join()

    assert client.there == 0
    assert client.loop.tally.errors.keys() == {"tls"}
    assert "does not speak TLS" in client.loop.tally.texts["tls"]


def test_a_socket_of_the_file_system(reach: Reach, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    target = Target("http", "localhost", 0, unix=path)
    client = reach(target)
    assert client.there == 0
    assert client.loop.tally.errors.keys() == {"connect"}

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        assert reach(target).there == 1


def test_a_full_queue_of_such_a_socket_is_waited_for(reach: Reach, tmp_path: Path) -> None:
    """The kernel says so at once, where of TCP it would ask again by itself."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(path)
            client = reach(
                Target("http", "localhost", 0, unix=path), Load(fresh=True), FreshConnection
            )
            client.loop.later(monotonic_ns() + 20_000_000, lambda: listener.accept()[0].close())
            client.drive()
            assert client.errors == {}
            assert client.loop.tally.sent == 1


def test_a_name_that_nobody_has_is_told() -> None:
    with pytest.raises(Unreachable, match="cannot be resolved"):
        Dialer(Target("http", "nobody.invalid", 80))


def test_of_several_addresses_the_one_that_is_served_is_taken(reach: Reach) -> None:
    """`localhost` is often two, of which the first is not served."""
    server = Server(lambda _number: OK)
    client = reach(Target("http", "localhost", server.port))
    assert client.there == 1
    client.close()
    server.close()


def test_fruitless_connections_wait_longer_each_time() -> None:
    stage = Stage()
    client = HttpConnection(stage, stage.dialer, plan())
    client.dial()
    stage.turn()
    waits: list[int] = []
    for _ in range(12):
        client.ask(due=1, now=2)
        stage.heard()
        stage.hangs_up()
        if stage.times:
            waits.append(round(stage.due() / 1e6))
    assert len(stage.peers) == 13
    assert waits[:5] == [5, 10, 20, 40, 80]
    assert waits[-1] == LONGEST_WAIT // 1_000_000
    assert FIRST_WAIT == 5_000_000
    stage.close()


def test_a_port_that_we_do_not_have_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def dial() -> socket.socket:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    stage = Stage()
    monkeypatch.setattr(stage, "dial", dial)
    HttpConnection(stage, stage.dialer, plan()).dial()
    stage.due()
    assert stage.tally.errors == {"limit": 1}
    assert "no port is left" in stage.tally.texts["limit"]
    stage.close()


def test_who_gave_up_on_a_full_queue_does_not_try_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would connect while nothing is asked, and send what nobody waits for."""
    tried = 0

    def dial() -> socket.socket:
        nonlocal tried
        tried += 1
        raise BlockingIOError

    stage = Stage()
    monkeypatch.setattr(stage, "dial", dial)
    client = FreshConnection(stage, stage.dialer, plan())
    client.ask(due=1, now=2)
    client.expired()
    stage.due()
    assert tried == 1
    assert stage.tally.errors == {"timeout": 1}
    client.ask(due=3, now=4)
    stage.due()
    assert tried == 3
    stage.close()


def test_an_answer_makes_up_for_them() -> None:
    stage = Stage()
    client = HttpConnection(stage, stage.dialer, plan())
    client.dial()
    stage.turn()
    for _ in range(5):
        client.ask(due=1, now=2)
        stage.heard()
        stage.says(OK)
        stage.hangs_up()
        assert not stage.times  # again at once
    assert stage.tally.errors == {}
    stage.close()
