"""What a worker is born with: everything it holds for life, handed over by whoever forked it."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clusterd.config.kinds import MAIN
from clusterd.config.settings import Config
from clusterd.ipc.channel import Channel
from clusterd.ipc.scoreboard import Scoreboard
from clusterd.worker.keyring import Keyring


@dataclass(frozen=True, slots=True)
class Birth:
    """Made by the entry file in the newborn. The worker owns every descriptor in it."""

    channel: Channel  # ours, for life; EOF there means that the master is gone
    board: Scoreboard
    slot: int
    row: int
    generation: int
    config: Config
    listeners: list[tuple[str, socket.socket]]  # (canonical address, non-blocking listener)
    handover: tuple[socket.socket, socket.socket] | None  # SEQPACKET, shared: (read, write) end
    dump_fd: int  # a pipe which the master polls: faulthandler writes there
    log_fd: int
    fingerprint: str
    group: str = MAIN
    interface: str = "asgi"  # or wsgi: how the application is called
    keyring: Keyring | None = None  # loaded, where TLS is on
    # Has a server speak HTTP/2 with an app of this interface, where the package for it is there.
    http2: Callable[[Any, str], None] | None = None
