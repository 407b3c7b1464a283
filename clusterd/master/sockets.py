"""The sockets that the cluster listens on: all of them, by address, and by slot."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from clusterd.config.address import Tcp, parse_bind, without_option
from clusterd.config.serving import ListenSettings
from clusterd.core.errors import ConfigError
from clusterd.kernel.filters import welcome_newcomers
from clusterd.master.activation import Luggage
from clusterd.master.listener import Listener, listen, sibling

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opened:
    """The addresses that one `Sockets.add` opened, and the dropped listeners it took back."""

    keys: list[str]
    back: list[Listener]


class Sockets:
    """Listeners, grouped by the address they were asked for with."""

    def __init__(self, luggage: Luggage | None = None) -> None:
        self.luggage = luggage  # what we were started with
        self.groups: dict[str, list[Listener]] = {}
        self.backlog = 0
        self.held = False  # TCP ports are closed to newcomers: see `hold_back`
        self.held_files = False  # Unix sockets do not listen yet

    def __iter__(self) -> Iterator[Listener]:
        return (listener for group in self.groups.values() for listener in group)

    def add(self, settings: ListenSettings, size: int) -> Opened:
        """Bind what is not bound yet; all or nothing. Raises BindError or ConfigError."""
        self.backlog = settings.backlog
        keys = [str(parse_bind(text)) for text in settings.bind]
        # Socket files have been shut down for good: such an address is bound anew.
        files = {
            key for key in keys for one in self.groups.get(key, ()) if one.dropped and one.path
        }
        self.remove(files)
        before = {key: list(group) for key, group in self.groups.items()}
        names = {id(one): (one.name, one.slot) for one in self}
        opened = Opened([], [])
        try:
            for key in keys:
                if key not in self.groups:
                    self._refuse_change(key)
                    made = listen(parse_bind(key), settings.backlog, self.luggage, self.held_files)
                    self.groups[key] = made
                    opened.keys.append(key)
                for one in [one for one in self.groups[key] if one.dropped]:
                    if not self.held:
                        welcome_newcomers(one.sock)
                    one.dropped = False
                    opened.back.append(one)
            if settings.balance == "reuseport":
                self.widen(size)
            if self.held:
                self.refuse_newcomers(one for one in self if not one.path)
        except BaseException:
            self.undo(opened)
            for key, group in before.items():
                for one in self.groups[key]:
                    if one not in group:
                        one.close()
                    else:
                        one.name, one.slot = names[id(one)]
                self.groups[key] = group
            raise
        return opened

    def undo(self, opened: Opened) -> None:
        """Close again what `add` opened; what had been dropped only empties, as before."""
        self.remove(opened.keys)
        self.refuse_newcomers(opened.back)
        for one in opened.back:
            one.dropped = True

    def _refuse_change(self, key: str) -> None:
        """Raise ConfigError where an address that is bound is to speak something else."""
        place = without_option(parse_bind(key))
        if not place.endswith(":0"):
            for other in self.groups:
                if without_option(parse_bind(other)) == place:
                    raise ConfigError(
                        f"{other} cannot become {key} while running",
                        "restart clusterd, or use another port",
                    )

    def widen(self, size: int) -> None:
        """A socket for every slot of every TCP address (`--balance reuseport`)."""
        for key, group in self.groups.items():
            if not isinstance(parse_bind(key), Tcp):
                continue
            firsts = [one for one in group if one.slot in (None, 0)]
            for first in firsts:
                name = first.name.partition("#")[0]
                first.name, first.slot = f"{name}#0", 0
                have = {one.slot for one in group if one.name.partition("#")[0] == name}
                for slot in range(size):
                    if slot not in have:
                        made = sibling(first, slot, self.backlog, self.luggage)
                        group.append(made)
                        if self.held:
                            self.refuse_newcomers([made])

    def remove(self, keys: Iterable[str]) -> None:
        """Close the listeners of some addresses."""
        for key in keys:
            for listener in self.groups.pop(key, ()):
                listener.close()

    def unwanted(self, settings: ListenSettings) -> list[str]:
        """Addresses that are bound and that the settings no longer name."""
        wanted = {str(parse_bind(text)) for text in settings.bind}
        return [key for key in self.groups if key not in wanted and not self._is_dropped(key)]

    def _is_dropped(self, key: str) -> bool:
        return any(one.dropped for one in self.groups[key])

    def dropped(self) -> list[Listener]:
        """Listeners of addresses that are no longer wanted, whose queues are yet to be emptied."""
        return [one for one in self if one.dropped]

    def close(self, listeners: Iterable[Listener]) -> None:
        """Close some listeners, and forget addresses that have none left."""
        for listener in listeners:
            listener.close()
        gone = {id(listener) for listener in listeners}
        self.groups = {
            key: left
            for key, group in self.groups.items()
            if (left := [one for one in group if id(one) not in gone])
        }

    def hold_back(self, files: bool) -> None:
        """Let no connection into the queues of what is bound from now on, until `welcome`.

        For a group of which no worker has been ready. Should none ever be, its clients were never
        connected, and so none is reset. At a port they try again meanwhile, as if the queue were
        full. A Unix socket (`files`) is bound and does not listen: its clients are refused.
        """
        self.held, self.held_files = True, files

    def welcome(self) -> None:
        """Take back `hold_back`: a worker is ready."""
        self.held = self.held_files = False
        for one in self:
            if one.inherited or one.dropped:
                continue
            one.sock.listen(self.backlog)  # also where a short queue was the best that could be had
            if not one.path:
                welcome_newcomers(one.sock)

    def is_waited_for(self) -> bool:
        """Return whether connections wait in a queue that ends with us."""
        return any(one.is_waited_for() for one in self if not one.inherited)

    def mark_served(self) -> None:
        """A worker empties all queues before it leaves."""
        for one in self:
            one.unserved = False

    def leave_unserved(self) -> None:
        """That worker ended before its time: of the queue of a Unix socket nothing is known."""
        for one in self:
            one.unserved = bool(one.path)

    def of_slot(self, slot: int, settings: ListenSettings) -> list[Listener]:
        """What a new worker of this slot serves."""
        wanted = {str(parse_bind(text)) for text in settings.bind}
        return [
            one
            for key, group in self.groups.items()
            if key in wanted
            for one in group
            if one.slot in (None, slot)
        ]

    def files(self) -> list[tuple[str, int]]:
        """Socket files with their inodes, for the undertaker."""
        return [(one.path, one.inode) for one in self if one.path and not one.kept]

    def refuse_newcomers(self, listeners: Iterable[Listener]) -> list[str]:
        """From now on the queues of these only empty; those that outlive us are left as they are.

        Answers where the system would not have it: there a newcomer may still be reset. Some
        kernels let only CAP_NET_ADMIN filter, and then a queue for one is the next best; but one
        that systemd keeps for our next life may fill.
        """
        failed = []
        for listener in listeners:
            try:
                if not listener.inherited:
                    listener.refuse_newcomers()
            except OSError as error:
                if listener.kept:
                    continue
                with contextlib.suppress(OSError):
                    listener.sock.listen(0)
                failed.append(f"{listener.name} still takes connections: {error.strerror}")
        return failed


def somaxconn() -> int:
    """The kernel's cap on any backlog, or 0 where it cannot be read."""
    try:
        return int(Path("/proc/sys/net/core/somaxconn").read_text())
    except (OSError, ValueError):
        return 0


def batched(items: list[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most `size`."""
    return (items[i : i + size] for i in range(0, len(items), size))
