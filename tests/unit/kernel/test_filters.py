"""A listener that is being closed: who is in its queue is served, nobody new gets in."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.kernel.filters import refuse_newcomers
from tests.support.network import needs_ipv6

QUEUED = 5


@pytest.fixture(params=["127.0.0.1", pytest.param("::1", marks=needs_ipv6), "unix"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    if request.param == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "s"))
    else:
        family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
        sock = socket.socket(family)
        sock.bind((request.param, 0))
    sock.listen(64)
    sock.setblocking(False)
    yield sock
    sock.close()


def client(listener: socket.socket) -> socket.socket:
    sock = socket.socket(listener.family)
    sock.setblocking(False)
    return sock


def test_the_queue_is_emptied_and_newcomers_wait_outside(listener: socket.socket) -> None:
    inside = [client(listener) for _ in range(QUEUED)]
    for number, sock in enumerate(inside):
        sock.connect_ex(listener.getsockname())
        sock.send(bytes([number]))
    refuse_newcomers(listener)
    newcomer = client(listener)
    code = newcomer.connect_ex(listener.getsockname())
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
    with listener.dup() as copy, client(listener) as newcomer:
        copy.setblocking(False)
        refuse_newcomers(listener)
        newcomer.connect_ex(listener.getsockname())
        with pytest.raises(OSError) as raised:  # noqa: PT011
            copy.accept()
        assert raised.value.errno in (errno.EAGAIN, errno.EINVAL)
