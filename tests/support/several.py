"""Simulations of several groups, and what is asked of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from clusterd.config.settings import Config
from clusterd.master import commands, report
from tests.support.simulated import Simulation, config


def program(workers: int = 1, **fleet: Any) -> Config:
    """A group that runs a command."""
    whole = config(workers, **fleet)
    return replace(
        whole,
        app=replace(whole.app, app=""),
        listen=replace(whole.listen, bind=()),
        command=replace(whole.command, command=("work",)),
    )


@contextmanager
def groups(behaviour: Any = None, **configs: Config) -> Iterator[Simulation]:
    sim = Simulation(configs, behaviour)
    try:
        yield sim
    finally:
        sim.close()


def up(sim: Simulation) -> Simulation:
    sim.until(lambda: all(group.announced for group in sim.cluster.groups.values()))
    return sim


def ready(sim: Simulation, name: str) -> int:
    return int(report.group_status(sim.cluster.groups[name])["ready"])


def bound(whole: Config, *addresses: str, **listen: Any) -> Config:
    """The same group with other addresses."""
    return replace(whole, listen=replace(whole.listen, bind=addresses, **listen))


def ask(sim: Simulation, command: str, **more: Any) -> Any:
    """A request through the control socket, between two turns; the reply or who waits for it."""
    return sim.order(lambda: commands.answer(sim.cluster, {"command": command, **more}))
