"""The master after an upgrade in place: everything is there, and goes on."""

import signal

from clusterd import __version__
from clusterd.core.events import Kind
from clusterd.master import logbook
from clusterd.master.group import Group, Pipe
from clusterd.master.run import close, serve, title
from clusterd.master.state import State


def carry_on(state: State, previous: str) -> int:
    """Serve until stopped; the exit status. `previous` is the version that we were."""
    try:
        open_again(state)
        announce(state, previous)
        return serve(state.cluster, state.control)
    finally:
        close(state.cluster, state.control)


def open_again(state: State) -> None:
    """Hear everybody again; the last are signals, which were held back until now."""
    cluster, kernel = state.cluster, state.cluster.kernel
    cluster.journal.listen(logbook.Logbook(cluster.config.dev.dev))
    if state.control is not None:
        state.control.open()
    for group in cluster.groups.values():
        watch(group)
    kernel.adopt()
    kernel.recall({signal.Signals(number): count for number, count in state.signals.items()})
    kernel.release_signals(state.mask)


def watch(group: Group) -> None:
    """Wait for what a group's processes say."""
    for row, handles in group.handles.items():
        if handles.channel.fileno() >= 0:
            group.kernel.watch(handles.channel, ("worker", group.name, row))
            group.kernel.watch(Pipe(handles.dump), ("dump", group.name, row))
    for pid, channel in group.zygote_channels.items():
        group.kernel.watch(channel, ("zygote", group.name, pid))


def announce(state: State, previous: str) -> None:
    """Say that we are another."""
    cluster = state.cluster
    title(cluster)
    seconds = round(cluster.kernel.now() - state.began, 3)
    told = {"pid": cluster.pid, "version": __version__, "previous": previous}
    cluster.note(Kind.UPGRADED, **told, seconds=seconds)
