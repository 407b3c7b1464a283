"""The control socket: one more descriptor in the master's loop. One JSON object a line.

Nobody here is waited for: what a client does not read is kept up to a limit, then it is dropped.
"""

import json
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from clusterd.config.address import Unix
from clusterd.core.errors import BindError
from clusterd.core.events import Event
from clusterd.kernel.real import Kernel
from clusterd.master import commands
from clusterd.master.cluster import Cluster
from clusterd.master.listener import Listener, listen
from clusterd.master.readers import let_in, reader
from clusterd.master.waiters import Reply, Waiter, refused

MOST_CLIENTS = 64
MOST_REQUEST = 64 * 1024  # bytes without a line's end
MOST_UNREAD = 4 * 1024 * 1024  # bytes; the whole journal is some 1 MiB
NOBODY = -1  # a user whom nobody is
_PEERCRED = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED, unix(7)


@dataclass(slots=True)
class Client:
    """One connection, its unread output, and what it waits for."""

    number: int
    sock: socket.socket
    heard: bytearray = field(default_factory=bytearray)
    unread: bytearray = field(default_factory=bytearray)
    waiter: Waiter | None = None
    follows: bool = False
    closing: bool = False  # once what is unread has gone
    looks_only: bool = False  # it is another user, and may change nothing


class Control:
    """The listening socket and its clients."""

    def __init__(self, cluster: Cluster, path: str) -> None:
        self.cluster = cluster
        self.path = path
        self.clients: dict[int, Client] = {}
        self._numbers = 0
        is_new = not os.path.isdir(os.path.dirname(path))
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        except OSError as error:
            reason = f"the control socket {path} cannot be made: {error.strerror}"
            raise BindError(reason) from error
        (self.file,) = listen(Unix(path, 0o600), MOST_CLIENTS)
        cluster.control_file = [(self.file.path, self.file.inode)]
        cluster.guard(let_in, cluster, path, is_new)
        self.open()

    @classmethod
    def restored(cls, file: Listener, clients: Iterable[Client]) -> Self:
        """The control socket of an earlier life. `cluster` is told before it is opened."""
        control = cls.__new__(cls)
        control.path, control.file = file.path, file
        control.clients = {client.number: client for client in clients}
        control._numbers = max(control.clients, default=0)
        return control

    def open(self) -> None:
        """Hear clients, and let them hear of events."""
        self.commanded = True  # something that the loop has to see to came in
        found = reader(self.cluster)
        self._reader = found.uid if found is not None else NOBODY
        self._kernel.watch(self.file.sock, ("control", 0))
        for client in list(self.clients.values()):
            self._watch(client)
        self.cluster.journal.listen(self._spread)

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
            self._hear(client)

    def _accept(self) -> None:
        try:
            sock, _ = self.file.sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # any other error (too many open files, say) is lived through by the loop
        _, uid, _ = _PEERCRED.unpack(
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
        )
        is_ours = uid in (0, os.geteuid())
        if not (is_ours or uid == self._reader) or len(self.clients) >= MOST_CLIENTS:
            sock.close()
            return
        sock.setblocking(False)
        self._numbers += 1
        client = Client(self._numbers, sock, looks_only=not is_ours)
        self.clients[client.number] = client
        self._watch(client)

    def _watch(self, client: Client) -> None:
        """Wait for what it says, and while something is unread, for room to write it."""
        key = ("control", client.number)
        try:
            self._kernel.watch(client.sock, key, write=bool(client.unread))
        except OSError:  # events are told from anywhere in the master, and must not raise there
            self._drop(client)

    def _hear(self, client: Client) -> None:
        try:
            data = client.sock.recv(MOST_REQUEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.heard += data
        while not client.closing and (end := client.heard.find(b"\n")) >= 0:
            line = bytes(client.heard[:end])
            del client.heard[: end + 1]
            self._obey(client, line)
        if len(client.heard) > MOST_REQUEST:
            self._drop(client)

    def _obey(self, client: Client, line: bytes) -> None:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("an object is wanted")
        except (ValueError, RecursionError) as error:
            self._say(client, refused(f"this is no request: {error}"))
            return
        self.commanded |= request.get("command") not in commands.READING
        if client.looks_only and request.get("command") not in commands.READING:
            self._say(client, refused("only who runs the cluster may command it"))
            return
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
        for event in self.cluster.journal.since(since):
            self._say(client, event.flat())
        client.follows = bool(request.get("follow"))
        if not client.follows:
            client.closing = True
            self._flush(client)

    def _spread(self, event: Event) -> None:
        """Every event goes to those who follow, and to those who wait for just this."""
        for client in list(self.clients.values()):
            if client.follows:
                self._say(client, event.flat())
            elif client.waiter is not None:
                reply = client.waiter(event)
                if reply is not None:
                    client.waiter = None
                    self._say(client, reply)

    def _say(self, client: Client, reply: Reply) -> None:
        client.unread += json.dumps(reply, default=str).encode() + b"\n"
        self._flush(client)
        if len(client.unread) > MOST_UNREAD:
            self._drop(client)  # it does not read; it may come back with the last number it saw

    def _flush(self, client: Client) -> None:
        if client.number not in self.clients:
            return
        was_stuck = bool(client.unread)
        try:
            while client.unread:
                sent = client.sock.send(client.unread, socket.MSG_NOSIGNAL)
                del client.unread[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(client)
            return
        if client.unread or was_stuck:
            self._watch(client)
        if client.closing and not client.unread:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        if self.clients.pop(client.number, None) is not None:
            self._kernel.unwatch(client.sock)
            client.sock.close()
