"""What the master holds: its groups, and what they share."""

import os
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clusterd.config.kinds import MAIN
from clusterd.config.settings import Config
from clusterd.core.events import Event, Kind
from clusterd.core.exits import Exit
from clusterd.core.log import FdHandler, get_logger
from clusterd.core.plain import Descriptor
from clusterd.fleet.memory import Ledger
from clusterd.ipc.journal import Journal
from clusterd.kernel.child import Ahead
from clusterd.kernel.real import Kernel
from clusterd.master.group import Group
from clusterd.master.orphans import Orphans
from clusterd.master.tallies import Tallies
from clusterd.master.trial import Trial


@dataclass
class Cluster:
    """The whole: its groups in the order in which they start, the journal, and our own life."""

    reread: Callable[[], dict[str, Config]]  # today's settings of every group
    kernel: Kernel
    directory: str  # the logical working directory: today's code may be behind a symlink
    given: dict[str, Any] = field(default_factory=dict)  # on the command line, by setting
    log_fd: Descriptor = 2
    ahead: Ahead | None = None  # the first zygote, if it was started already
    control_file: list[tuple[str, int]] = field(default_factory=list)  # its path and inode
    locks: dict[str, Descriptor] = field(default_factory=dict)  # of programs: their files
    terminal: bool = False  # started at one
    groups: dict[str, Group] = field(default_factory=dict)
    generations: int = 0  # numbers given out, to whichever group
    stopping: bool = False
    announced: bool = False  # READY was journaled
    interrupts: int = 0
    pid: int = field(default_factory=os.getpid)
    upgrade: Trial | None = None  # in place, under way
    exit: Exit = Exit.OK
    started: float = 0.0
    tallies: Tallies = field(default_factory=Tallies)
    ledger: Ledger = field(default_factory=Ledger)  # deaths for want of memory
    orphans: Orphans = field(default_factory=Orphans)
    fault: Exception | None = None  # our own, lived through in this turn

    def __post_init__(self) -> None:
        self.journal = Journal(self.kernel.wall)
        self.journal.listen(self.tallies.hear)
        self.started = self.kernel.now()

    @property
    def main(self) -> Group:
        """The group that is meant where nobody names one."""
        return self.groups.get(MAIN) or self.wanted[0]

    @property
    def wanted(self) -> list[Group]:
        """The groups that somebody asked for: all but our own."""
        return [group for group in self.groups.values() if not group.is_internal]

    @property
    def config(self) -> Config:
        """Where the settings that are for all groups can be read."""
        return self.main.config

    @property
    def configs(self) -> dict[str, Config]:
        """Return the settings of each group, by its name."""
        return {group.name: group.config for group in self.groups.values()}

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
        return [*self.control_file, *(f for g in self.groups.values() for f in g.sockets.files())]

    def use_log(self, fd: int) -> None:
        """Write the log to another descriptor from now on."""
        for handler in get_logger().handlers:
            if isinstance(handler, FdHandler):
                handler.reopen(fd)
        self.log_fd = fd

    def jitter(self) -> float:
        """0..1, so that slots which died together do not come back together."""
        return random.random()
