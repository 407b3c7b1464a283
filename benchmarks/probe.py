"""Who answers, and since when: told by the workers themselves, never guessed from the outside."""

import time
from collections import defaultdict, deque
from collections.abc import Collection

from benchmarks import load

ASK = load.request("/pid")
HELD_EACH = 8  # connections kept open to one worker, so that the next go to the others
OUTSTANDING = 256


def meet(
    port: int,
    count: int,
    known: Collection[int] = (),
    every: float = 0.005,
    limit: float = 60.0,
) -> dict[int, float]:
    """Open a connection every so often and ask who answers, until `count` unknown pids have.

    Connections stay open for a while, because a server that balances sends new ones to workers
    that hold fewer.
    The result maps pid to the time (perf_counter) of its first answer.
    """
    seen: dict[int, float] = {}
    mine: dict[int, deque[load.Connection]] = defaultdict(deque)
    with load.Crowd(port) as crowd:
        deadline = time.perf_counter() + limit
        due = 0.0
        while len(seen) < count:
            now = time.perf_counter()
            if now > deadline:
                raise TimeoutError(f"{len(seen)} of {count} workers answered within {limit} s")
            if now >= due and len(crowd.open) < OUTSTANDING:
                due = now + every
                crowd.ask(crowd.connect(), ASK)
            for report in crowd.turn(due - time.perf_counter()):
                if report.answer is None:
                    continue
                pid = int(report.answer.body)
                if pid not in known:
                    seen.setdefault(pid, report.at)
                mine[pid].append(report.conn)
                if len(mine[pid]) > HELD_EACH:
                    crowd.close(mine[pid].popleft(), reset=True)
    return seen
