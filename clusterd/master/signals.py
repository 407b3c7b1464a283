"""What each signal means to the master: one table."""

import signal
from collections.abc import Callable

from clusterd.core.errors import ClusterdError
from clusterd.core.events import Kind
from clusterd.master import orders, reload
from clusterd.master.cluster import Cluster

SHORT = 5.0  # seconds: the graceful timeout of somebody who waits at a terminal


def term(cluster: Cluster, _count: int) -> None:
    orders.stop(cluster, "SIGTERM")


def interrupt(cluster: Cluster, count: int) -> None:
    """The first is graceful with a short cap, the second quick, the third kills."""
    for _ in range(count):
        cluster.interrupts += 1
        if cluster.interrupts == 1:
            orders.stop(cluster, "SIGINT (again to leave at once)", SHORT)
        elif cluster.interrupts == 2:
            orders.quit_now(cluster, "SIGINT twice (again to kill)")
        else:
            orders.kill_all(cluster, "SIGINT three times")


def quick(cluster: Cluster, _count: int) -> None:
    orders.quit_now(cluster, "SIGQUIT", dumps=True)


def hang_up(cluster: Cluster, _count: int) -> None:
    """Reload; but when our terminal is gone it means that whoever started us is gone too."""
    if cluster.terminal and not cluster.kernel.has_terminal():
        orders.stop(cluster, "the terminal is gone")
    elif not cluster.stopping:
        reload.begin_quietly(cluster, "SIGHUP")


def reopen(cluster: Cluster, _count: int) -> None:
    orders.reopen(cluster)


def upgrade(cluster: Cluster, _count: int) -> None:
    orders.upgrade(cluster, "SIGUSR2")


def pause(cluster: Cluster, _count: int) -> None:
    if not cluster.terminal:  # there it only says that the window's size changed
        orders.pause_all(cluster.wanted)


def one_more(cluster: Cluster, count: int) -> None:
    # Each adds one: that is no slip, as a number too many would be, and needs no --force.
    orders.scale(cluster.main, cluster.main.goal.size + count, "SIGTTIN", force=True)


def one_fewer(cluster: Cluster, count: int) -> None:
    # Signals may be many at once; the last worker stays, as with other servers.
    orders.scale(cluster.main, max(1, cluster.main.goal.size - count), "SIGTTOU")


TABLE: dict[signal.Signals, Callable[[Cluster, int], None]] = {
    signal.SIGTERM: term,
    signal.SIGINT: interrupt,
    signal.SIGQUIT: quick,
    signal.SIGHUP: hang_up,
    signal.SIGUSR1: reopen,
    signal.SIGUSR2: upgrade,
    signal.SIGWINCH: pause,
    signal.SIGTTIN: one_more,
    signal.SIGTTOU: one_fewer,
}


def obey(cluster: Cluster, number: signal.Signals, count: int) -> None:
    """Do what a signal says. What cannot be done is journaled, never raised."""
    act = TABLE.get(number)
    if act is None:
        return  # SIGCHLD was seen to already
    cluster.note(Kind.SIGNALLED, signal=number.name, **({"times": count} if count > 1 else {}))
    try:
        act(cluster, count)
    except ClusterdError as error:
        cluster.note(Kind.TROUBLE, signal=number.name, reason=error.message)
