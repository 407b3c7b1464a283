"""A connection without a socket, whose app is a WSGI app: in threads, or in the loop's thread."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from clusterd.config.serving import HttpSettings, WsgiSettings
from clusterd.config.settings import Config
from clusterd.worker.wsgi import equip
from tests.unit.worker.fakes import Bench, FakeTransport, get
from tests.unit.worker.fakes import run as run_on_uvloop

THREADS = {"inline": 1, "threads": 2}


class WsgiBench(Bench):
    """`mode` is inline or threads."""

    def __init__(
        self,
        app: Callable[..., Any],
        mode: str,
        http: HttpSettings | None = None,
        wsgi: WsgiSettings | None = None,
    ) -> None:
        self._equipped = False
        wsgi = wsgi or WsgiSettings(threads=THREADS[mode])
        super().__init__(app, config=Config(http=http or HttpSettings(), wsgi=wsgi))

    def connect(self) -> tuple[FakeTransport, Any]:
        if not self._equipped:
            self._equipped = True
            self.pool = equip(self.server, self.server.app)
        return super().connect()

    async def settle(self) -> None:
        """Until no thread has anything to do, and no task either."""
        for _ in range(1000):  # whose requests' bodies never end are in hand for ever
            await super().settle()  # what was held back may need a thread now
            if self.pool is not None and self.pool.busy:
                await self.one_done()
            elif self.server.tasks or not (self.connection.idle or self.transport.closed):
                await self.loop.run_in_executor(None, int)  # also what waits for a file is a turn
            else:
                break

    async def one_done(self) -> None:
        """Until a thread has done a job."""
        assert self.pool is not None
        done = asyncio.Event()
        self.pool.when_done(done.set)
        await done.wait()

    async def sent(self, what: bytes) -> bytes:
        """Until this was sent; all that was."""
        while what not in self.transport.sent:
            await asyncio.sleep(0)
        return bytes(self.transport.sent)

    def close(self) -> None:
        if self.pool is not None:
            self.pool.close()


def run(test: Callable[[], Awaitable[None]]) -> None:
    run_on_uvloop(test)


def hello(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def echo(environ: Any, start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def body_of(answer: bytes) -> bytes:
    """The body of one answer, its chunks joined."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return rest
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return body


def asked(
    mode: str, app: Callable[..., Any], *requests: bytes, secure: bool = False
) -> tuple[bytes, WsgiBench]:
    """What a client gets from an app."""
    result: list[Any] = []

    async def test() -> None:
        bench = WsgiBench(app, mode)
        if secure:
            bench.transport._extra["ssl_object"] = object()  # type: ignore[attr-defined]
        result[:] = [await bench.talk(*(requests or [get()])), bench]
        bench.close()

    run(test)
    return result[0], result[1]
