"""A thousand hostile clients, each within the limits, and one real worker: what it holds for them
is bounded by its budget, and others are served meanwhile."""

import contextlib
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.authority import Authority
from tests.support.hostile import (
    KINDS,
    MIB,
    SPOOLS,
    Attacker,
    crowd,
    forget_peak,
    resident,
    spooled,
)
from tests.support.server import LIMIT, ROOT, Server, serving
from tests.support.spools import find_disk

BUDGET, DISK = 96 * MIB, 200 * MIB
OPTIONS = ("--memory-budget", str(BUDGET), "--max-connections", "3000", "--stall-timeout", "0")
ROUNDS = 20
# What a worker has grown by at most, in budgets. 1.1 is wanted, and reached by all in most runs.
# On a busy machine a run may take some more: "chunks", whose pieces wait for their turn, up to
# 1.22, and bodies on disk up to 1.16.
MOST, CHUNKS, SPOOLS_ON_DISK = 1.15, 1.3, 1.25


@contextlib.contextmanager
def attackers(
    server: Server, kinds: tuple[str, ...], count: int, tls: ssl.SSLContext | None = None
) -> Iterator[list[Attacker]]:
    everybody = list(crowd(server.address, kinds, count, tls))
    try:
        for one in everybody:
            one.connect()
        yield everybody
    finally:
        for one in everybody:
            one.close()


def withstands(
    server: Server,
    everybody: list[Attacker],
    most: float,
    tls: ssl.SSLContext | None = None,
    disk: int | None = None,
) -> None:
    """Judge what a worker has under attack beyond what it had before; on a `disk` that is not
    memory up to so much."""
    (pid,) = [worker["pid"] for worker in server.workers()]
    scheme = "https" if tls is not None else "http"
    with serving_client(scheme, server, tls) as get:
        for _ in range(20):
            assert get() == 200
        statuses: list[int] = []
        base, grown, on_disk, together = resident(pid), 0, 0, 0
        for _ in range(ROUNDS):
            before = spooled(pid)
            forget_peak(pid)
            for one in everybody:
                one.attack()
            files = max(before, spooled(pid))
            statuses += [get() for _ in range(5)]
            peak = resident(pid, "VmHWM") - base
            grown, on_disk = max(grown, peak), max(on_disk, files)
            together = max(together, peak + files)  # it goes from one to the other
    (worker,) = server.workers()
    assert worker["pid"] == pid
    held = worker["held"]
    figures = (
        f"{grown / MIB:.1f} MiB in memory, {on_disk / MIB:.1f} in files, {together / MIB:.1f} "
        f"together, {held / MIB:.1f} held"
    )
    print(figures, Counter(statuses))
    # Beyond the budget, which slow readers of large answers may bring about, nobody is served.
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 0.9 * len(statuses), figures
    if disk is None:
        assert together <= most * BUDGET, figures
    else:
        assert grown <= most * BUDGET, figures
        assert 0 < on_disk <= disk, figures


@contextlib.contextmanager
def serving_client(
    scheme: str, server: Server, tls: ssl.SSLContext | None
) -> Iterator[Callable[[], int]]:
    """A well-behaved client over a kept connection: asks, and returns the status."""
    url = f"{scheme}://localhost:{server.address[1]}/"
    with httpx.Client(verify=tls or False, timeout=LIMIT) as client:
        yield lambda: client.get(url).status_code


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", [*KINDS, "any"])
def test_memory_stays_within_the_budget(kind: str, tmp_path: Path) -> None:
    kinds = tuple(name for name in KINDS if kind in (name, "any"))
    with (
        serving(tmp_path, "hostile:app", *OPTIONS, workers=1) as server,
        attackers(server, kinds, 1000) as everybody,
    ):
        withstands(server, everybody, CHUNKS if kind == "chunks" else MOST)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_the_same_over_tls(protocol: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server")
    pair = ("--tls-cert", "server.pem", "--tls-key", "server.key")
    is_h2 = protocol == "h2"
    kinds = tuple(name for name, (first, _) in KINDS.items() if first.startswith(b"PRI") == is_h2)
    with serving(tmp_path, "hostile:app", *OPTIONS, *pair, workers=1) as server:
        context = authority.client()
        context.set_alpn_protocols([protocol])
        with attackers(server, kinds, 1000, context) as everybody:
            withstands(server, everybody, MOST, authority.client())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("threads", ["1", "8"])
@pytest.mark.parametrize("place", ["disk", "memory"])
def test_the_same_with_spools(place: str, threads: str, tmp_path: Path) -> None:
    """On a disk bodies have a budget of their own; on tmpfs they are memory."""
    folder = Path("/dev/shm") if place == "memory" else find_disk(tmp_path, Path("/var/tmp"), ROOT)
    options = (*OPTIONS, "--threads", threads, "--spool-budget", str(DISK))
    with (
        serving(tmp_path, "hostile:wsgi", *options, workers=1, TMPDIR=str(folder)) as server,
        attackers(server, SPOOLS, 1000) as everybody,
    ):
        if place == "disk":
            withstands(server, everybody, SPOOLS_ON_DISK, disk=DISK)
        else:
            withstands(server, everybody, MOST)
