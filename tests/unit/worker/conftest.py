"""A board, a loop and a listener of its own for each test."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
import uvloop

from clusterd.ipc.scoreboard import USED, Scoreboard


@pytest.fixture
def board() -> Scoreboard:
    """A scoreboard of four rows in use."""
    board = Scoreboard.create()
    board.header[USED] = 4
    return board


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop that workers run on."""
    loop = uvloop.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.setblocking(False)
        yield sock
