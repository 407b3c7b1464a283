"""What a worker that serves a WSGI app has beside the rest: threads, and an eye on them."""

import asyncio
import sys
import traceback
from collections.abc import Callable
from typing import Any

from clusterd.app import inline, threaded
from clusterd.app.environ import Environs
from clusterd.app.filewrapper import FileWrapper
from clusterd.app.scope import describe
from clusterd.app.wsgi import Gateway, WsgiHttp1
from clusterd.core.log import block, get_logger
from clusterd.core.stacks import fold
from clusterd.worker.server import Server
from clusterd.worker.spool_budget import SpoolBudget
from clusterd.worker.threads import Pool

logger = get_logger("clusterd.worker")


def equip(server: Server, app: Any) -> Pool | None:
    """Have a server call a WSGI app; the pool that it is called in, None for the loop's thread.

    One thread is the loop's own. Measured, "hello" (3.12, µs of CPU a request): 45 there and 139 in
    a pool of one over one connection, 37 and 62 over 16. Calls of one thread never overlap anyway.
    """
    fleet, wsgi = server.config.fleet, server.config.wsgi
    pool = Pool(wsgi.threads) if wsgi.threads > 1 else None
    sharers = max(fleet.workers, fleet.max_workers)
    server.spools = SpoolBudget(wsgi.spool_budget, wsgi.limit_spool, sharers, server.clock)
    server.app = Gateway(
        app,
        Environs(pool is not None, FileWrapper),
        server.loop,
        inline.begin if pool is None else threaded.begin,
        server.spools,
        pool,
        wsgi.limit_spool,
    )
    server.exchange = WsgiHttp1
    server.spawn = as_it_is
    server.pool = pool
    return pool


def as_it_is(exchange: Any) -> "asyncio.Task[None]":
    """A WSGI exchange runs without a task, and looks like one."""
    return exchange  # type: ignore[no-any-return]


async def no_lifespan(_scope: Any, _receive: Any, _send: Any) -> None:
    """WSGI has no lifespan: what a worker starts up instead of the app."""


class Watch:
    """Looks for requests whose app neither reads nor sends anything, nor waits for its client, and
    has the worker replaced for them, once."""

    def __init__(self, pool: Pool, limit: float, leave: Callable[[], None]) -> None:
        self._pool = pool
        self._limit = limit  # seconds; 0 for none
        self._leave = leave
        self._has_left = False

    def look(self) -> None:
        """To be called about once a second."""
        for job, seconds, ident in self._pool.overdue(self._limit) if self._limit else ():
            frame = sys._current_frames().get(ident)
            stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
            stack = "\n".join(fold(stack))
            about = describe(job.exchange.scope)["fields"]
            logger.error(
                "a request is stuck: the app has been silent for %.1f s, its worker is replaced",
                seconds,
                extra=block(stack, **about),
            )
            if not self._has_left:
                self._has_left = True
                self._leave()
