"""Gets stuck in every way that a worker may: what is asked for is the path."""

import asyncio
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

FOREVER = 3600.0
pool = ThreadPoolExecutor(2)
lock = threading.Lock()
lock.acquire()
EVIL, VICTIM = re.compile("(a+)+$"), 60 * "a" + "b"


def in_python() -> None:
    end = time.monotonic() + FOREVER
    while time.monotonic() < end:
        pass  # LINE python


def in_c() -> None:
    EVIL.match(VICTIM)  # LINE c: backtracks for ages, and holds the interpreter throughout


def in_lock() -> None:
    lock.acquire()  # LINE lock


def thread_in_c() -> None:
    EVIL.match(VICTIM)  # LINE thread-c


def burn() -> None:
    while True:
        sum(range(1000))  # LINE burn


def outer() -> int:
    return pool.submit(inner).result()  # LINE pool: it waits for a thread of its own pool


def inner() -> int:
    return 1


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    match scope["path"]:
        case "/python":
            in_python()
        case "/c":
            in_c()
        case "/lock":
            in_lock()
        case "/thread-c":
            threading.Thread(target=thread_in_c, daemon=True).start()
        case "/burn":
            threading.Thread(target=burn, daemon=True, name="burner").start()
        case "/pool":
            await asyncio.get_running_loop().run_in_executor(pool, outer)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(threading.get_native_id()).encode()})
