"""Listening sockets: bound all or none, named when refused, and nothing left of them."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.address import Fd, Tcp, Unix
from clusterd.config.serving import ListenSettings
from clusterd.core.errors import BindError, ConfigError
from clusterd.master import listener
from clusterd.master.activation import Luggage
from clusterd.master.listener import Listener, listen
from clusterd.master.sockets import Sockets
from tests.support.network import needs_ipv6

SO_ATTACH_FILTER = 26  # socket(7)
LOOPBACK = ListenSettings(bind=("127.0.0.1:0",))


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    made = Sockets()
    yield made
    made.remove(list(made.groups))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback that another socket listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def close(*listeners: Listener) -> None:
    for one in listeners:
        one.close()


class Sandboxed(socket.socket):
    """A listener in a system that has no limit on the TTL, and allows no filters."""

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        if level == socket.IPPROTO_IP or option == SO_ATTACH_FILTER:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        super().setsockopt(level, option, *value)


def test_where_nothing_else_is_allowed_the_queue_is_as_short_as_can_be(sockets: Sockets) -> None:
    sockets.add(LOOPBACK, 1)
    (one,) = sockets
    where = one.sock.getsockname()
    one.sock = Sandboxed(fileno=one.sock.detach())
    (reason,) = sockets.refuse_newcomers(sockets)
    assert "still takes connections" in reason
    clients = [socket.socket() for _ in range(3)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(where)
    one.sock.accept()[0].close()
    with pytest.raises(BlockingIOError):
        one.sock.accept()
    for client in clients:
        client.close()
    one.kept = True
    assert sockets.refuse_newcomers(sockets) == []


def test_a_port_in_use_names_its_holder(taken: int) -> None:
    with pytest.raises(BindError, match=rf":{taken} is in use by .* \(pid {os.getpid()}\)"):
        listen(Tcp("127.0.0.1", taken), 8)


def test_an_address_that_is_not_ours_is_said_to_be_so() -> None:
    with pytest.raises(BindError, match="no address of this machine"):
        listen(Tcp("203.0.113.1", 0), 8)


def test_what_else_the_kernel_says_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_sock: socket.socket, _address: object) -> None:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    monkeypatch.setattr(socket.socket, "bind", full)
    with pytest.raises(BindError, match="cannot be bound: No buffer space available"):
        listen(Tcp("127.0.0.1", 0), 8)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 200])
def test_a_host_that_nobody_knows_is_refused(host: str) -> None:
    with pytest.raises(BindError, match="is not known"):
        listen(Tcp(host, 0), 8)


@needs_ipv6
def test_ipv6_is_written_in_brackets() -> None:
    (one,) = listen(Tcp("::1", 0), 8)
    assert one.name.startswith("[::1]:")
    with socket.create_connection(one.sock.getsockname()[:2]):
        pass
    close(one)


def test_a_listener_does_not_block_and_is_not_inherited() -> None:
    (one,) = listen(Tcp("127.0.0.1", 0), 8)
    assert not one.sock.getblocking()
    assert not one.sock.get_inheritable()
    close(one)


def test_a_client_that_vanishes_is_probed_for() -> None:
    """Its connection inherits that from the listener, and no worker has to ask for it."""
    (listener,) = listen(Tcp("127.0.0.1", 0), 8)
    with socket.create_connection(listener.sock.getsockname()):
        listener.sock.settimeout(5)
        accepted, _ = listener.sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    close(listener)


def test_a_unix_socket_has_its_mode_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (one,) = listen(Unix(str(path), 0o600), 8)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    close(one)
    assert list(tmp_path.iterdir()) == []


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    """Stale means that nobody holds the lock: a killed master leaves file and lock file."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    Path(f"{path}.lock").touch()
    (one,) = listen(Unix(str(path)), 8)
    close(one)
    assert list(tmp_path.iterdir()) == []


def test_a_live_unix_socket_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (one,) = listen(Unix(str(path)), 8)
    inode = path.stat().st_ino
    with pytest.raises(BindError, match="in use: another process holds"):
        listen(Unix(str(path)), 8)
    assert path.stat().st_ino == inode
    assert Path(f"{path}.lock").exists()
    close(one)


def test_a_file_that_is_no_socket_is_left_alone_and_no_lock_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(BindError, match="exists and is no socket"):
        listen(Unix(str(path)), 8)
    assert path.read_text() == "data"
    assert list(tmp_path.iterdir()) == [path]
    assert set(os.listdir("/proc/self/fd")) == before


def test_a_socket_file_that_is_another_ones_by_now_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (one,) = listen(Unix(str(path)), 8)
    path.rename(tmp_path / "ours")
    path.touch()
    close(one)
    assert path.exists()


def test_a_removed_socket_file_leaves_no_lock_behind(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (one,) = listen(Unix(str(path)), 8)
    path.unlink()
    close(one)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_too_long_says_how_long_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 107 bytes"):
        listen(Unix(str(tmp_path / ("x" * 107))), 8)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BindError, match="No such file"):
        listen(Unix(str(tmp_path / "nowhere" / "s")), 8)


def test_an_inherited_listener_is_used_and_outlives_us() -> None:
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        (one,) = listen(Fd(theirs.fileno()), 8)
        assert one.inherited
        close(one)
        with socket.create_connection(theirs.getsockname()):
            pass


