"""The control socket: one more descriptor in the master's loop. One JSON object a line.

Nobody here is waited for: what a client does not read is kept up to a limit, then it is dropped.
"""

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from clusterd.config.address import Unix
from clusterd.config.runtime_dir import SYSTEM, fault, foreign
from clusterd.core.errors import BindError
from clusterd.core.events import Event, Kind
from clusterd.kernel import passing
from clusterd.kernel.peers import peer_of
from clusterd.kernel.privileges import Identity
from clusterd.kernel.real import Kernel
from clusterd.master import commands
from clusterd.master.cluster import Cluster
from clusterd.master.holder import owner_of
from clusterd.master.listener import Listener, listen
from clusterd.master.readers import ADMIN, let_in, reader
from clusterd.master.waiters import Reply, Waiter, refused

MOST_CLIENTS = 64
MOST_REQUEST = 64 * 1024  # bytes without a line's end
MOST_UNREAD = 16 * 1024 * 1024  # bytes, of all clients together: one dump of many workers
MOST_EVENTS = 256  # that are looked at for that
MOST_AT_ONCE = 16  # requests of a client that are seen to in a turn: others wait meanwhile
PIECE = 64 * 1024  # bytes of the journal that are made ready for a client at once
ADMITTING = (Kind.GROUP_ADDED, Kind.GROUP_REMOVED, Kind.ROLLOUT_FINISHED)  # may change who looks


@dataclass(slots=True)
class Client:
    """One connection, its unread output, and what it waits for."""

    number: int
    sock: socket.socket
    heard: bytearray = field(default_factory=bytearray)
    unread: bytearray = field(default_factory=bytearray)
    waiter: Waiter | None = None
    since: int | None = None  # it is told events: the number of the last that was made ready
    follows: bool = False  # and those to come
    begun: bool = False  # it was told some
    closing: bool = False  # once what is unread has gone
    looks_only: bool = False  # it is another user, and may change nothing

    @property
    def ready(self) -> bool:
        """May its next request be seen to? It has read all replies, and waits for none.

        A client that asked for events hears nothing else: then the connection ends.
        """
        return not (self.unread or self.waiter is not None or self.since is not None)

    @property
    def due(self) -> bool:
        """Is there a whole request that may be seen to?"""
        return self.ready and b"\n" in self.heard


