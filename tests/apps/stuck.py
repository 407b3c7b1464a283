"""Gets stuck in every way that a worker may: what is asked for is the path.

`LINE name` marks where it then is. STUCK_AT says where it takes STUCK_FOR seconds: import, startup,
shutdown.
"""

import asyncio
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

FOREVER = 3600.0
AT, FOR = os.environ.get("STUCK_AT", ""), float(os.environ.get("STUCK_FOR", 0.0))
EVIL, VICTIM = re.compile("(a+)+$"), 60 * "a" + "b"
pool = ThreadPoolExecutor(2)
both = threading.Barrier(2)
lock = threading.Lock()
lock.acquire()


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds  # of CPU: what a busy machine keeps from it is no hang
    while time.thread_time() < end:  # LINE python
        pass  # LINE python


if "import" in AT:
    spin(FOR)


def in_c() -> None:
    EVIL.match(VICTIM)  # LINE c: it backtracks for ages, and holds the interpreter throughout


def in_lock() -> None:
    lock.acquire()  # LINE lock


def thread_in_c() -> None:
    EVIL.match(VICTIM)  # LINE thread


def burn() -> None:
    while True:  # LINE burn
        sum(range(1000))  # LINE burn


def outer() -> int:
    both.wait()  # else one that is alone is through before the next one comes
    return pool.submit(int).result()  # LINE pool: it waits for a thread of its own pool


async def lifespan(receive: Any, send: Any) -> None:
    await receive()
    if "startup" in AT:
        spin(FOR)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if "shutdown" in AT:
        spin(FOR)
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    match scope["path"]:
        case "/python":
            spin(FOREVER)
        case "/deaf":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            spin(FOREVER)
        case "/c":
            in_c()
        case "/lock":
            in_lock()
        case "/thread":
            threading.Thread(target=thread_in_c, daemon=True).start()  # LINE start
        case "/burn":
            threading.Thread(target=burn, daemon=True, name="burner").start()
        case "/pool":
            await asyncio.get_running_loop().run_in_executor(pool, outer)
        case "/sort":  # C that calls Python, over and over
            sorted(range(1 << 20), key=lambda number: -number)
        case "/while":
            spin(float(scope["query_string"]))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
