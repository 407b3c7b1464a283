"""What a keeper is born with."""

import socket
from dataclasses import dataclass

from clusterd.config.settings import Config
from clusterd.ipc.channel import Channel
from clusterd.ipc.scoreboard import Scoreboard


@dataclass(frozen=True, slots=True)
class Birth:
    """Everything that a keeper is given. `program` is the path of what it is to run."""

    group: str
    channel: Channel
    board: Scoreboard
    slot: int
    row: int
    generation: int
    config: Config
    listeners: list[tuple[str, socket.socket]]
    log_fd: int
    program: str
    fingerprint: str
    lock: int = -1  # the file that the program must have locked before it starts, if it must
