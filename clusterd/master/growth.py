"""Autoscaling: look at the rows of a group's workers now and then, and want another size.

Only where max_workers is set does the master wake for it; and never while the group is in the
middle of something else, whose load says nothing about the next hour.
"""

from collections.abc import Iterator
from math import inf

from clusterd.config.cpus import available_cpus
from clusterd.core.errors import ConfigError
from clusterd.core.events import Kind
from clusterd.fleet.autoscale import Autoscale, Reading, Rules
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.scoreboard import Cell
from clusterd.kernel.faulty import pace
from clusterd.master import orders
from clusterd.master.group import Group


def look(group: Group) -> None:
    """If it is time: judge how busy the workers are, and want more or fewer of them."""
    scale, now = _keep(group), group.kernel.now()
    if scale is None:
        return
    if group.goal.mode is not Mode.SERVING or group.by_hand:
        scale.rest()
        scale.due = inf
    elif scale.due == inf:
        scale.due = now + scale.rules.interval
    elif now >= scale.due:
        _judge(group, scale, now)


def _keep(group: Group) -> Autoscale | None:
    """What the group's settings ask for; made anew when they change."""
    fleet, scale = group.config.fleet, group.autoscale
    if not fleet.max_workers:
        group.autoscale = None
    elif scale is None or (scale.lowest, scale.highest) != (fleet.min_workers, fleet.max_workers):
        cpus = available_cpus()
        scale = Autoscale(fleet.min_workers, fleet.max_workers, cpus, Rules().faster(pace()))
        scale.due = group.kernel.now()
        group.autoscale = scale
    return group.autoscale


def _judge(group: Group, scale: Autoscale, now: float) -> None:
    goal = group.goal
    if goal.candidate is not None or group.roster.count(Phase.READY) < goal.size:
        scale.rest()
        scale.due = now + scale.rules.interval
        return
    wish = scale.judge(goal.size, dict(_readings(group)), now)
    if wish is None:
        return
    try:
        orders.resize(group, wish.size, f"autoscaling: {wish.reason}")
    except ConfigError as error:  # no socket for another slot
        group.note(Kind.TROUBLE, reason=error.message, next="the size stays")


def _readings(group: Group) -> Iterator[tuple[object, Reading]]:
    """The ready workers' own words. Who is about to leave is full or old, and no measure."""
    most = group.config.http.max_connections
    for worker in group.roster.workers.values():
        if worker.phase is not Phase.READY or worker.leaving:
            continue
        row = group.board.row(worker.row)
        yield (
            (worker.row, worker.pid),
            Reading(
                at=row[Cell.HEARTBEAT] / 1e6,
                cpu=row[Cell.CPU] / 1e6,
                late=row[Cell.LOOP_LAG] / 1e6,
                connections=row[Cell.CONNECTIONS] / most,
                threads=row[Cell.IN_FLIGHT] / row[Cell.SEATS] if row[Cell.SEATS] else 0.0,
            ),
        )
