"""Sockets that we are started with: found by name, by number and by address; ours come back."""

import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusterd.config.address import Fd, Tcp, Unix, parse_bind
from clusterd.config.serving import ListenSettings
from clusterd.core.errors import BindError
from clusterd.kernel.filters import refuse_newcomers
from clusterd.master.activation import Luggage, Passed, label, read_label, take
from clusterd.master.listener import Listener, listen
from clusterd.master.sockets import Sockets
from clusterd.master.store import Store
from tests.support.network import needs_ipv6
from tests.support.simulated import simulated

Bound = Callable[..., socket.socket]


@pytest.fixture
def bound() -> Iterator[Bound]:
    """Makes listening sockets, and closes what is left of them."""
    made: list[socket.socket] = []

    def bind(where: str | tuple[str, int] = ("127.0.0.1", 0), queue: int = 8) -> socket.socket:
        family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
        sock = socket.socket(family)
        made.append(sock)
        sock.bind(where)
        sock.listen(queue)
        return sock

    yield bind
    for sock in made:
        sock.close()


def passed(sock: socket.socket, name: str = "web", number: int = 3) -> Passed:
    listener, inode = read_label(name) or ("", 0)
    return Passed(sock, number, name, listener, inode)


def close(*listeners: Listener) -> None:
    for one in listeners:
        one.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "1", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "1"},
    ],
    ids=["nothing", "for-somebody-else", "nonsense", "for-nobody"],
)
def test_what_is_not_for_us_is_left_alone(environ: dict[str, str]) -> None:
    before = dict(environ)
    assert list(take(environ, os.getpid())) == []
    assert environ == before


def test_an_address_that_is_bound_already_is_taken_over(bound: Bound) -> None:
    sock = bound()
    where = Tcp(*sock.getsockname())
    luggage = Luggage([passed(sock)])
    (one,) = listen(where, 8, luggage)
    assert (one.sock, one.name, one.inherited) == (sock, str(where), True)
    assert list(luggage) == []


def test_an_address_of_another_port_is_bound_and_the_socket_left(bound: Bound) -> None:
    luggage = Luggage([passed(bound())])
    (one,) = listen(Tcp("127.0.0.1", 0), 8, luggage)
    assert not one.inherited
    assert len(list(luggage)) == 1
    close(one)


