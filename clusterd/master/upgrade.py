"""The upgrade in place: today's interpreter and clusterd are tried first, then we become them.

The trial is a child that rebuilds the master's whole state with the new code, as the new master
will, touches nothing and says whether it could. Nothing here waits: it is looked at every turn.
"""

import contextlib
import os
import signal
import sys
from math import inf

from clusterd import __version__
from clusterd.core.errors import ConfigError
from clusterd.core.events import Kind
from clusterd.kernel import memory
from clusterd.kernel.real import Death
from clusterd.master import trusted_paths
from clusterd.master.cluster import Cluster
from clusterd.master.control import Control
from clusterd.master.group import Pipe
from clusterd.master.state import State, write
from clusterd.master.trial import Trial

PATIENCE = 30.0  # seconds that the trial may take; one on a busy machine takes two
MOST_TEXT = 32 * 1024  # bytes that are kept of what the trial said
PIECE = 64 * 1024  # bytes to read at once: what a pipe holds
PIECES = 2  # to read in a turn, however fast they come
SERVES_ON = "the running version serves on"


def command(role: str, state: int) -> list[str]:
    """Today's interpreter and code, given the state: to try it, or to go on from it."""
    return [sys.executable, "-P", "-m", "clusterd.cli.resume", role, str(state)]


def settle(cluster: Cluster, control: Control | None) -> None:
    """Look at the upgrade, and take the next step. Called at the end of each turn."""
    trial = cluster.upgrade
    if trial is None:
        return
    if cluster.stopping:
        _fail(cluster, trial, "the cluster is stopping", asked=True)
    elif not trial.pid:
        _try(cluster, control, trial)
    elif trial.code is None:
        if trial.deadline <= cluster.kernel.now():
            _fail(cluster, trial, f"the trial took more than {PATIENCE:g} s")
    elif not trial.fit:
        _fail(cluster, trial, trial.fault)
    else:
        _go(cluster, control, trial)


def spoke(cluster: Cluster) -> None:
    """The trial said something: what is wrong, or what the new code warns of."""
    trial = cluster.upgrade
    if trial is None or trial.output < 0:
        return
    with contextlib.suppress(BlockingIOError):
        for _ in range(PIECES):
            piece = os.read(trial.output, PIECE)
            trial.text = (trial.text + piece)[-MOST_TEXT:]
            if not piece:
                cluster.kernel.unwatch(Pipe(trial.output))  # EOF; its death follows
                return


def died(cluster: Cluster, death: Death) -> bool:
    """A child was reaped: was it the trial?"""
    trial = cluster.upgrade
    if trial is None or death.pid != trial.pid:
        return False
    spoke(cluster)
    trial.code = death.code
    return True


def due(cluster: Cluster) -> float:
    """When to look at the trial though nothing happened."""
    return inf if cluster.upgrade is None else cluster.upgrade.deadline


def _document(cluster: Cluster, control: Control | None, began: float) -> tuple[int, list[int]]:
    """The state in a memfd, and the descriptors in it. Raises Unfit or OSError."""
    state = State(cluster, cluster.journal, control, began, {}, [])
    data, descriptors = write(state)
    return memory.store("clusterd-state", data), descriptors


def _try(cluster: Cluster, control: Control | None, trial: Trial) -> None:
    kernel, output = cluster.kernel, -1
    try:  # what is tried runs with our rights, so it is judged first
        groups = cluster.configs
        trusted_paths.refuse_code(groups, os.environ)
    except ConfigError as error:
        _fail(cluster, trial, f"{error.message}; {error.remedy}")
        return
    try:
        state, keep = _document(cluster, control, trial.began)
        try:
            trial.output, output = kernel.pipe()
            kernel.watch(Pipe(trial.output), ("trial",))
            words = command("trial", state)
            trial.pid = kernel.try_out(words, [state, *keep], output, cluster.directory)
        finally:
            os.close(state)
            if output >= 0:
                os.close(output)
    except Exception as error:  # whatever it is, the cluster serves on
        _fail(cluster, trial, f"it could not be tried: {error}")
        return
    trial.deadline = kernel.now() + PATIENCE


def _go(cluster: Cluster, control: Control | None, trial: Trial) -> None:
    """Become it. What comes meanwhile waits: signals in the kernel, clients in the queue."""
    kernel = cluster.kernel
    _forget(cluster, trial)
    mask = kernel.hold_signals()
    pending = kernel.signals()
    state = -1
    try:
        made = State(cluster, cluster.journal, control, trial.began, {}, mask)
        made.signals = {int(number): count for number, count in pending.items()}
        data, keep = write(made)
        state = memory.store("clusterd-state", data)
        kernel.become(command("run", state), [state, *keep], cluster.directory)
    except Exception as error:
        _fail(cluster, trial, f"it could not be executed: {error}")
    finally:
        if state >= 0:
            os.close(state)
        kernel.recall(pending)
        kernel.release_signals(mask)


def _fail(cluster: Cluster, trial: Trial, reason: str, asked: bool = False) -> None:
    """End a trial. `asked`: not for a fault of it, but since the cluster was told to stop."""
    if trial.pid and trial.code is None:
        cluster.kernel.kill(trial.pid, signal.SIGKILL)
    _forget(cluster, trial)
    cluster.note(
        Kind.UPGRADE_FAILED,
        version=__version__,
        reason=reason,
        next="the running version stops" if asked else SERVES_ON,
        traceback=trial.said if "\n" in trial.said else "",
        **({"asked": True} if asked else {}),
    )


def _forget(cluster: Cluster, trial: Trial) -> None:
    cluster.upgrade = None
    if trial.output >= 0:
        cluster.kernel.unwatch(Pipe(trial.output))
        os.close(trial.output)
        trial.output = -1
