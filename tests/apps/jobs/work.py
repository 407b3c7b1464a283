"""Jobs as users write them. What they do is written to the diary, a line for each start and end."""

import asyncio
import ctypes
import os

from clusterd.jobs import Jobs, current_job

jobs = Jobs()


def tell(what: str) -> None:
    fd = os.open(os.environ["DIARY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{what} {os.getpid()}\n".encode())
    os.close(fd)


@jobs.job
async def add(left: int, right: int) -> int:
    return left + right


@jobs.job
def note(number: int) -> int:
    tell(f"note {number}")
    return os.getpid()


@jobs.job
async def gated(pipe: str) -> int:
    """Runs until something is written into a named pipe, where it stays."""
    opened = asyncio.Event()
    fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    asyncio.get_running_loop().add_reader(fd, opened.set)
    tell(f"start {current_job().id}")
    try:
        await opened.wait()
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
    return os.getpid()


@jobs.job
def crash() -> None:
    """Ends its process by a signal."""
    tell("crash")
    ctypes.string_at(0)


@jobs.job(queue="other")
async def elsewhere() -> str:
    return f"{os.getpid()}"


async def app(scope, receive, send):
    """Enqueues, and responds with the result."""
    if scope["type"] == "lifespan":
        return
    handle = await add.aenqueue(20, 22)
    result = str(await handle.aresult(timeout=30))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": result.encode()})


def view(environ, start_response):
    """The same over WSGI."""
    result = str(add.enqueue(20, 22).result(timeout=30))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [result.encode()]
