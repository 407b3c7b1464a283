"""Asking the master from an event loop, which must not wait for it."""

import asyncio
import contextlib
import json
from typing import Any

Reply = dict[str, Any]
PATIENCE = 2.0  # seconds; the master answers in a millisecond, or something is very wrong
LONGEST = 16 * 2**20  # bytes of a reply; one of 480 workers has some 200 KiB


class Unreachable(Exception):
    """The master did not answer; the text says why."""


class Master:
    """The control socket. One connection is kept, and who asks the same meanwhile shares the reply:
    a scrape costs the master one wake-up."""

    def __init__(self, path: str, patience: float = PATIENCE) -> None:
        self.path = path
        self._patience = patience
        self._line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()  # one question at a time is on the line
        self._asked: dict[str, asyncio.Task[Reply]] = {}

    async def ask(self, command: str) -> Reply:
        """The reply to a command. Raises Unreachable."""
        task = self._asked.get(command)
        if task is None:
            task = self._asked[command] = asyncio.create_task(self._ask(command))
            task.add_done_callback(lambda _: self._asked.pop(command))
        # Who gives up waiting does not take the answer from the others.
        return await asyncio.shield(task)

    def close(self) -> None:
        """Let go of the connection."""
        if self._line is not None:
            self._line[1].close()
            self._line = None

    async def _ask(self, command: str) -> Reply:
        try:
            async with asyncio.timeout(self._patience), self._turn:
                return await self._answer(command)
        except TimeoutError:
            self.close()  # or the late reply would be taken for that to the next question
            raise Unreachable(f"the master did not answer in {self._patience:g} s") from None
        except (OSError, ValueError) as error:
            self.close()
            raise Unreachable(f"the master cannot be asked: {error}") from None

    async def _answer(self, command: str) -> Reply:
        """By the line that is open, unless the master closed it in an upgrade; else a new one."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                if (said := await self._say(*self._line, command)) is not None:
                    return said
            self.close()
        self._line = await asyncio.open_unix_connection(self.path, limit=LONGEST)
        said = await self._say(*self._line, command)
        if said is None:
            raise ConnectionError("it hung up")
        return said

    async def _say(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str
    ) -> Reply | None:
        """The reply; None where the line was closed."""
        writer.write(json.dumps({"command": command}).encode() + b"\n")
        line = await reader.readline()
        if not line.endswith(b"\n"):
            return None
        reply = json.loads(line)
        if not isinstance(reply, dict) or not reply.get("ok"):
            raise ValueError(f"it says {line[:200].decode(errors='replace').strip()}")
        return reply
