"""Stops under load: every request that was accepted gets its response, and the stop is short.

Of 24 clients of an app that blocks, most wait at any time in a worker or in the accept queue.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.authority import Authority
from tests.support.crowd import Address, Crowd
from tests.support.http2_client import Load as Http2Load
from tests.support.network import needs_ipv6
from tests.support.ordinary import Unavailable, as_ordinary_user
from tests.support.secure import PAIR
from tests.support.server import APPS, LIMIT, Server, serving

try:
    as_ordinary_user()
    unavailable = ""
except Unavailable as error:
    unavailable = str(error)
needs_another_user = pytest.mark.skipif(bool(unavailable), reason=unavailable or "it can be had")
CUT = "requests were cut off"  # what a worker logs whose graceful timeout is over


@contextlib.contextmanager
def serving_file(place: Path, text: str) -> Iterator[Server]:
    """A cluster whose addresses are those of its clusterd.toml."""
    (place / "clusterd.toml").write_text(text)
    server = Server(place, "", "--min-ready", "0", from_file=True)
    try:
        yield server.ready()
        if server.process.poll() is None:
            assert server.stop() == 0, server.history()
    finally:
        server.dispose()


def judge(crowd: Crowd, server: Server) -> None:
    """None failed, and the stop did not wait for its timeout."""
    crowd.join()
    assert crowd.failed == [], server.history()
    assert CUT not in server.log()


def test_a_stop_fails_no_keep_alive_client(tmp_path: Path) -> None:
    with serving(tmp_path, "slow:app") as server, Crowd(server.address) as crowd:
        crowd.until(lambda answered: answered >= 48)
        assert server.stop() == 0
        judge(crowd, server)


def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    context = authority.client()
    with (
        serving(tmp_path, "slow:app", *PAIR) as server,
        Crowd(server.address, context=context) as crowd,
    ):
        crowd.until(lambda answered: answered >= 48)
        assert server.stop() == 0
        judge(crowd, server)


def test_over_http2(tmp_path: Path) -> None:
    """Each client asks on elsewhere when it is told to, until it is refused."""
    with serving(tmp_path, "slow:app") as server:
        clients = [Http2Load(server.address, most=1) for _ in range(24)]
        for client in clients:
            client.start()
        for client in clients:
            client.until_answered()
        assert server.stop() == 0
        for client in clients:
            client.join(LIMIT)
            assert isinstance(client.error, ConnectionRefusedError), client.error
        assert CUT not in server.log()


def test_over_websockets(tmp_path: Path) -> None:
    """Each hears that the server is going away (1001), in an orderly close."""
    with serving(tmp_path, "slow:app") as server:
        host, port = server.address
        ends: list[int | None] = []
        begun = threading.Semaphore(0)

        def talk() -> None:
            with connect(f"ws://{host}:{port}/", open_timeout=LIMIT) as client:
                try:
                    while True:
                        client.send("here")
                        assert client.recv(LIMIT) == "here"
                        begun.release()
                except ConnectionClosed as closed:
                    ends.append(closed.rcvd.code if closed.rcvd else None)

        threads = [threading.Thread(target=talk) for _ in range(24)]
        for thread in threads:
            thread.start()
        for _ in range(48):
            assert begun.acquire(timeout=LIMIT)
        assert server.stop() == 0
        for thread in threads:
            thread.join(LIMIT)
        assert ends == [1001] * 24
        assert CUT not in server.log()


def test_over_a_unix_socket(tmp_path: Path) -> None:
    place = f"/tmp/clusterd-stops-{os.getpid()}"
    with serving(tmp_path, "slow:app", "-b", f"unix:{place}") as server, Crowd(place) as crowd:
        crowd.until(lambda answered: answered >= 48)
        assert server.stop() == 0
        judge(crowd, server)


def test_a_stop_that_ends_a_pause(tmp_path: Path) -> None:
    """Whoever waits in the queue by then is served by one more worker."""
    with serving(tmp_path, "slow:app") as server, Crowd(server.address) as crowd:
        crowd.until(lambda answered: answered >= 48)
        server.ask("pause")
        for _ in server.find("readied"):  # in any order
            server.event("exited")
        assert server.stop() == 0
        judge(crowd, server)


def test_a_stop_after_all_workers_were_killed(tmp_path: Path) -> None:
    """What their clients had in hand is lost; those that wait in the queue are served."""
    with serving(tmp_path, "slow:app") as server:
        os.kill(server.pid, signal.SIGSTOP)  # so that it starts no other before it is to stop
        for worker in server.find("readied"):
            os.kill(worker["pid"], signal.SIGKILL)
        with Crowd(server.address, clients=8) as crowd:
            crowd.until_waiting(8)
            server.signal(signal.SIGTERM)
            os.kill(server.pid, signal.SIGCONT)
            assert server.wait() == 0
            judge(crowd, server)
            assert crowd.answered >= 8


def test_the_death_of_the_master(tmp_path: Path) -> None:
    with serving(tmp_path, "slow:app") as server, Crowd(server.address) as crowd:
        crowd.until(lambda answered: answered >= 48)
        server.process.kill()
        server.process.wait()
        judge(crowd, server)


def bound_to(family: str) -> str:
    return f"unix:/tmp/clusterd-stops-{os.getpid()}" if family == "unix" else f"{family}:0"


def addresses(server: Server) -> list[Address]:
    """Where clients reach it: a socket of both families by either."""
    (found,) = server.find("listening")
    host, _, port = found["address"].rpartition(":")
    if host == "unix":
        return [port]
    if host == "[::]":
        return [("127.0.0.1", int(port)), ("::1", int(port))]
    return [(host.strip("[]"), int(port))]


def stop_under_load(place: Path, family: str) -> None:
    """Twelve clients keep their connections, twelve make a new one for each request."""
    options = ("-w", "2", "--min-ready", "0", "-b", bound_to(family))
    server = Server(place, "slow:app", *options, ordinary=True)
    try:
        server.ready()
        with contextlib.ExitStack() as stack:
            ways = [(where, keep) for where in addresses(server) for keep in (True, False)]
            crowds = [
                stack.enter_context(Crowd(where, 24 // len(ways), keep=keep))
                for where, keep in ways
            ]
            for crowd in crowds:
                crowd.until(lambda answered: answered >= 12)
            assert server.stop() == 0
            for crowd in crowds:
                judge(crowd, server)
        assert not server.find("trouble")
    finally:
        server.dispose()


IPV6 = [pytest.param(host, marks=needs_ipv6) for host in ("[::1]", "[::]")]
FAMILIES = ["127.0.0.1", *IPV6, "unix"]


@needs_another_user
@pytest.mark.parametrize("family", FAMILIES)
def test_as_a_user_without_any_right(tmp_path: Path, family: str) -> None:
    stop_under_load(tmp_path, family)


@needs_another_user
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("family", FAMILIES)
def test_twenty_times_as_a_user_without_any_right(tmp_path: Path, family: str) -> None:
    for _ in range(20):
        stop_under_load(tmp_path, family)


@needs_another_user
def test_a_failed_start_as_such_a_user_warns_of_nothing(tmp_path: Path) -> None:
    """It has served no client."""
    server = Server(tmp_path, "tell:missing", "-w", "1", ordinary=True)
    try:
        assert server.wait() == 3
        assert "may be reset" not in server.log()
    finally:
        server.dispose()


def test_the_removal_of_a_group(tmp_path: Path) -> None:
    web = '[web]\napp = "tell:app"\nbind = ["127.0.0.1:0"]\nworkers = 1\n'
    shop = f'[group.shop]\napp = "slow:app"\napp_dir = "{APPS}"\nworkers = 2\n'
    with serving_file(tmp_path, f'{web}{shop}bind = ["127.0.0.1:0"]\n') as server:
        (found,) = server.find("listening", group="shop")
        host, _, port = found["address"].rpartition(":")
        with Crowd((host, int(port))) as crowd:
            crowd.until(lambda answered: answered >= 48)
            (tmp_path / "clusterd.toml").write_text(web)
            server.ask("reload")
            server.event("group_removed", group="shop")
            judge(crowd, server)


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_reload_that_takes_an_address_away(tmp_path: Path, unix: bool) -> None:
    place = f"unix:/tmp/clusterd-stops-{os.getpid()}"
    extra = place if unix else "127.0.0.1:0"
    web = '[web]\napp = "slow:app"\nworkers = 2\nbind = ["127.0.0.2:0"'
    with serving_file(tmp_path, f'{web}, "{extra}"]\n') as server:
        (found,) = (e for e in server.find("listening") if "127.0.0.2" not in e["address"])
        host, _, port = found["address"].rpartition(":")
        address = port if unix else (host, int(port))
        with Crowd(address, keep=False) as crowd:  # kept connections are handed on
            crowd.until(lambda answered: answered >= 48)
            (tmp_path / "clusterd.toml").write_text(f"{web}]\n")
            server.ask("reload")
            server.event("unbound")
            judge(crowd, server)
