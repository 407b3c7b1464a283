"""What signals and commands have in common: each changes the goal, and nothing else."""

import signal
from dataclasses import replace
from math import inf

from clusterd.core import log
from clusterd.core.errors import BindError, ConfigError
from clusterd.core.events import Kind
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import ZygotePhase
from clusterd.ipc.messages import Dump as DumpOrder
from clusterd.ipc.messages import Quit, Reopen
from clusterd.master import reload
from clusterd.master.cluster import Cluster, Dump
from clusterd.master.perform import QUICK

DUMP_PATIENCE = 1.0  # seconds that a worker has to answer from Python before faulthandler is asked


def stop(cluster: Cluster, why: str = "stop", graceful: float = inf) -> None:
    """Finish what is in hand and leave, within the graceful timeout or a shorter one."""
    if cluster.goal.mode is Mode.STOPPING:
        return
    graceful = min(graceful, cluster.patience.graceful)
    cluster.patience = replace(cluster.patience, graceful=graceful)
    cluster.note(Kind.STOPPING, reason=why, within=graceful)
    if cluster.goal.candidate is not None:
        stopping = "the cluster is stopping"
        failed = {"generation": cluster.goal.candidate, "serving": cluster.goal.stable}
        cluster.note(Kind.ROLLOUT_FAILED, **failed, reason=stopping)
    # Nobody accepts while paused: a last worker answers those who wait in the queues.
    zygote = cluster.roster.zygote(cluster.goal.stable)
    loaded = zygote is not None and zygote.phase is ZygotePhase.LOADED
    sweep = cluster.goal.mode is Mode.PAUSED and loaded
    cluster.goal = replace(
        cluster.goal, mode=Mode.STOPPING, candidate=None, why="stop", sweep=sweep
    )
    reload.refuse_newcomers(cluster, cluster.sockets)


def quit_now(cluster: Cluster, why: str, dumps: bool = False) -> None:
    """Leave at once; what is in hand is dropped. With `dumps`, busy workers say where they are:

    those that hear us by themselves, those that do not by faulthandler, before they are killed.
    """
    stop(cluster, why)
    cluster.goal = replace(cluster.goal, quick=True, sweep=False)
    now = cluster.kernel.now()
    for worker in cluster.roster.workers.values():
        cluster.handles[worker.row].channel.send(Quit(dump=dumps))
        if worker.phase is Phase.DRAINING:
            worker.deadline = min(worker.deadline, now + QUICK)
        if dumps and worker.pid is not None:
            cluster.dumps[worker.row] = Dump(now + QUICK / 2)


def kill_all(cluster: Cluster, why: str) -> None:
    """The last resort of somebody at a terminal."""
    quit_now(cluster, why)
    for worker in cluster.roster.workers.values():
        if worker.pid is not None:
            cluster.kernel.kill(worker.pid, signal.SIGKILL)


def pause(cluster: Cluster) -> None:
    """Let all workers leave; the sockets stay open and queue. A rollout is abandoned."""
    goal = cluster.goal
    if goal.mode is not Mode.SERVING:
        raise ConfigError(f"it is {goal.mode} already")
    if goal.candidate is not None:
        failed = {"generation": goal.candidate, "serving": goal.stable}
        cluster.note(Kind.ROLLOUT_FAILED, **failed, reason="paused")
    cluster.again = False
    paused = replace(goal, mode=Mode.PAUSED, candidate=None, proven=False, resuming=False)
    cluster.goal = replace(paused, why="pause")
    cluster.note(Kind.PAUSED, workers=cluster.roster.count(Phase.READY))


def resume(cluster: Cluster) -> None:
    """End a pause, on the same generation."""
    if cluster.goal.mode is not Mode.PAUSED:
        raise ConfigError("it is not paused")
    reload.resume(cluster)


def scale(cluster: Cluster, size: int, why: str) -> int:
    """Want so many workers, at least one; the number wanted."""
    size = max(1, min(size, MOST))
    if size != cluster.goal.size:
        if cluster.config.listen.balance == "reuseport":
            try:
                cluster.sockets.widen(size)
            except BindError as error:
                raise ConfigError(error.message) from error
        before, cluster.goal = cluster.goal.size, replace(cluster.goal, size=size)
        cluster.note(Kind.SCALED, size=size, before=before, reason=why)
    return size


MOST = 480  # two rows a slot during a roll, and 1,024 rows


def dump(cluster: Cluster, rows: list[int]) -> list[int]:
    """Ask workers for their stacks; the pids asked. Those silent for a second get the signal."""
    asked = []
    for row in rows:
        worker = cluster.roster.workers[row]
        if worker.pid is not None and worker.phase is not Phase.KILLED:
            cluster.handles[row].channel.send(DumpOrder())
            cluster.dumps[row] = Dump(cluster.kernel.now() + DUMP_PATIENCE)
            asked.append(worker.pid)
    return asked


def reopen(cluster: Cluster) -> None:
    """Open the log file anew (it was rotated) and pass it on. Raises ConfigError."""
    path = cluster.config.log.log_file
    if path:
        try:
            fd = log.open_file(path)
        except OSError as error:
            reason = f"{path} cannot be opened: {error.strerror}"
            cluster.note(Kind.TROUBLE, reason=reason, next="the old file is written to")
            raise ConfigError(reason) from error
        cluster.use_log(fd)
        for handles in cluster.handles.values():
            if handles.channel.fileno() >= 0:
                handles.channel.send(Reopen(), [fd])
        for channel in cluster.zygote_channels.values():
            channel.send(Reopen(), [fd])
    cluster.note(Kind.REOPENED, path=path)
