"""What one worker and many are compared by, as data: each row is a run of `clusterd bench`.

The apps that answer are `apps/work.py` and `apps/work_wsgi.py`.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ASGI, WSGI = "work:app", "work_wsgi:app"
CPU, THROUGHPUT = "CPU time a request", "throughput"
CPU_BOUND = 0.005  # seconds of CPU time that a request of `cpu5` costs
KIB = 1024


@dataclass(frozen=True, slots=True)
class Workload:
    """A row. `judged` says by what the efficiency of a core is judged, against `target`."""

    name: str
    about: str
    options: tuple[str, ...] = ()  # of `clusterd bench`; {files} is the folder of `files`
    each: int = 32  # connections for each worker of the largest side; the same load for all sides
    wsgi: bool = True
    judged: str = ""
    target: float | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


MIXED = b"90 /\n7 /items/411\n3 /block\n"
MIX = "90 % hello, 7 % from SQLite, 3 % that block their worker for 20 ms"
TABLE = (
    Workload("hello", "a constant of 13 bytes", judged=CPU, target=0.95),
    # In the closed loop all cores are busy, and where the generator shares them, it and the workers
    # push each other out of caches: more so, the more workers. Here all have time to spare.
    Workload(
        "hello-rate",
        "the same, 8,000 a second asked for",
        ("--rate", "8000"),
        wsgi=False,
        judged=CPU,
        target=0.95,
    ),
    Workload(
        "json-sqlite",
        "an item and its 8 reviews from SQLite, as JSON",
        ("--path", "/items/17", "--path", "/items/411", "--path", "/items/902"),
    ),
    Workload("template", "a page of 40 rows by Jinja2", ("--path", "/page")),
    # One event loop holds thousands of waiting requests: there must be enough of them for one
    # worker to be busy at all, or the cluster has nothing to add.
    Workload("await20", "waits 20 ms for something else", ("--path", "/wait"), 512, True, CPU, 0.9),
    Workload("cpu5", "5 ms of computing", ("--path", "/compute"), 8, True, THROUGHPUT, 0.9),
    Workload("mixed", MIX, ("--paths", "{files}/mixed"), files={"mixed": MIXED}),
    Workload(
        "mixed-rate",
        "the same, 1,000 a second asked for",
        ("--paths", "{files}/mixed", "--rate", "1000"),
        wsgi=False,
        files={"mixed": MIXED},
    ),
    Workload(
        "upload",
        "256 KiB sent",
        ("--path", "/upload", "-X", "POST", "--body-file", "{files}/upload"),
        8,
        files={"upload": bytes(256 * KIB)},
    ),
    Workload("stream", "100 KiB in a hundred pieces", ("--path", "/stream"), 8),
    Workload(
        "websocket",
        "a message of 100 bytes and its echo",
        ("--path", "/", "--websocket"),
        wsgi=False,
    ),
)


def worker_counts(cores: int) -> tuple[int, ...]:
    """How many workers to compare: 1, and on up to what the cores allow.

    Up to three cores the generator must share them; from four on a quarter of them is left to it.
    More workers than cores would tell nothing about cores, so there are never more.
    """
    top = cores if cores < 4 else cores - cores // 4
    steps = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
    return tuple(sorted({*(step for step in steps if step < top), top}))


def options(row: Workload, folder: Path, most: int) -> list[str]:
    """The row's options, its files written into the folder."""
    for name, content in row.files.items():
        (folder / name).write_bytes(content)
    words = [word.format(files=folder) for word in row.options]
    return ["--connections", str(row.each * most), *words]


SPIN_RATE = """
import sys, time
import tasks
for _ in range(3):
    tasks.compute()
best = float("inf")
for _ in range(20):
    begun = time.thread_time()
    tasks.compute()
    best = min(best, time.thread_time() - begun)
print(int(tasks.SPINS * float(sys.argv[1]) / best))
"""


def spins(python: str, apps: Path) -> int:
    """How much work is 5 ms of CPU time here: measured once, the same for all that are compared."""
    command = [python, "-c", SPIN_RATE, str(CPU_BOUND)]
    done = subprocess.run(command, cwd=apps, capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)
