"""What signals and commands have in common: each changes the goal, and nothing else."""

import os
import signal
from dataclasses import replace
from math import inf

from clusterd import __version__
from clusterd.config.commands import check_size
from clusterd.config.convert import convert
from clusterd.config.cpus import available_cpus
from clusterd.config.settings import TABLE
from clusterd.core.errors import BindError, ConfigError
from clusterd.core.events import Kind
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.messages import Dump as DumpOrder
from clusterd.ipc.messages import Quit, Reopen
from clusterd.kernel import own_files, privileges
from clusterd.master import reload, sequence, trusted_paths, vitals
from clusterd.master.cluster import Cluster
from clusterd.master.ending import stop_group
from clusterd.master.group import Dump, Group
from clusterd.master.perform import QUICK
from clusterd.master.trial import Trial

DUMP_PATIENCE = 1.0  # seconds that a worker has to answer from Python before faulthandler is asked


def stop(cluster: Cluster, why: str = "stop", graceful: float = inf) -> None:
    """Finish what is in hand and leave, within the graceful timeout or a shorter one.

    Groups leave in turn: `sequence.settle` stops each when those that need it are gone.
    """
    if cluster.stopping:
        return
    cluster.stopping = True
    for group in cluster.groups.values():
        within = min(graceful, group.patience.graceful)
        group.patience = replace(group.patience, graceful=within)
    cluster.note(Kind.STOPPING, reason=why, within=cluster.main.patience.graceful)
    sequence.settle(cluster)


def quit_now(cluster: Cluster, why: str, dumps: bool = False) -> None:
    """Leave at once; what is in hand is dropped. With `dumps`, busy workers say where they are:

    those that hear us by themselves, those that do not by faulthandler, before they are killed.
    """
    stop(cluster, why)
    now = cluster.kernel.now()
    for group in cluster.groups.values():
        stop_group(group)
        group.goal = replace(group.goal, quick=True, sweep=False)
        for worker in group.roster.workers.values():
            group.handles[worker.row].channel.send(Quit(dump=dumps))
            if worker.phase is Phase.DRAINING:
                worker.deadline = min(worker.deadline, now + QUICK)
            if dumps and worker.pid is not None:
                group.dumps[worker.row] = Dump(now + QUICK / 2)


def kill_all(cluster: Cluster, why: str) -> None:
    """The last resort of somebody at a terminal."""
    quit_now(cluster, why)
    for group in cluster.groups.values():
        for worker in group.roster.workers.values():
            if worker.pid is not None:
                cluster.kernel.kill(worker.pid, signal.SIGKILL)


def pause(group: Group) -> None:
    """Let all workers leave; the sockets stay open and queue. A rollout is abandoned."""
    goal = group.goal
    if goal.mode is not Mode.SERVING:
        raise ConfigError(f"it is {goal.mode} already")
    if goal.candidate is not None:
        failed = {"generation": goal.candidate, "serving": goal.stable}
        group.note(Kind.ROLLOUT_FAILED, **failed, reason="paused", asked=True)
        reload.drop_unwanted(group)
    group.again = False
    paused = replace(goal, mode=Mode.PAUSED, candidate=None, proven=False, resuming=False)
    group.goal = replace(paused, why="pause")
    group.note(Kind.PAUSED, workers=group.roster.count(Phase.READY))


def pause_all(groups: list[Group]) -> None:
    """Pause those that are not yet; refused only where there is none. Raises ConfigError."""
    for group in [one for one in groups if one.goal.mode is Mode.SERVING] or groups[:1]:
        pause(group)


def resume_all(groups: list[Group]) -> None:
    """Resume those that are paused; refused only where there is none. Raises ConfigError."""
    for group in [one for one in groups if one.goal.mode is Mode.PAUSED] or groups[:1]:
        resume(group)


def resume(group: Group) -> None:
    """End a pause, on the same generation."""
    if group.goal.mode is not Mode.PAUSED:
        raise ConfigError("it is not paused")
    reload.resume(group)


