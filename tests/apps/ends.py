"""What an application leaves for its end: exit handlers, children, threads."""

import atexit
import ctypes
import faulthandler
import json
import multiprocessing
import os
import signal
import subprocess
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

PLACE = Path(os.environ.get("ENDS_PLACE", "."))
FORK = multiprocessing.get_context("fork")
POOL: list[ProcessPoolExecutor] = []
IMPORTED_BY = os.getpid()


def leave_a_mark() -> None:
    with (PLACE / "marks").open("a") as file:
        print(os.getpid(), file=file)


atexit.register(leave_a_mark)
if "ENDS_HANG" in os.environ:
    atexit.register(lambda: threading.Event().wait())
if "ENDS_USR1" in os.environ:
    faulthandler.register(signal.SIGUSR1, file=(PLACE / "stacks").open("w"))


def wait_for_a_signal() -> None:
    signal.pause()


def number(_: int) -> int:
    return os.getpid()


def use_pool() -> list[int]:
    if not POOL:
        POOL.append(ProcessPoolExecutor(2, mp_context=FORK))
    return sorted(set(POOL[0].map(number, range(8))))


def fork_child() -> list[int]:
    child = FORK.Process(target=wait_for_a_signal)
    child.start()
    return [child.pid or 0]


def shell() -> list[int]:
    """A child, a grandchild of its own and one whose parent has gone at once."""
    script = "sleep 600 & echo $!; (sleep 601 & echo $!); exec sleep 602"
    child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return [int(child.stdout.readline()), int(child.stdout.readline()), child.pid]


def stubborn() -> list[int]:
    """A child that ignores TERM, and its child."""
    script = "trap '' TERM; sleep 603 & echo $!; while :; do wait; done"
    child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return [int(child.stdout.readline()), child.pid]


def daemon() -> list[int]:
    """A program that changed its session on purpose."""
    return [subprocess.Popen(["sleep", "604"], start_new_session=True).pid]


def hold() -> list[int]:
    """Answer once somebody writes to the named pipe."""
    with (PLACE / "pipe").open() as pipe:
        pipe.read()
    return [os.getpid()]


def fork_in_c() -> list[int]:
    """A child of which Python does not know."""
    libc = ctypes.PyDLL(None)
    pid = libc.fork()
    while pid == 0:
        libc.pause()
    return [pid]


def terminated() -> list[int]:
    """The exit code of a forked child that is terminated."""
    child = FORK.Process(target=wait_for_a_signal)
    child.start()
    child.terminate()
    child.join(20)
    return [child.exitcode if child.exitcode is not None else 999]


def terminated_from_a_thread() -> list[int]:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.extend(terminated()))
    thread.start()
    thread.join()
    return found


def inherited() -> list[str]:
    """What a forked child has open, and how it handles signals."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        fds = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]]
        handlers = [str(signal.getsignal(number)) for number in signal.valid_signals()]
        os.write(write, json.dumps([*fds, *handlers]).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read, "rb") as pipe:
        return list(json.loads(pipe.read()))


WAYS = {
    "/": lambda: [os.getpid()],
    "/pool": use_pool,
    "/fork": fork_child,
    "/shell": shell,
    "/stubborn": stubborn,
    "/daemon": daemon,
    "/hold": hold,
    "/c-fork": fork_in_c,
    "/terminated": terminated,
    "/terminated-from-a-thread": terminated_from_a_thread,
    "/inherited": inherited,
}


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = json.dumps(WAYS[environ["PATH_INFO"]]()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.startup" and "ENDS_BROKEN" in os.environ:
                await send({"type": "lifespan.startup.failed", "message": "broken"})
                return
            if kind == "lifespan.shutdown":
                with (PLACE / "marks").open("a") as file:
                    print("shutdown", file=file)
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    body = json.dumps(WAYS[scope["path"]]()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
