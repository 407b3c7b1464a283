"""Count the CPU instructions that a request costs clusterd, in one or more checkouts.

    python -m benchmarks.instructions                     # this checkout
    python -m benchmarks.instructions . ../before         # and another one, with their ratio
    python -m benchmarks.instructions --python PATH …     # an interpreter with the libraries

Instructions do not depend on neighbours or on the clock of the CPU, so a difference of one in a
thousand can be told on a busy machine, where times differ by a third. They are not time: caches and
system calls are left out. valgrind's callgrind counts them; it makes a run some fifty times slower.

The connection of each checkout's own unit tests is driven in one process: a transport that only
remembers, and a loop whose clock stands still, so that no timer runs. The cost of a request is the
difference between a long run and a short one, divided by the number of requests between them.
"""

import argparse
import asyncio
import gc
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SHORT, LONG = 500, 2500  # requests of the two runs
PER_CONNECTION = 900  # a connection serves 1,000 requests at most
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"13")],
}
WORDS = b"Hello, world!"
BODY = {"type": "http.response.body", "body": WORDS}
HELLO = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\nAccept: */*\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n" + b"x" * 10_000
PROXIED = (
    b"GET /item/%d?q=%d HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 10.0.%d.%d\r\n"
    b"X-Request-ID: %032x\r\nCookie: s=%x\r\nUser-Agent: Mozilla/5.0 (X11)\r\nAccept: */*\r\n\r\n"
)


def hello() -> Iterator[bytes]:
    """Yield the same small request again and again."""
    while True:
        yield HELLO


def post() -> Iterator[bytes]:
    """Yield a POST with a body of 10 kB."""
    while True:
        yield POST


def proxied() -> Iterator[bytes]:
    """Yield requests as a proxy sends them: each with another path, query, client, id, cookie."""
    number = 0
    while True:
        number += 1
        client = number % 250, number % 240
        yield PROXIED % (number, number * 7, *client, number * 999_983, number * 31_337)


KINDS = {"hello": hello, "post": post, "proxied": proxied}


class StillLoop(asyncio.SelectorEventLoop):
    """A loop in which no time passes."""

    def time(self) -> float:
        return 1000.0


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, if the request may have one, and respond."""
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
    await send(START)
    await send(BODY)


async def drive(kind: str, requests: int) -> None:
    """Serve `requests` requests, one after the other, by the checkout in the current directory."""
    from tests.unit.worker.fakes import Bench

    bench = Bench(application)
    gc.collect()
    gc.freeze()  # as a zygote does, so that what was imported costs a collection nothing
    source = KINDS[kind]()
    for number in range(1, requests + 1):
        if number % PER_CONNECTION == 0:
            bench.connection.connection_lost(None)
            bench.transport, bench.connection = bench.connect()
        bench.feed(next(source))
        while not bench.transport.sent:
            await asyncio.sleep(0)
        if not bench.transport.sent.endswith(WORDS):
            raise ValueError(f"not the response that was expected: {bytes(bench.transport.sent)!r}")
        bench.transport.sent = bytearray()


def count(python: str, tree: Path, kind: str, requests: int) -> int:
    """Return the instructions of one run. Raises ValueError with its output if it fails."""
    with tempfile.TemporaryDirectory() as place:
        command = [
            *("valgrind", "--tool=callgrind", f"--callgrind-out-file={place}/out"),
            *(python, __file__, "--drive", kind, str(requests)),
        ]
        environ = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, cwd=tree, env=environ, stderr=subprocess.PIPE, text=True, check=False
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise ValueError(f"{tree}: {done.stderr[-2000:]}")
    return int(found[1])


def per_request(python: str, tree: Path, kind: str) -> float:
    """Return the instructions that one request costs."""
    short, long = (count(python, tree, kind, number) for number in (SHORT, LONG))
    return (long - short) / (LONG - SHORT)


def main(argv: list[str] | None = None) -> int:
    """Measure, and print a line per kind of request."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions")
    parser.add_argument("tree", nargs="*", type=Path, default=[Path()], help="checkouts")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to run")
    options = parser.parse_args(argv)
    for kind in KINDS:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            tasks = [pool.submit(per_request, options.python, tree, kind) for tree in options.tree]
            figures = [task.result() for task in tasks]
        ratios = "".join(f"  ({figures[0] / other:.4f} of it)" for other in figures[1:])
        print(kind, *(f"{figure:,.0f}" for figure in figures), ratios, flush=True)
    return 0


if __name__ == "__main__" and sys.argv[1:2] == ["--drive"]:
    sys.path[0] = os.getcwd()
    StillLoop().run_until_complete(drive(sys.argv[2], int(sys.argv[3])))
    os._exit(0)
elif __name__ == "__main__":
    sys.exit(main())
