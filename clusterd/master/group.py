"""What the master holds of one group: its fleet and goal, and the handles of its processes."""

import os
import socket
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from clusterd.config import internal
from clusterd.config.settings import Config
from clusterd.core.events import Event, Kind
from clusterd.core.plain import Descriptor
from clusterd.fleet.autoscale import Autoscale
from clusterd.fleet.goal import Goal, Mode, Patience
from clusterd.fleet.roster import Roster, Worker
from clusterd.ipc.certificates import Sealed
from clusterd.ipc.channel import MasterChannel
from clusterd.ipc.scoreboard import ROWS, SLOTTED, TOTALS, USED, Scoreboard
from clusterd.kernel import passing
from clusterd.kernel.oom import PressureEvent
from clusterd.kernel.real import Kernel
from clusterd.master.sockets import Sockets

if TYPE_CHECKING:
    from clusterd.master.certificates import Renewal
    from clusterd.master.cluster import Cluster


@dataclass(slots=True)
class Handles:
    """The master's ends of what one worker was given."""

    channel: MasterChannel
    dump: Descriptor  # the read end of its dump pipe


@dataclass(slots=True)
class Dump:
    """Stacks that were asked for: of the worker, and past the deadline of faulthandler."""

    deadline: float = 0.0
    looked: bool = False  # the signal to Python was sent
    faulted: bool = False  # that to faulthandler was sent
    asked: bool = True  # else it came by itself
    text: bytearray = field(default_factory=bytearray)
    threads: list[int] = field(default_factory=list)  # to be asked one after another, by their ids
    thread: int = 0  # the one whose stack comes next


@dataclass(frozen=True, slots=True)
class Pipe:
    """A bare descriptor, as something to wait for."""

    fd: int

    def fileno(self) -> int:
        return self.fd


