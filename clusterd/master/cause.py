"""Why a process of ours ended, in words."""

import signal
from typing import Any

from clusterd.fleet.memory import REMEDIES
from clusterd.master.cluster import Cluster


def cause(code: int) -> str:
    """A wait status in words: `SIGKILL`, or `status 3`."""
    if code >= 0:
        return f"status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def explained(cluster: Cluster, code: int, killed_by_us: bool) -> dict[str, Any]:
    """What the event of a death says of its wait status: the cause, and perhaps a remedy.

    A SIGKILL that nobody of us sent is looked up in what the kernel counts of memory.
    """
    words = {"code": code, "cause": cause(code)}
    if code != -signal.SIGKILL or killed_by_us:
        return words
    counted = cluster.kernel.killings()
    why = cluster.ledger.explain(
        counted.kills, counted.hits, counted.ours, now=cluster.kernel.now()
    )
    if why:
        words |= {"cause": f"SIGKILL: {why}", "oom": True, "remedy": REMEDIES[why]}
    return words
