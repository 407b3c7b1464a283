"""What the master holds: the fleet and its goal, and the handles that belong to each process."""

import logging
import os
import random
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from clusterd.config.settings import Config
from clusterd.core.events import Event, Kind
from clusterd.core.exits import Exit
from clusterd.core.log import LOGGER, FdHandler
from clusterd.fleet.goal import Goal, Patience
from clusterd.fleet.roster import Roster, Worker
from clusterd.ipc.certificates import Sealed
from clusterd.ipc.channel import Channel
from clusterd.ipc.journal import Journal
from clusterd.ipc.scoreboard import ROWS, TOTALS, USED, Scoreboard
from clusterd.kernel.child import Ahead
from clusterd.kernel.real import Kernel
from clusterd.master.sockets import Sockets

if TYPE_CHECKING:
    from clusterd.master.certificates import Renewal


@dataclass(slots=True)
class Handles:
    """The master's ends of what one worker was given."""

    channel: Channel
    dump: int  # the read end of its dump pipe


@dataclass(slots=True)
class Dump:
    """Stacks that were asked for: of the worker, and past the deadline of faulthandler."""

    deadline: float = 0.0
    faulted: bool = False  # the signal was sent
    text: bytearray = field(default_factory=bytearray)


@dataclass
class Cluster:
    """The state that `absorb` and `perform` share. No behaviour beyond keeping it consistent."""

    config: Config
    reread: Callable[[], Config]
    kernel: Kernel
    board: Scoreboard
    sockets: Sockets
    directory: str  # the logical working directory: today's code may be behind a symlink
    log_fd: int = 2
    ahead: Ahead | None = None  # the first zygote, if it was started already
    control_file: list[tuple[str, int]] = field(default_factory=list)  # its path and inode
    terminal: bool = False  # started at one
    goal: Goal = field(default_factory=lambda: Goal(size=1))
    patience: Patience = field(default_factory=Patience)
    roster: Roster = field(default_factory=Roster)
    configs: dict[int, Config] = field(default_factory=dict)  # by generation
    bundles: dict[int, Sealed] = field(default_factory=dict)  # certificates, by generation
    renewals: dict[int, "Renewal"] = field(default_factory=dict)  # of them, by generation
    renewed: int = 0  # renewals so far
    misconfigured: set[int] = field(default_factory=set)  # generations with a setting of no use
    fingerprints: dict[int, str] = field(default_factory=dict)
    tracebacks: dict[int, str] = field(default_factory=dict)  # what a generation said last
    handles: dict[int, Handles] = field(default_factory=dict)  # by row
    zygote_channels: dict[int, Channel] = field(default_factory=dict)  # by pid
    handover: tuple[socket.socket, socket.socket] = field(init=False)
    covers: dict[int, set[str]] = field(default_factory=dict)  # row → listeners beside its own
    dumps: dict[int, Dump] = field(default_factory=dict)  # by row
    totals: dict[int, int] = field(default_factory=dict)  # of the processes that are gone, by cell
    generations: int = 0  # numbers given out
    again: bool = False  # a reload was asked for while one is rolling
    announced: bool = False  # READY was journaled
    interrupts: int = 0
    restarts: dict[int, int] = field(default_factory=dict)  # unasked deaths, by slot
    pid: int = field(default_factory=os.getpid)
    exit: Exit = Exit.OK
    started: float = 0.0
    fault: Exception | None = None  # our own, lived through in this turn

    def __post_init__(self) -> None:
        self.journal = Journal(self.kernel.wall)
        self.handover = self.kernel.pair()
        for end in self.handover:
            end.setblocking(False)
        self.started = self.kernel.now()

    def note(self, kind: Kind, **fields: Any) -> Event:
        """Write to the journal (and thereby to the log and to those who follow)."""
        return self.journal.append(kind, **fields)

    def guard(self, act: Callable[..., object], *args: object) -> None:
        """Do a part of a turn. We must not die of what goes wrong in it: it is journaled."""
        try:
            act(*args)
        except Exception as error:
            self.trouble(error)

    def trouble(self, error: Exception) -> None:
        """Journal a fault of our own that we live through."""
        self.fault = error
        self.note(
            Kind.TROUBLE,
            reason=f"{type(error).__name__}: {error}",
            next="the cluster serves on, and tries again",
            traceback="".join(traceback.format_exception(error)),
            fault=True,
        )

    def files(self) -> list[tuple[str, int]]:
        """Socket files with their inodes: what the undertaker removes should we be killed."""
        return self.control_file + self.sockets.files()

    def use_log(self, fd: int) -> None:
        """Write the log to another descriptor from now on."""
        for handler in logging.getLogger(LOGGER).handlers:
            if isinstance(handler, FdHandler):
                handler.reopen(fd)
        self.log_fd = fd

    def all_totals(self) -> dict[int, int]:
        """Totals of the living and the dead, by cell. They never go back when a worker dies."""
        totals = dict(self.totals)
        for number in self.roster.workers:
            row = self.board.row(number)
            for cell in TOTALS:
                totals[cell] = totals.get(cell, 0) + row[cell]
        return totals

    def jitter(self) -> float:
        """0..1, so that slots which died together do not come back together."""
        return random.random()

    def next_generation(self, config: Config, bundle: Sealed | None) -> int:
        """A new generation's number; its settings and certificates are remembered."""
        self.generations += 1
        self.configs[self.generations] = config
        if bundle is not None:
            self.bundles[self.generations] = bundle
        return self.generations

    def identity(self, worker: Worker) -> dict[str, Any]:
        """Who a worker is, as every event and log line says it."""
        return {"slot": worker.slot, "generation": worker.generation, "pid": worker.pid}

    def order_row(self) -> int | None:
        """A free row, counted into the rows in use; None when all 1,024 are taken."""
        row = self.roster.free_row(ROWS)
        if row is not None:
            self.board.header[USED] = max([row, *self.roster.workers]) + 1
        return row

    def forget(self, worker: Worker) -> None:
        """A worker is gone: fold its totals, free its row and close what we held for it."""
        row = self.board.row(worker.row)
        for cell in TOTALS:
            self.totals[cell] = self.totals.get(cell, 0) + row[cell]
        self.board.clear(worker.row)
        self.roster.workers.pop(worker.row, None)
        self.covers.pop(worker.row, None)
        self.dumps.pop(worker.row, None)
        self.board.header[USED] = max(self.roster.workers, default=-1) + 1
        self.close_channel(worker.row)
        handles = self.handles.pop(worker.row, None)
        if handles is not None:
            os.close(handles.dump)

    def close_channel(self, row: int) -> None:
        """Close a worker's channel and no longer wait on its pipe."""
        handles = self.handles.get(row)
        if handles is not None and handles.channel.fileno() >= 0:
            self.kernel.unwatch(handles.channel)
            handles.channel.close()
            self.kernel.unwatch(Pipe(handles.dump))

    def forget_old_generations(self) -> None:
        """Drop settings and texts of generations that nothing refers to any more."""
        used = {w.generation for w in self.roster.workers.values()} | self.goal.generations
        tables = (self.configs, self.bundles, self.renewals, self.fingerprints, self.tracebacks)
        for table in (*tables, self.roster.faults):
            for generation in [g for g in table if g not in used]:
                del table[generation]
        self.roster.lost &= used

    def next_deadline(self) -> float:
        """When something of our own is due, beside what the plan said."""
        return min((dump.deadline for dump in self.dumps.values()), default=inf)


@dataclass(frozen=True, slots=True)
class Pipe:
    """A bare descriptor, as something to wait for."""

    fd: int

    def fileno(self) -> int:
        return self.fd
