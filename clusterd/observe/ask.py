"""Asking the master from an event loop, which must not wait for it."""

import asyncio
import collections
import json
from typing import Any

from clusterd.ipc.trusted import stranger

Reply = dict[str, Any]
PATIENCE = 2.0  # seconds; the master answers in a millisecond, or something is very wrong


class Unreachable(Exception):
    """The master did not answer; the text says why."""


class HungUp(Unreachable):
    """The line was closed: by a master that left, or that became another in an upgrade."""


class Line(asyncio.Protocol):
    """A connection to the control socket. The master answers in the order of the questions.

    Not a stream of asyncio's, with a task and a lock for each question: a scrape would cost half
    as much again.
    """

    def __init__(self, patience: float) -> None:
        self.is_open = False
        self.used = False
        self._patience = patience
        self._heard = b""
        self._asked: dict[str, asyncio.Future[Reply]] = {}
        self._waiting: collections.deque[tuple[str, asyncio.Future[Reply]]] = collections.deque()

    def ask(self, command: str) -> "asyncio.Future[Reply]":
        """The reply to be; who asks the same meanwhile shares it."""
        found = self._asked.get(command)
        if found is None:
            loop = asyncio.get_running_loop()
            found = self._asked[command] = loop.create_future()
            self._waiting.append((command, found))
            timer = loop.call_later(self._patience, self._late)
            found.add_done_callback(lambda _: timer.cancel())
            self._transport.write(json.dumps({"command": command}).encode() + b"\n")
        # Who gives up waiting does not take the answer from the others.
        return asyncio.shield(found)

    def close(self, error: Unreachable | None = None) -> None:
        """Hang up; whoever still waits gets the error."""
        self.is_open = False
        self._transport.abort()
        while self._waiting:
            command, found = self._waiting.popleft()
            del self._asked[command]
            found.set_exception(error or HungUp("the master hung up"))
            found.exception()  # it may be that nobody waits for it any more

    def _late(self) -> None:
        # The late reply must not be taken for that to another question.
        self.close(Unreachable(f"the master did not answer in {self._patience:g} s"))

    @property
    def socket(self) -> Any:
        """The socket below, as the event loop shows it."""
        return self._transport.get_extra_info("socket")

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.is_open = True

    def connection_lost(self, _error: Exception | None) -> None:
        self.close()

    def data_received(self, data: bytes) -> None:
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            self._answer(line)

    def _answer(self, line: bytes) -> None:
        if not self._waiting:
            self.close()
            return
        try:
            reply = json.loads(line)
            if not isinstance(reply, dict) or not reply.get("ok"):
                raise ValueError
        except ValueError:
            said = line[:200].decode(errors="replace")
            self.close(Unreachable(f"the master cannot be asked: it says {said}"))
            return
        self.used = True
        command, found = self._waiting.popleft()
        del self._asked[command]
        found.set_result(reply)


class Master:
    """The control socket. One line is kept: a question costs the master one wake-up."""

    def __init__(self, path: str, patience: float = PATIENCE) -> None:
        self.path = path
        self.patience = patience
        self._line: Line | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, command: str) -> Reply:
        """The reply to a command. Raises Unreachable."""
        line = await self._open()
        try:
            return await line.ask(command)
        except HungUp:
            if not line.used:
                raise
        return await (await self._open()).ask(command)  # it left, or became another

    def close(self) -> None:
        """Let go of the line."""
        if self._line is not None:
            self._line.close()

    async def _open(self) -> Line:
        """The line that is open, or a new one."""
        if self._line is None or not self._line.is_open:
            async with self._connecting:
                if self._line is None or not self._line.is_open:
                    self._line = await self._connect()
        return self._line

    async def _connect(self) -> Line:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.patience):
                _, line = await loop.create_unix_connection(lambda: Line(self.patience), self.path)
        except TimeoutError:
            raise Unreachable(f"the master does not take calls for {self.patience:g} s") from None
        except OSError as error:
            raise Unreachable(f"the master cannot be asked: {error}") from None
        if (uid := stranger(line.socket, self.path)) is not None:
            line.close()
            raise Unreachable(f"what listens at {self.path} runs as user {uid}: it is not asked")
        return line
