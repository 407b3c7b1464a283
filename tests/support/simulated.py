"""A simulated cluster: the real master loop on a fake kernel, hours of supervision in no time."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from clusterd.config.kinds import MAIN
from clusterd.config.settings import Config
from clusterd.core.events import Event, Kind
from clusterd.fleet.lifecycle import Phase
from clusterd.master import reload
from clusterd.master.cluster import Cluster
from clusterd.master.control import Control
from clusterd.master.group import Group
from clusterd.master.loop import Loop
from clusterd.master.resume import announce, open_again
from clusterd.master.run import assemble
from clusterd.master.state import read
from tests.support.fake import Become, Behaviour, FakeKernel

T = TypeVar("T")
ENOUGH = 5000  # turns; a reload of four takes some forty


def config(workers: int = 2, **fleet: Any) -> Config:
    """Settings that bind nothing but an ephemeral port."""
    whole = Config()
    listen = replace(whole.listen, bind=("127.0.0.1:0",))
    app = replace(whole.app, app="shop:app")
    return replace(
        whole, listen=listen, app=app, fleet=replace(whole.fleet, workers=workers, **fleet)
    )


class Simulation:
    """The master, the kernel it believes in, and what it wrote to its journal."""

    def __init__(
        self,
        whole: Config | dict[str, Config],
        behaviour: Callable[[int], Behaviour] | None = None,
    ) -> None:
        self.kernel = FakeKernel(behaviour)
        self.configs = whole if isinstance(whole, dict) else {MAIN: whole}  # as a file would say
        self.cluster = assemble(self.configs, lambda: self.configs, self.kernel)
        for group in self.cluster.groups.values():
            group.sockets.add(group.config.listen, group.config.fleet.workers)
        self.loop = Loop(self.cluster)
        self.fewest: int | None = None  # ready workers, once the whole size was ready
        self.watching = False

    @property
    def config(self) -> Config:
        """What the file says of the main group."""
        return self.configs[MAIN]

    @config.setter
    def config(self, whole: Config) -> None:
        self.configs = {**self.configs, MAIN: whole}

    @property
    def group(self) -> Group:
        """The only one, or the main one."""
        return self.cluster.main

    @property
    def events(self) -> list[Event]:
        return self.cluster.journal.since(0)

    def kinds(self) -> list[str]:
        return [str(event.kind) for event in self.events]

    def find(self, kind: Kind, **fields: Any) -> list[Event]:
        return [e for e in self.events if e.kind is kind and fields.items() <= e.fields.items()]

    def ready(self, generation: int | None = None) -> int:
        return sum(
            w.phase is Phase.READY and generation in (None, w.generation)
            for w in self.group.roster.workers.values()
        )

    def turn(self) -> None:
        try:
            self.loop.turn()
        except Become:
            self._resume()
        if self.cluster.fault is not None:
            raise self.cluster.fault  # lived through, but not meant to be
        if self.watching:
            now = self.ready()
            self.fewest = now if self.fewest is None else min(self.fewest, now)

    def _resume(self) -> None:
        """What comes after execve(2), with copies of what the old master had open."""

        def take(number: int) -> int:
            return number if number <= 2 else os.dup(number)

        state, previous = read(self.kernel.state, self.kernel, take)
        self.kernel.watched, self.kernel.pending = {}, {signal.SIGCHLD: 1}
        abandon(self.cluster, self.loop.control)
        self.cluster = state.cluster
        self.cluster.reread = lambda: {MAIN: self.config}
        open_again(state)
        announce(state, previous)
        self.loop = Loop(self.cluster, state.control)

    def until(self, done: Callable[[], bool]) -> None:
        """Turn until something holds."""
        for _ in range(ENOUGH):
            if done():
                return
            self.turn()
        raise AssertionError(f"it never came to that; saw {self.kinds()[-40:]}")

    def settle(self) -> None:
        """Turn until the master would sleep for ever, or until what only rollback_keep ends."""

        def quiet() -> bool:
            return self.kernel.idle or self.loop.over or self.loop.due > self.kernel.time + 500

        self.kernel.idle = False
        self.turn()
        self.until(lambda: quiet() and not self.kernel.timers)

    def start(self) -> "Simulation":
        """To the first moment at which all are ready."""
        self.until(lambda: self.ready() == self.group.goal.size)
        self.watching = True
        return self

    def reload(self) -> int | None:
        return self.order(lambda: reload.begin(self.cluster, "test"))[self.group.name]

    def order(self, act: Callable[[], T]) -> T:
        """Have something happen between two turns, as if the wait had reported it."""
        self.loop.due = 0.0
        return act()

    def close(self) -> None:
        if self.loop.manager is not None:
            self.loop.manager.stopped()
        self.kernel.close()
        if self.cluster.ahead is not None:
            self.cluster.ahead.died()
        for group in self.cluster.groups.values():
            for channel in group.zygote_channels.values():
                channel.close()
            for worker in list(group.roster.workers.values()):
                group.forget(worker)
            group.close()


def abandon(cluster: Cluster, control: Control | None) -> None:
    """Close what a master had open, as close-on-exec does: nothing is said or removed."""
    for group in cluster.groups.values():
        for handles in group.handles.values():
            handles.channel.sock.close()
            os.close(handles.dump)
        for channel in group.zygote_channels.values():
            channel.sock.close()
        for end in group.handover:
            end.close()
        for one in group.sockets:
            one.sock.close()
        group.forget_pressure()
        os.close(group.board.fd)
    if control is not None:
        for client in control.clients.values():
            client.sock.close()
        control.file.sock.close()
        os.close(control.file.lock)


@contextmanager
def simulated(
    workers: int = 2, behaviour: Callable[[int], Behaviour] | None = None, **fleet: Any
) -> Iterator[Simulation]:
    """A simulation that leaves no descriptor behind."""
    simulation = Simulation(config(workers, **fleet), behaviour)
    try:
        yield simulation
    finally:
        simulation.close()