@needs_ipv6
def test_a_socket_of_all_addresses_serves_as_that_of_ipv4() -> None:
    """`ListenStream=8000` makes such a one, systemd.socket(5)."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        port = both.getsockname()[1]
        (one,) = listen(Tcp("0.0.0.0", port), 8, Luggage([passed(both)]))
        assert one.sock is both
    with socket.socket() as held:  # bound and not listening, so that nobody else has the port
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("0.0.0.0", 0))
        port = held.getsockname()[1]
        with socket.create_server(("::", port), family=socket.AF_INET6) as only:
            (one,) = listen(Tcp("0.0.0.0", port), 8, Luggage([passed(only)]))
            assert one.sock is not only
            close(one)


def test_a_socket_file_is_found_whatever_links_lead_to_it(bound: Bound, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    sock = bound(str(tmp_path / "real/s"))
    (one,) = listen(Unix(str(tmp_path / "link/s")), 8, Luggage([passed(sock)]))
    assert one.sock is sock
    one.close()
    assert (tmp_path / "real/s").exists(), "it is systemd's to remove"


def test_by_a_name_come_all_that_have_it_and_by_a_number_one(bound: Bound) -> None:
    first, second, third = bound(), bound(), bound()
    luggage = Luggage([passed(first), passed(second, number=4), passed(third, "admin", 5)])
    assert luggage.binds == ("fd:web", "fd:admin")
    found = listen(Fd(name="web", tls=False), 8, luggage)
    assert [one.sock for one in found] == [first, second]
    assert found[0].name == f"127.0.0.1:{first.getsockname()[1]},tls=off"
    assert [one.sock for one in listen(Fd(5), 8, luggage)] == [third]
    with pytest.raises(BindError, match="no socket of this name"):
        listen(parse_bind("fd:web"), 8, luggage)


@pytest.mark.parametrize("name", ["127.0.0.1:80#3", "[::1]:80,tls=off", "unix:/tmp/é ü:;%,s"])
@pytest.mark.parametrize("inode", [0, 77])
def test_the_name_of_one_of_ours_is_read_as_it_was_written(name: str, inode: int) -> None:
    text = label(name.replace(";", ""), inode)
    assert text is not None
    assert text.isascii()
    assert text.isprintable()
    assert ":" not in text
    assert read_label(text) == (name.replace(";", ""), inode)


def test_a_name_that_is_too_long_for_systemd_is_none() -> None:
    assert label("unix:/" + "ü" * 50, 1) is None


@pytest.mark.parametrize("name", ["web", "clusterd", "clusterd=%zz"])
def test_other_names_are_not_ours(name: str) -> None:
    assert read_label(name) is None


def ours(one: Listener) -> Passed:
    """A listener as it comes back to the next master: by a copy, under the name it was given."""
    name = label(one.name, one.inode)
    assert name is not None
    return passed(one.sock.dup(), name)


def ask(where: object) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET)
    client.setblocking(False)
    client.connect_ex(where)  # type: ignore[arg-type]
    return client


def test_a_port_of_ours_comes_back_with_its_queue_and_takes_newcomers_again() -> None:
    (before,) = listen(Tcp("127.0.0.1", 0), 8)
    where = before.sock.getsockname()
    queued = ask(where)
    refuse_newcomers(before.sock)  # it was killed while it stopped
    (after,) = listen(Tcp(*where), 8, Luggage([ours(before)]))
    close(before)
    newcomer = ask(where)
    assert not after.inherited, "it is ours, to refuse newcomers at a stop"
    for client in (queued, newcomer):
        select.select([after.sock], [], [])
        after.sock.accept()[0].close()
        client.close()
    close(after)


def test_a_socket_file_of_ours_comes_back_with_its_queue_and_its_lock(tmp_path: Path) -> None:
    place = Unix(str(tmp_path / "s"), 0o600)
    (before,) = listen(place, 8)
    queued = ask(place.path)
    luggage = Luggage([ours(before)])
    os.close(before.lock)  # killed: the file stays, and nobody holds the lock
    before.sock.close()
    (after,) = listen(place, 8, luggage)
    with pytest.raises(BindError, match="in use"):
        listen(place, 8)
    after.sock.accept()[0].close()
    queued.close()
    close(after)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["refused", "gone", "another"])
def test_a_socket_file_that_cannot_come_back_is_made_anew(tmp_path: Path, how: str) -> None:
    place = Unix(str(tmp_path / "s"))
    (before,) = listen(place, 8)
    old = ours(before)
    luggage = Luggage([old])
    if how == "refused":
        refuse_newcomers(before.sock)
    elif how == "gone":
        os.unlink(place.path)
    else:
        old.inode += 1
    os.close(before.lock)
    before.sock.close()
    (after,) = listen(place, 8, luggage)
    client = ask(place.path)
    after.sock.accept()[0].close()
    client.close()
    assert luggage.useless == [old.name], "systemd is to keep it no longer"
    close(after)


def test_with_a_socket_a_slot_each_comes_back_to_its_own() -> None:
    settings = ListenSettings(bind=("127.0.0.1:0",), balance="reuseport")
    before = Sockets()
    before.add(settings, 3)
    port = next(iter(before)).sock.getsockname()[1]
    inodes = {one.slot: os.fstat(one.sock.fileno()).st_ino for one in before}
    luggage = Luggage([ours(one) for one in reversed(list(before))])
    before.remove(list(before.groups))
    after = Sockets(luggage)
    after.add(ListenSettings(bind=(f"127.0.0.1:{port}",), balance="reuseport"), 3)
    assert {one.slot: os.fstat(one.sock.fileno()).st_ino for one in after} == inodes
    assert list(luggage) == []
    after.remove(list(after.groups))


def test_systemd_keeps_what_listens_and_nothing_else(tmp_path: Path) -> None:
    said: list[str] = []

    def send(text: str, fd: int | None) -> bool:
        said.append(text)
        return True

    with simulated(1) as sim:
        (group,) = sim.cluster.groups.values()
        store = Store(send, 10)
        assert store.settle(sim.cluster)
        assert not store.settle(sim.cluster)
        (port,) = [one.name.rpartition(":")[2] for one in group.sockets]
        assert said == [f"FDSTORE=1\nFDNAME=clusterd=127.0.0.1%3A{port}"]
        group.sockets.add(ListenSettings(bind=("127.0.0.1:0", f"unix:{tmp_path}/s")), 1)
        assert store.settle(sim.cluster)
        assert group.sockets.files() == [], "the undertaker leaves it where it is"
        group.sockets.remove(["127.0.0.1:0"])
        store.settle(sim.cluster)
        assert said[-1] == f"FDSTOREREMOVE=1\nFDNAME=clusterd=127.0.0.1%3A{port}"
        store.leave()
        assert said[-1].startswith("FDSTOREREMOVE=1\nFDNAME=clusterd=unix%3A")


def test_there_may_be_no_room_for_all() -> None:
    with simulated(1) as sim:
        store = Store(lambda _text, _fd: True, 0)
        assert not store.settle(sim.cluster)
