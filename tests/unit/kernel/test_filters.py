"""A listener that is being closed: who is in its queue is served, nobody new gets in."""

import errno
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.kernel.filters import admit, refuse_newcomers, welcome_newcomers
from tests.support.network import needs_ipv6

QUEUED = 5
BOTH = "both"  # families on one socket


IPV6 = [pytest.param(host, marks=needs_ipv6) for host in ("::1", BOTH)]


@pytest.fixture(params=["127.0.0.1", *IPV6, "unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    if request.param == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "s"))
    elif request.param == BOTH:
        sock = socket.socket(socket.AF_INET6)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
    else:
        family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
        sock = socket.socket(family)
        sock.bind((request.param, 0))
    sock.listen(64)
    sock.setblocking(False)
    yield sock
    sock.close()


def places(listener: socket.socket) -> list[tuple[socket.AddressFamily, Any]]:
    """Where clients of each family find a listener."""
    where = listener.getsockname()
    if where[0] == "::":
        port = where[1]
        return [(socket.AF_INET, ("127.0.0.1", port)), (socket.AF_INET6, ("::1", port))]
    return [(socket.AddressFamily(listener.family), where)]


def connect(family: socket.AddressFamily, where: Any) -> tuple[socket.socket, int]:
    """A client, and what its attempt came to."""
    sock = socket.socket(family)
    sock.setblocking(False)
    return sock, sock.connect_ex(where)


def test_the_queue_is_emptied_and_newcomers_wait_outside(listener: socket.socket) -> None:
    family, where = places(listener)[-1]
    inside = [connect(family, where)[0] for _ in range(QUEUED)]
    for number, sock in enumerate(inside):
        sock.send(bytes([number]))
    refuse_newcomers(listener)
    newcomer, code = connect(family, where)
    assert code in (errno.EINPROGRESS, errno.ECONNREFUSED), "its SYN is dropped, or it is refused"
    heard: list[int] = []
    for _ in range(QUEUED):
        served, _ = listener.accept()
        heard += served.recv(10)
        served.close()
    assert heard == list(range(QUEUED))
    with pytest.raises(OSError) as raised:  # noqa: PT011  # which one depends on the family
        listener.accept()
    assert raised.value.errno in (errno.EAGAIN, errno.EINVAL)
    for sock in (*inside, newcomer):
        sock.close()


def test_it_holds_for_every_process_that_shares_the_socket(listener: socket.socket) -> None:
    with listener.dup() as copy:
        copy.setblocking(False)
        refuse_newcomers(listener)
        newcomer, _ = connect(*places(listener)[-1])
        with pytest.raises(OSError) as raised:  # noqa: PT011
            copy.accept()
        newcomer.close()
        assert raised.value.errno in (errno.EAGAIN, errno.EINVAL)


def test_either_family_waits_outside_and_comes_in_again(listener: socket.socket) -> None:
    """A socket for both families has a limit for each."""
    if listener.family == socket.AF_UNIX:
        return  # it is shut down for good
    refuse_newcomers(listener)
    clients = [connect(*place) for place in places(listener)]
    assert [code for _, code in clients] == [errno.EINPROGRESS] * len(clients)
    with pytest.raises(BlockingIOError):
        listener.accept()
    welcome_newcomers(listener)
    for place in places(listener):
        sock, _ = connect(*place)
        clients.append((sock, 0))
        select.select([listener], [], [])
        listener.accept()[0].close()
    for sock, _ in clients:
        sock.close()


def test_a_connection_that_inherited_the_limit_is_heard_once_admitted(
    listener: socket.socket,
) -> None:
    """As one whose handshake ended after its listener was closed to newcomers."""
    for family, where in places(listener):
        sock = socket.socket(family)
        sock.connect(where)
        served, _ = listener.accept()
        served.setblocking(False)
        if listener.family != socket.AF_UNIX:
            refuse_newcomers(served)  # as it would have inherited it
            sock.send(b"lost")
            with pytest.raises(BlockingIOError):
                served.recv(10)
        else:
            sock.send(b"lost")
        admit(served.fileno())
        select.select([served], [], [])  # what was dropped is sent again
        assert served.recv(10) == b"lost"
        served.close()
        sock.close()
