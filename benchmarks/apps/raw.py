"""The floor: uvloop writing canned bytes, with no HTTP at all. `raw.py PORT`."""

import asyncio
import sys
from typing import cast

import uvloop

CANNED = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\ncontent-type: text/plain\r\n"
    b"content-length: 13\r\n\r\nHello, world!"
)


class Canned(asyncio.Protocol):
    """Answers whatever arrives."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self._write(CANNED)


async def main(port: int) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", port)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1])))
