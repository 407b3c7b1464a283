"""The table of one worker against many, for people, from what the scenario `cluster` recorded."""

import statistics
from collections.abc import Iterator
from typing import Any

from benchmarks.report import number
from benchmarks.workloads import TABLE

Medians = dict[int, dict[str, float]]  # workers -> measure -> median over rounds
DASH = "–"
RATE = tuple(f"**{row.name}**" for row in TABLE if "--rate" in row.options)
PICTURES = {
    "speedup": "Throughput of all workers by that of one, for every workload",
    "latency": "Latency of one worker and of all, by percentile, with slow requests among them",
}


def table(result: dict[str, Any]) -> list[str]:
    """Lines of Markdown: a row a workload, over ASGI and over WSGI, and those of its peers."""
    sides = _sides(result)
    most = max((count for medians in sides.values() for count in medians), default=1)
    many = f"{most} workers"
    lines = [
        f"| a request | 1 worker | {many} | | p50 / p99 of 1 | of {most} | CPU of 1 | of {most} |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        *(_row(name, medians, most) for name, medians in _named(sides)),
    ]
    machine, when = result["machine"], result["date"].partition("T")[0]
    lines += [
        "",
        f"Requests a second, latency in ms, CPU time a request in µs; {machine['cores']} cores of "
        f"{machine['cpu']}, Python {result['versions'].get('python', '')}, {when}.",
    ]
    return lines


def _sides(result: dict[str, Any]) -> dict[tuple[str, ...], Medians]:
    """By workload, interface and, if it is not clusterd, the server."""
    found: dict[tuple[str, ...], Medians] = {}
    for key, measured in result["samples"].items():
        *whose, workers = key.split(", ")
        medians = {name: statistics.median(values) for name, values in measured.items() if values}
        found.setdefault(tuple(whose), {})[int(workers.split()[0])] = medians
    return found


def _named(sides: dict[tuple[str, ...], Medians]) -> Iterator[tuple[str, Medians]]:
    """In the order of the table; each workload's interfaces and peers below one another."""
    for row in TABLE:
        for (workload, interface, *peer), medians in sides.items():
            if workload == row.name:
                about = f": {row.about}" if interface == "ASGI" and not peer else ""
                kind = f", {interface}" if interface != "ASGI" else ""
                yield f"**{workload}**{kind}{about}" + "".join(f", {one}" for one in peer), medians


def _row(name: str, medians: Medians, most: int) -> str:
    sides = medians.get(1, {}), medians.get(most, {})
    rates = [side.get("requests") for side in sides]
    cells = [DASH if rate is None else f"{rate:,.0f}" for rate in rates]
    one, many = rates
    # Where the rate is given, both answer all of it.
    paced = name.startswith(RATE)
    cells.append(f"× {many / one:.2f}" if one and many and not paced else DASH)
    cells += [_both(side) for side in sides]
    cells += [number(side["CPU"]) if "CPU" in side else DASH for side in sides]
    return f"| {name} | {' | '.join(cells)} |"


def _both(side: dict[str, float]) -> str:
    found = [number(side[name]) if name in side else DASH for name in ("p50", "p99")]
    return " / ".join(found)