def scale(group: Group, size: int, why: str, force: bool = False) -> int:
    """Want so many workers because somebody says so; return the number.

    What a hand has set, autoscaling leaves alone until it is told to go on. Raises ConfigError
    for what the setting `workers` would not take, where a singleton would not be one, and for
    many more workers than there are CPUs unless `force` says that this is no slip.
    """
    try:
        size = int(convert(TABLE["workers"], size))
    except ConfigError as error:
        raise ConfigError(f"scale: {error.message}", error.remedy) from None
    check_size(group.name, group.config, size)
    usual = max(group.goal.size, group.config.fleet.workers, PER_CPU * available_cpus())
    if size > usual and not force:
        raise ConfigError(
            f"scale: {size} workers are more than {PER_CPU} per CPU ({available_cpus()} CPUs)",
            f"add --force if {size} are meant",
        )
    group.by_hand = True
    return resize(group, size, why)


def scale_by_load(group: Group) -> int:
    """Have autoscaling go on from the present size, which is returned."""
    if not group.config.fleet.max_workers:
        raise ConfigError("autoscaling is off", "set max_workers, the most that it may start")
    group.by_hand = False
    return group.goal.size


PER_CPU = 4  # workers per CPU beyond which a size needs to be confirmed


def resize(group: Group, size: int, why: str) -> int:
    """Want so many workers, at least one; the number wanted."""
    size = max(1, min(size, MOST))
    if size != group.goal.size:
        if group.config.listen.balance == "reuseport":
            try:
                group.sockets.widen(size)
            except BindError as error:
                raise ConfigError(error.message) from error
        before, group.goal = group.goal.size, replace(group.goal, size=size)
        group.note(Kind.SCALED, size=size, before=before, reason=why)
    return size


MOST = 480  # two rows a slot during a roll, and 1,024 rows


def restart(group: Group, slot: int, why: str) -> None:
    """Replace the worker of a slot: the replacement first, and at once. Raises ConfigError."""
    if group.goal.mode is not Mode.SERVING:
        raise ConfigError(f"it is {group.goal.mode}")
    if not 0 <= slot < group.goal.size:
        raise ConfigError(f"there is no slot {slot}", f"there are 0 to {group.goal.size - 1}")
    group.roster.slot(slot).until = group.kernel.now()
    for worker in group.roster.live():
        if worker.slot == slot and worker.phase is Phase.READY and not worker.leaving:
            vitals.suspect(group, worker)
            worker.leaving = worker.asked = True
            group.note(Kind.LEAVING, **group.identity(worker), reason=why)


def upgrade(cluster: Cluster, why: str) -> None:
    """Have today's clusterd tried, and become it if it is fit. Raises ConfigError."""
    if cluster.stopping:
        raise ConfigError("the cluster is stopping")
    if cluster.upgrade is not None:
        raise ConfigError("an upgrade is under way")
    cluster.upgrade = Trial(cluster.kernel.now())
    cluster.note(Kind.UPGRADE_STARTED, version=__version__, reason=why)


def dump(group: Group, rows: list[int]) -> list[int]:
    """Ask workers for their stacks; the pids asked. Those silent for a second get the signal."""
    asked = []
    for row in rows:
        worker = group.roster.workers[row]
        if worker.pid is not None and worker.phase is not Phase.KILLED:
            group.handles[row].channel.send(DumpOrder())
            group.dumps[row] = Dump(group.kernel.now() + DUMP_PATIENCE)
            asked.append(worker.pid)
    return asked


def reopen(cluster: Cluster) -> None:
    """Open the log file anew (it was rotated) and pass it on. Raises ConfigError."""
    path = cluster.config.log.log_file
    if path and own_files.descriptor_of(path) is None:
        try:
            fd = _opened_anew(cluster, path)
        except ConfigError as error:
            reason = error.message
            cluster.note(Kind.TROUBLE, reason=reason, next="the old file is written to")
            raise
        cluster.use_log(fd)
        for group in cluster.groups.values():
            for handles in group.handles.values():
                if handles.channel.fileno() >= 0:
                    handles.channel.send(Reopen(), [fd])
            for channel in group.zygote_channels.values():
                channel.send(Reopen(), [fd])
    cluster.note(Kind.REOPENED, path=path)


def _opened_anew(cluster: Cluster, path: str) -> int:
    """Return a descriptor of the log file that is there now. Raises ConfigError."""
    groups = cluster.configs
    trusted_paths.refuse_files(groups, os.environ)
    try:
        return own_files.open_log(
            path, privileges.users(one.limits.user for one in groups.values())
        )
    except OSError as error:
        raise ConfigError(f"{path} cannot be opened: {error.strerror}") from error