@pytest.mark.parametrize("number", [10**4, 10**12])
def test_a_descriptor_that_is_not_there_is_refused(number: int) -> None:
    with pytest.raises(BindError, match="no socket that we were started with"):
        listen(Fd(number), 8)


def test_a_descriptor_of_something_else_is_refused_and_not_leaked(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with (tmp_path / "file").open("w") as file, pytest.raises(BindError, match="is no socket"):
        listen(Fd(file.fileno()), 8)
    with socket.socket() as idle, pytest.raises(BindError, match="does not listen"):
        listen(Fd(idle.fileno()), 8)
    assert len(os.listdir("/proc/self/fd")) == before


def test_with_reuseport_each_slot_has_a_socket_on_the_same_port(sockets: Sockets) -> None:
    sockets.add(replace(LOOPBACK, balance="reuseport"), 3)
    assert [one.slot for one in sockets] == [0, 1, 2]
    assert len({one.sock.getsockname() for one in sockets}) == 1
    assert [one.name.partition("#")[2] for one in sockets] == ["0", "1", "2"]
    settings = replace(LOOPBACK, balance="reuseport")
    assert [one.slot for one in sockets.of_slot(1, settings)] == [1]


def test_no_socket_of_a_further_slot_takes_connections_before_a_worker_is_ready(
    sockets: Sockets,
) -> None:
    """As where a group is scaled of which no worker has ever been ready."""
    sockets.hold_back(files=True)
    sockets.add(replace(LOOPBACK, balance="reuseport"), 2)
    sockets.widen(4)
    assert [least_ttl(one) for one in sockets] == [255] * 4
    sockets.welcome()
    assert [least_ttl(one) for one in sockets] == [0] * 4


def least_ttl(one: Listener) -> int:
    """Return IP_MINTTL, by which newcomers are dropped."""
    return one.sock.getsockopt(socket.IPPROTO_IP, 21)


def test_with_reuseport_a_second_instance_cannot_silently_bind_the_port(sockets: Sockets) -> None:
    """Its first socket binds without the option, which is thus refused like any other."""
    sockets.add(replace(LOOPBACK, balance="reuseport"), 2)
    port = next(iter(sockets)).sock.getsockname()[1]
    with pytest.raises(BindError, match="in use"):
        Sockets().add(ListenSettings(bind=(f"127.0.0.1:{port}",), balance="reuseport"), 2)


def test_all_addresses_or_none(sockets: Sockets, taken: int, tmp_path: Path) -> None:
    sockets.add(LOOPBACK, 1)
    before = [one.name for one in sockets]
    bind = (*LOOPBACK.bind, f"unix:{tmp_path}/s", f"127.0.0.1:{taken}")
    with pytest.raises(BindError):
        sockets.add(replace(LOOPBACK, bind=bind), 1)
    assert [one.name for one in sockets] == before
    assert list(tmp_path.iterdir()) == []


def test_a_socket_for_a_slot_that_cannot_be_had_takes_the_others_back(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else connections would go to a socket that no worker knows of."""
    settings = replace(LOOPBACK, balance="reuseport")
    sockets.add(settings, 2)
    before = list(sockets)
    real = listener.sibling

    def fails_at_four(
        first: Listener, slot: int, backlog: int, luggage: Luggage | None
    ) -> Listener:
        if slot == 4:
            raise BindError("no more")
        return real(first, slot, backlog, luggage)

    monkeypatch.setattr("clusterd.master.sockets.sibling", fails_at_four)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BindError, match="no more"):
        sockets.add(settings, 6)
    assert list(sockets) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_is_no_longer_named_is_found(sockets: Sockets) -> None:
    sockets.add(ListenSettings(bind=("127.0.0.1:0", "localhost:0")), 1)
    assert sockets.unwanted(LOOPBACK) == ["localhost:0"]
    names = [one.name for one in sockets.of_slot(0, LOOPBACK)]
    assert len(names) == 1


def test_what_an_address_speaks_is_settled_while_it_is_bound(
    sockets: Sockets, tmp_path: Path
) -> None:
    """Or the reload would say that we ourselves hold the port."""
    (free,) = listen(Tcp("127.0.0.1", 0), 8)
    port = free.sock.getsockname()[1]
    close(free)
    place = f"unix:{tmp_path}/s"
    for before, after in (
        (f"127.0.0.1:{port}", f"127.0.0.1:{port},tls=off"),
        (place, f"{place},mode=600"),
        (f"{place}2", f"{place}2,owner=0,group=0"),
    ):
        sockets.add(ListenSettings(bind=(before,)), 1)
        with pytest.raises(ConfigError, match=f"{before} cannot become {after}"):
            sockets.add(ListenSettings(bind=(after,)), 1)
    sockets.add(ListenSettings(bind=("127.0.0.1:0", "127.0.0.1:0,tls=off")), 1)  # two ports
    names = [one.name for one in sockets]
    assert sum(name.endswith(",tls=off") for name in names) == 1


def test_a_listener_that_cannot_be_closed_to_newcomers_is_told_and_the_others_are(
    sockets: Sockets,
) -> None:
    sockets.add(ListenSettings(bind=("127.0.0.1:0", "localhost:0")), 1)
    first, *others = sockets
    first.sock.close()
    (failed,) = sockets.refuse_newcomers([first, *others])
    assert failed.startswith(first.name)
