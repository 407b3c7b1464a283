"""A group before anything of it runs."""

import os
from dataclasses import replace

from clusterd.config.cpus import available_cpus
from clusterd.config.settings import Config
from clusterd.fleet.goal import Goal, Patience
from clusterd.ipc.scoreboard import Scoreboard
from clusterd.master.certificates import read
from clusterd.master.cluster import Cluster
from clusterd.master.group import Group
from clusterd.master.sockets import Sockets

# Workers that may be starting at the same time. A start is mostly CPU time: with more of them each
# takes longer, up to startup_timeout, and none is ready sooner.
STARTS_PER_CPU = 4
FEWEST_AT_ONCE = 16


def patience_of(config: Config) -> Patience:
    """Return the master's timeouts and limits for a group, from its settings."""
    fleet = config.fleet
    return Patience(
        startup=fleet.startup_timeout,
        graceful=fleet.graceful_timeout,
        min_ready=fleet.min_ready,
        parallel=fleet.parallel_start or bool(config.command.command),
        at_once=max(FEWEST_AT_ONCE, STARTS_PER_CPU * available_cpus()),
    )


def found(cluster: Cluster, name: str, config: Config) -> Group:
    """The group, its first generation wanted, nothing bound. Raises ConfigError or OSError."""
    bundle = read(config)
    board = Scoreboard.create()
    try:
        group = Group(name, cluster, config, board, Sockets())
    except OSError:
        os.close(board.fd)
        raise
    group.patience = patience_of(config)
    generation = group.next_generation(config, bundle)
    group.goal = replace(Goal(size=config.fleet.workers), stable=generation)
    return group