@dataclass
class Group:
    """The state that `absorb` and `perform` share. No behaviour beyond keeping it consistent."""

    name: str
    cluster: "Cluster"
    config: Config  # what serves; that of each generation is in `configs`
    board: Scoreboard
    sockets: Sockets
    goal: Goal = field(default_factory=lambda: Goal(size=1))
    patience: Patience = field(default_factory=Patience)
    roster: Roster = field(default_factory=Roster)
    configs: dict[int, Config] = field(default_factory=dict)  # by generation
    bundles: dict[int, Sealed] = field(default_factory=dict)  # certificates, by generation
    renewals: dict[int, "Renewal"] = field(default_factory=dict)  # of them, by generation
    renewed: int = 0  # renewals so far
    renewal_waits: int = 0  # the number of one that begins when it can
    misconfigured: set[int] = field(default_factory=set)  # generations with a setting of no use
    fingerprints: dict[int, str] = field(default_factory=dict)
    tracebacks: dict[int, str] = field(default_factory=dict)  # what a generation said last
    remedy: str = ""  # what to do about the latest failure
    handles: dict[int, Handles] = field(default_factory=dict)  # by row
    zygote_channels: dict[int, MasterChannel] = field(default_factory=dict)  # by pid
    handover: tuple[socket.socket, socket.socket] = field(init=False)
    covers: dict[int, set[str]] = field(default_factory=dict)  # row → listeners beside its own
    dumps: dict[int, Dump] = field(default_factory=dict)  # by row
    totals: dict[int, int] = field(default_factory=dict)  # of the processes that are gone, by cell
    slots: dict[int, list[int]] = field(default_factory=dict)  # theirs by slot, as SLOTTED has them
    autoscale: Autoscale | None = None  # where max_workers is set
    by_hand: bool = False  # somebody said how many, which holds until autoscaling is told to go on
    stop_began: float = inf  # when it was told to stop
    sweep_failures: int = 0  # workers and zygotes that ended then before they could be of use
    last_failure: str = ""  # what the last worker or zygote that failed gave as the reason
    no_rollback: str = ""  # why the previous generation is not kept
    failed_reload: str = ""  # why the last reload failed; '' once one has succeeded
    pressed_at: float = 0.0  # when to look next whether memory is short
    pressure_event: PressureEvent | None = None  # while a previous generation is kept
    again: bool = False  # a reload was asked for while one is rolling
    announced: bool = False  # the whole size was ready once
    restarts: dict[int, int] = field(default_factory=dict)  # unasked deaths, by slot
    recycled: dict[int, int] = field(default_factory=dict)  # planned replacements, by slot

    def __post_init__(self) -> None:
        self.handover = self.kernel.pair()
        for end in self.handover:
            end.setblocking(False)

    @property
    def kernel(self) -> Kernel:
        return self.cluster.kernel

    @property
    def is_command(self) -> bool:
        """Does it run a program, not an application?"""
        return bool(self.config.command.command)

    @property
    def is_internal(self) -> bool:
        """Is it one of our own, which nobody wrote into a file?"""
        return self.name in internal.NAMES

    @property
    def over(self) -> bool:
        """Stopped, and every child is gone."""
        stopping = self.goal.mode is Mode.STOPPING
        return stopping and not (self.roster.workers or self.roster.zygotes or self.goal.sweep)

    def note(self, kind: Kind, **fields: Any) -> Event:
        """Write to the journal (and thereby to the log and to those who follow)."""
        return self.cluster.note(kind, group=self.name, **fields)

    def forget_pressure(self) -> None:
        """Wait no longer for memory to become short: nothing is kept that could be let go."""
        if self.pressure_event is not None:
            self.kernel.unwatch(self.pressure_event)
            self.pressure_event.close()
            self.pressure_event = None
            self.pressed_at = 0.0

    def all_totals(self) -> dict[int, int]:
        """Totals of the living and the dead, by cell. They never go back when a worker dies."""
        totals = dict(self.totals)
        for number in self.roster.workers:
            row = self.board.row(number)
            for cell in TOTALS:
                totals[cell] = totals.get(cell, 0) + row[cell]
        return totals

    def next_generation(self, config: Config, bundle: Sealed | None) -> int:
        """A new generation's number; its settings and certificates are remembered."""
        self.cluster.generations += 1
        number = self.cluster.generations
        self.configs[number] = config
        if bundle is not None:
            self.bundles[number] = bundle
        return number

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
        of_slot = self.slots.setdefault(worker.slot, [0] * len(SLOTTED))
        for index, cell in enumerate(SLOTTED):
            of_slot[index] += row[cell]
        self.board.clear(worker.row)
        self.roster.workers.pop(worker.row, None)
        self.covers.pop(worker.row, None)
        self.dumps.pop(worker.row, None)
        self.board.header[USED] = max(self.roster.workers, default=-1) + 1
        self.close_channel(worker.row)
        handles = self.handles.pop(worker.row, None)
        if handles is not None:
            os.close(handles.dump)
        if worker.generation not in self.goal.generations:
            self.forget_old_generations()

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
        for table in (*tables, self.roster.faults, self.roster.unsafe):
            for generation in [g for g in table if g not in used]:
                del table[generation]
        self.roster.lost &= used

    def next_deadline(self) -> float:
        """When something of our own is due, beside what the plan said."""
        dumps = min((dump.deadline for dump in self.dumps.values()), default=inf)
        growth = inf if self.autoscale is None else self.autoscale.due
        verdicts = (worker.verdict_at for worker in self.roster.workers.values())
        sweep = self.sweep_until if self.goal.sweep else inf
        return min(dumps, growth, sweep, *verdicts)

    @property
    def sweep_until(self) -> float:
        """Return when a stop no longer waits for a worker that could empty the accept queues."""
        return self.stop_began + self.patience.graceful

    def close(self) -> None:
        """Let go of what is left once it is over."""
        self.forget_pressure()
        self.sockets.remove(list(self.sockets.groups))
        for end in self.handover:
            passing.let_go(end)
        os.close(self.board.fd)
