"""Which CPUs the server gets and which the generators: apart where there are enough, else shared.

A generator beside the server on one core takes time from it and is late itself, so figures of a
shared machine are worth less; whoever shows them is told.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Cores = Sequence[Sequence[int]]  # CPUs that we may use, by the physical core that they are part of


@dataclass(frozen=True, slots=True)
class Places:
    """CPUs to pin to; () is all. `shared`: both may run on one core, or on two halves of it."""

    server: tuple[int, ...] = ()
    generators: tuple[int, ...] = ()
    shared: bool = True


def spare(cores: Cores) -> int:
    """How many CPUs to leave to the generators where the number of workers is ours to choose.

    One in four, in whole cores: a generator's request costs a small part of what an application's
    does. None of two: a cluster of one worker would be no cluster.
    """
    count = sum(map(len, cores))
    if count < 3 or len(cores) < 2:
        return 0
    return _whole(cores, max(1, count // 4))


def places(cores: Cores, workers: int, generators: int) -> Places:
    """Who gets which CPUs. `workers` is the most that any side has, so that all are placed alike;
    0: the server is not ours to place."""
    every = [cpu for core in cores for cpu in core]
    if not workers or workers + generators > len(every):
        return Places()
    for wanted in (max(generators, spare(cores)), generators):
        count = _whole(cores, wanted)
        if count < len(every) and workers <= len(every) - count:
            return Places(tuple(every[:-count]), tuple(every[-count:]), shared=False)
    # Enough CPUs, but only as two halves of a core, which slow each other down.
    return Places(tuple(every[:-generators]), tuple(every[-generators:]), shared=True)


def _whole(cores: Cores, wanted: int) -> int:
    """At least so many CPUs, counted from the last core on, and no part of a core."""
    count = 0
    for core in reversed(cores):
        if count >= wanted:
            break
        count += len(core)
    return count


def cores() -> tuple[tuple[int, ...], ...]:
    """The CPUs that we may use, by core; source: sched_getaffinity(2) and sysfs-devices-system-cpu.

    Where sysfs does not tell, each is a core of its own.
    """
    found: dict[str, list[int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            siblings = (topology / "thread_siblings_list").read_text().strip()
        except OSError:
            siblings = str(cpu)
        found.setdefault(siblings, []).append(cpu)
    return tuple(map(tuple, found.values()))
