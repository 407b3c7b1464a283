"""A descriptor whose close blocks: what a hostile process may send to one that must not wait."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.support.server import LIMIT

HOUR = struct.pack("ii", 1, 3600)  # SO_LINGER


@contextlib.contextmanager
def lingering() -> Iterator[socket.socket]:
    """A connection that waits at its close until its peer has read everything, which it does not.

    A close that blocks nevertheless ends with this context.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    with peer, sock:
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(bytes(65536))
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HOUR)
        try:
            yield sock
        finally:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()  # with a reset, which ends the wait


def does_not_wait(act: Callable[[], object]) -> None:
    """Fail where this takes longer than anything takes that does not wait."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(act)
        try:
            done.result(LIMIT)
        finally:
            if not done.done():
                pool.shutdown(wait=False)