class Control:
    """The listening socket and its clients."""

    def __init__(self, cluster: Cluster, path: str, was_found: bool = False) -> None:
        """`was_found`: no setting names the directory.

        Then it is looked at again once it is there: where all may write, another user may have
        made it since it was chosen.
        """
        self.cluster = cluster
        self.path = path
        self.clients: dict[int, Client] = {}
        self._numbers = 0
        directory = os.path.dirname(path)
        self._is_new = not os.path.isdir(directory)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            if self._is_new and directory == SYSTEM:
                os.chmod(directory, 0o755)  # as other directories in /run: all may see who runs
                self._is_new = False
        except OSError as error:
            reason = f"the control socket {path} cannot be made: {error.strerror}"
            raise BindError(reason) from error
        uid = os.geteuid()
        if reason := fault(directory, os.environ, uid) if was_found else foreign(directory, uid):
            raise BindError(
                f"the control socket {path} cannot be made: {directory}: {reason}",
                "name a directory of your own with --runtime-dir",
            )
        if owner := owner_of(path):
            raise BindError(
                f"a cluster of this name runs already: {owner}, with the control socket {path}",
                "give this one another name (--name), or stop the other one first: clusterd stop",
            )
        (self.file,) = listen(Unix(path, 0o600), MOST_CLIENTS)
        cluster.control_file = [(self.file.path, self.file.inode)]
        self.open()

    @classmethod
    def restored(cls, file: Listener, clients: Iterable[Client]) -> Self:
        """The control socket of an earlier life. `cluster` is told before it is opened."""
        control = cls.__new__(cls)
        control.path, control.file = file.path, file
        control.clients = {client.number: client for client in clients}
        control._numbers = max(control.clients, default=0)
        control._is_new = False
        return control

    def open(self) -> None:
        """Hear clients, and let them hear of events."""
        self.commanded = True  # something that the loop has to see to came in
        self._reader: Identity | None = None
        self.cluster.guard(self._admit)
        passing.refuse(self.file.sock)
        self._kernel.watch(self.file.sock, ("control", 0))
        for client in list(self.clients.values()):
            self._watch(client)
        self.cluster.journal.listen(self._spread)

    def _admit(self) -> None:
        """Let the admin endpoint in, as whoever it is by now, and nobody who it was before."""
        before, self._reader = self._reader, reader(self.cluster)
        if before == self._reader:
            return
        for client in [one for one in self.clients.values() if one.looks_only and before]:
            self._drop(client)
        let_in(self.cluster, self.path, self._reader, self._is_new)

    @property
    def _kernel(self) -> Kernel:
        return self.cluster.kernel

    def close(self) -> None:
        """Send off what can be sent, and remove our files while we hold their lock."""
        for client in list(self.clients.values()):
            self._flush(client)
            self._drop(client)
        self._kernel.unwatch(self.file.sock)
        self.file.close()

    def woke(self, number: int) -> None:
        """The listener (number 0) or a client is ready."""
        if number == 0:
            self._accept()
            return
        client = self.clients.get(number)
        if client is not None:
            self._flush(client)
            if not client.unread and not client.due:
                self._hear(client)
            self._attend(client)

    def _accept(self) -> None:
        try:
            sock, _ = self.file.sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE) and self._make_room():
                return  # the next turn tries again
            raise  # is lived through by the loop
        _, uid = peer_of(sock)
        is_ours = uid in (0, os.geteuid())
        if not (is_ours or (self._reader is not None and uid == self._reader.uid)):
            sock.close()
            return
        if len(self.clients) >= MOST_CLIENTS:
            self._make_room()
        sock.setblocking(False)
        self._numbers += 1
        client = Client(self._numbers, sock, looks_only=not is_ours)
        self.clients[client.number] = client
        self._watch(client)

    def _make_room(self) -> bool:
        """Drop whom it hurts least, of those the one that was silent longest; False: nobody is
        there.

        Whoever is owed nothing comes again. So does a follower, with the last number it saw.
        """
        if not self.clients:
            return False
        self._drop(min(self.clients.values(), key=_worth))  # the first one of the least worth
        return True

    def _watch(self, client: Client) -> None:
        """Wait for what it says; or while something is unread, for room to write that alone."""
        key, is_stuck = ("control", client.number), bool(client.unread)
        try:  # what is due is seen to in a turn of its own, for which no more need be said
            self._kernel.watch(client.sock, key, write=is_stuck or client.due, read=not is_stuck)
        except OSError:  # events are told from anywhere in the master, and must not raise there
            self._drop(client)

    def _hear(self, client: Client) -> None:
        try:
            data, _, _ = passing.receive(client.sock, MOST_REQUEST)
        except BlockingIOError:
            return
        except (OSError, passing.Descriptors):  # it may be another user's process
            data = b""
        if not data:
            self._drop(client)
            return
        if client.number in self.clients:
            self.clients[client.number] = self.clients.pop(client.number)  # it spoke last
        client.heard += data

    def _attend(self, client: Client) -> None:
        """Obey line by line, as long as it reads the replies and it is nobody else's turn."""
        for _ in range(MOST_AT_ONCE):
            if not client.due:
                break
            line, _, client.heard = client.heard.partition(b"\n")
            self._obey(client, bytes(line))
        if client.number not in self.clients:
            return
        if len(client.heard) > MOST_REQUEST and not client.unread:
            self._drop(client)
        else:
            self._watch(client)

    def _obey(self, client: Client, line: bytes) -> None:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("an object is wanted")
        except (ValueError, RecursionError) as error:
            self._say(client, refused(f"this is no request: {error}"))
            return
        is_command = request.get("command") not in commands.READING
        if client.looks_only and is_command:
            self._say(client, refused("only who runs the cluster may command it"))
            return
        self.commanded |= is_command
        if request.get("command") == "events":
            self._events(client, request)
            return
        reply = commands.answer(self.cluster, request)
        if callable(reply):
            client.waiter = reply
        else:
            self._say(client, reply)

    def _events(self, client: Client, request: dict[str, Any]) -> None:
        since = request.get("since", 0)
        if not isinstance(since, int):
            self._say(client, refused("events: 'since' is a number"))
            return
        client.since, client.follows = since, bool(request.get("follow"))
        self._flush(client)

    def _spread(self, event: Event) -> None:
        """Every event goes to those who follow, and to those who wait for just this."""
        if event.kind in ADMITTING and event.fields.get("group") == ADMIN:
            self.cluster.guard(self._admit)
        for client in list(self.clients.values()):
            if client.since is not None:
                if not client.unread:
                    self._flush(client)
            elif client.waiter is not None:
                reply = client.waiter(event)
                if reply is not None:
                    client.waiter = None
                    self._say(client, reply)
                    if client.heard and client.number in self.clients:
                        self._watch(client)

    def _say(self, client: Client, reply: Reply) -> None:
        client.unread += json.dumps(reply, default=str).encode() + b"\n"
        self._flush(client)
        self._economize(client)

    def _economize(self, newest: Client) -> None:
        """Keep what is unread within bounds: who has the most goes first, but not the newest."""
        others = [each for each in reversed(self.clients.values()) if each is not newest]
        others.sort(key=lambda client: len(client.unread))  # of equals, who spoke last first
        left = sum(len(client.unread) for client in self.clients.values())
        while others and left > MOST_UNREAD and others[-1].unread:
            left -= len(others[-1].unread)
            self._drop(others.pop())

    def _flush(self, client: Client) -> None:
        """Send what there is, and of the journal what follows that."""
        if client.number not in self.clients:
            return
        was_stuck = bool(client.unread)
        try:
            while client.unread or self._refill(client):
                sent = client.sock.send(client.unread, socket.MSG_NOSIGNAL)
                del client.unread[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if client.number not in self.clients:
            return
        if client.closing and not client.unread:
            self._drop(client)
        elif client.unread or was_stuck:
            self._watch(client)

    def _refill(self, client: Client) -> bool:
        """Make ready the events that follow; False where there are none.

        The journal is the buffer: so a slow reader costs no more than a piece. One whose next
        event is no longer kept is dropped; it may come back with the last number that it saw.
        """
        if client.since is None or client.closing:
            return False
        for event in self.cluster.journal.since(client.since, MOST_EVENTS):
            if client.begun and event.number > client.since + 1:
                client.closing = True
                break
            client.unread += json.dumps(event.flat(), default=str).encode() + b"\n"
            client.since, client.begun = event.number, True
            if len(client.unread) > PIECE:
                break
        if not client.follows and client.since >= self.cluster.journal.last:
            client.closing = True
        return bool(client.unread)

    def _drop(self, client: Client) -> None:
        if self.clients.pop(client.number, None) is not None:
            self._kernel.unwatch(client.sock)
            with contextlib.suppress(OSError):  # it closed its end already
                client.sock.shutdown(socket.SHUT_RDWR)  # though the trial of an upgrade has a copy
            passing.let_go(client.sock)


def _worth(client: Client) -> int:
    """How much is lost with a client: nothing, what it does not read, its place, an answer. Those
    who only look are other users, who must not be in the way of ours."""
    if client.looks_only:
        return -1
    if client.waiter is not None:
        return 3
    if client.since is not None:
        return 2
    return 1 if client.unread else 0
