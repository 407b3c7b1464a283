"""Jobs that do to their worker what no job should."""

import asyncio
import os
import threading

from clusterd.jobs import Jobs

jobs = Jobs()


@jobs.job(timeout=0.1, attempts=1)
async def deaf() -> None:
    """Does not end at its timeout."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


@jobs.job
async def fork() -> int:
    """Forks, and comes back in the child, too."""
    return os.fork()


@jobs.job
def fork_in_thread() -> int:
    return os.fork()


@jobs.job
def stuck() -> None:
    """Does not end, in a thread."""
    threading.Event().wait()


@jobs.job
async def pid() -> int:
    return os.getpid()
