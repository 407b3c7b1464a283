"""The master's whole state as one document, for the master that it becomes at an upgrade in place.

The fields are those of the dataclasses, by `plain`. What two versions must agree on beside them is
written down too, since workers and zygotes live on: the messages they speak and the scoreboard.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from clusterd import __version__
from clusterd.core.events import Event, Kind
from clusterd.core.plain import Fields, Hints, Read, Reader, Unfit, Write, Writer
from clusterd.ipc.certificates import Sealed
from clusterd.ipc.channel import MasterChannel
from clusterd.ipc.journal import Journal
from clusterd.ipc.messages import WIRE
from clusterd.ipc.scoreboard import Scoreboard, layout
from clusterd.kernel.real import Kernel
from clusterd.master.certificates import Renewal
from clusterd.master.cluster import Cluster
from clusterd.master.control import Client, Control
from clusterd.master.group import Group
from clusterd.master.listener import Listener
from clusterd.master.orphans import Orphans
from clusterd.master.sockets import Sockets
from clusterd.master.waiters import KINDS, Waiter

FORMAT = 1  # of the document; a version that does not know it refuses

# What is not carried: it is made anew, or is over by then.
LEFT: Fields = {
    Cluster: dict.fromkeys(("reread", "kernel", "ahead", "fault", "upgrade", "orphans")),
    # The first look at memory makes the event anew.
    Group: dict.fromkeys(("cluster", "autoscale", "pressure_event")) | {"pressed_at": 0.0},
}
HINTS = Hints({"Renewal": Renewal, "Cluster": Cluster, "Group": Group})


@dataclass(slots=True)
class State:
    """Everything that goes on."""

    cluster: Cluster
    journal: Journal
    control: Control | None
    began: float  # the upgrade, monotonic seconds
    signals: dict[int, int]  # that came and were not yet obeyed
    mask: list[int]  # signals blocked before the upgrade blocked all


def dialect() -> dict[str, list[str]]:
    """Every message and its fields: those who are there already must be understood."""
    return {name: sorted(one.name for one in fields(cls)) for name, cls in WIRE.items()}


def write(state: State) -> tuple[bytes, list[int]]:
    """The document, and the descriptors that it names. Raises Unfit for what nobody can carry."""
    writer = Writer(HINTS, LEFT, WRITE)
    body = writer.write(State, state)
    agreed = {"format": FORMAT, "version": __version__, "messages": dialect(), "board": layout()}
    text = json.dumps({**agreed, "state": body}, default=str)
    return text.encode("utf-8", "backslashreplace"), writer.descriptors


def read(data: bytes, kernel: Kernel, take: Callable[[int], int]) -> tuple[State, str]:
    """The state in a document, and the version that wrote it. Raises Unfit, and says why.

    `take` makes a descriptor ours and gives its number; it raises OSError for what is none.
    """
    try:
        document = json.loads(data)
        found, version = document["format"], document["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise Unfit(f"this is no state of a master: {error!r}") from error
    if found != FORMAT:
        raise Unfit(
            f"the state is of format {found!r}, and this version knows format {FORMAT}",
            "restart clusterd instead",
        )
    _agree("message", document["messages"], dialect())
    _know(document["messages"])
    _agree("cell", document["board"], layout())
    special = {**READ, Journal: lambda _reader, plain: _journal(plain, kernel.wall)}
    reader = Reader(HINTS, LEFT, special, take)
    state: State = reader.read(State, document["state"], "state")
    cluster = state.cluster
    cluster.kernel, cluster.journal = kernel, state.journal
    cluster.orphans = Orphans(due=0.0)  # found anew
    cluster.journal.listen(cluster.tallies.hear)
    for group in cluster.groups.values():
        group.cluster = cluster
    if state.control is not None:
        state.control.cluster = cluster
    return state, version


def _agree(what: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise Unfit where processes that run already would not be understood."""
    for name, one in theirs.items():
        if ours.get(name) != one:
            raise Unfit(
                f"the {what} {name!r} is another in this version: {one} became {ours.get(name)}",
                "restart clusterd instead",
            )


def _know(theirs: dict[str, Any]) -> None:
    """Raise Unfit where processes that run already would not understand us."""
    if added := sorted(dialect().keys() - theirs.keys()):
        raise Unfit(
            f"workers that run already do not know the message {added[0]!r} of this version",
            "restart clusterd instead",
        )


def _write_socket(writer: Writer, sock: socket.socket) -> int:
    return writer.descriptor(sock.fileno())


def _read_socket(reader: Reader, plain: Any) -> socket.socket:
    """Also one that was closed, as the channel of a worker that is about to be reaped."""
    fd = reader.descriptor(plain)
    if fd < 0:
        closed = socket.socket()
        closed.close()
        return closed
    return socket.socket(fileno=fd)


def _write_sockets(writer: Writer, sockets: Sockets) -> Any:
    groups = writer.write(dict[str, list[Listener]], sockets.groups, "listeners")
    held = {"held": sockets.held, "held_files": sockets.held_files}
    return {"groups": groups, "backlog": sockets.backlog, **held}


def _read_sockets(reader: Reader, plain: Any) -> Sockets:
    sockets = Sockets()
    sockets.groups = reader.read(dict[str, list[Listener]], plain["groups"], "listeners")
    sockets.backlog = int(plain["backlog"])
    sockets.held = bool(plain.get("held"))  # an older version does not know it
    sockets.held_files = bool(plain.get("held_files"))
    return sockets


def _write_journal(_writer: Writer, journal: Journal) -> Any:
    events = [(one.number, one.time, one.kind.value, one.fields) for one in journal.since(0)]
    return {"last": journal.last, "events": events}


def _journal(plain: Any, wall: Callable[[], float]) -> Journal:
    # By hand: there may be thousands, and clients of the control socket wait meanwhile.
    events = [Event(n, when, Kind(kind), fields) for n, when, kind, fields in plain["events"]]
    return Journal.restored(events, int(plain["last"]), wall)


def _write_control(writer: Writer, control: Control) -> Any:
    return {
        "file": writer.write(Listener, control.file, "control"),
        "clients": writer.write(list[Client], list(control.clients.values()), "clients"),
    }


def _read_control(reader: Reader, plain: Any) -> Control:
    file = reader.read(Listener, plain["file"], "control")
    return Control.restored(file, reader.read(list[Client], plain["clients"], "clients"))


def _write_waiter(writer: Writer, waiter: Waiter) -> Any:
    return [type(waiter).__name__, writer.write(type(waiter), waiter)]


def _read_waiter(reader: Reader, plain: Any) -> Waiter:
    name, body = plain
    waiter: Waiter = reader.read(KINDS[name], body, name)
    return waiter


WRITE: dict[type, Write] = {
    socket.socket: _write_socket,
    MasterChannel: lambda writer, channel: _write_socket(writer, channel.sock),
    Sealed: lambda writer, sealed: writer.descriptor(sealed.fd),
    Scoreboard: lambda writer, one: writer.descriptor(one.fd),
    Sockets: _write_sockets,
    Journal: _write_journal,
    Control: _write_control,
    Waiter: _write_waiter,
}
READ: dict[type, Read] = {
    socket.socket: _read_socket,
    MasterChannel: lambda reader, plain: MasterChannel(_read_socket(reader, plain)),
    Sealed: lambda reader, plain: reader.once(Sealed, plain),
    Scoreboard: lambda reader, plain: Scoreboard(reader.descriptor(plain)),
    Sockets: _read_sockets,
    Control: _read_control,
    Waiter: _read_waiter,
}
