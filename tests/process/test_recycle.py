"""Recycling and autoscaling, for real: nothing is lost, and there is never one worker too few."""

import contextlib
from pathlib import Path

import pytest

from clusterd.config.cpus import available_cpus
from tests.support.load import Load
from tests.support.server import Event, Server, running, serving

WORKERS = 4
MIB = 2**20
PACE = {"CLUSTERD_TEST_PACE": "20"}  # twenty looks a second, and autoscaling as much faster


def fewest_ready(events: list[Event]) -> int:
    """The fewest workers that were ready at any time since all were, as the journal tells."""
    ready: set[int] = set()
    fewest, complete = WORKERS, False
    for event in events:
        if event["kind"] == "readied":
            ready.add(event["pid"])
        elif event["kind"] in ("retired", "exited"):
            ready.discard(event["pid"])
        complete = complete or event["kind"] == "ready"
        if complete:
            fewest = min(fewest, len(ready))
    return fewest


def until_recycled(server: Server, count: int) -> None:
    """Wait until so many workers were."""
    while len(server.find("retired", reason="recycled")) < count:
        server.event("retired")


@pytest.mark.parametrize("recycles", [25, pytest.param(100, marks=pytest.mark.slow)])
def test_recycles_under_load_lose_nothing_and_no_capacity(tmp_path: Path, recycles: int) -> None:
    options = ("--max-requests", "20")
    with serving(tmp_path, "tell:app", *options, workers=WORKERS, **PACE) as server:
        with Load(server) as load:
            until_recycled(server, recycles)
        assert load.failed == []
        assert load.answered > recycles * 20
        assert fewest_ready(server.rest_so_far()) == WORKERS
        assert not server.find("exited", fault=True)
        assert not server.find("backed_off")
        workers = server.workers()
        assert sum(each["recycled"] for each in workers) >= recycles
        assert sum(each["restarts"] for each in workers) == 0
    for event in server.find("leaving"):
        assert event["reason"].startswith("max_requests: "), event


def test_a_leak_is_recycled_before_it_hurts(tmp_path: Path) -> None:
    """With a hard limit on its address space, a worker that grew on would fail its requests."""
    options = ("--max-memory", "64MiB", "--limit-as", "1GiB")
    with serving(tmp_path, "grow:app", *options, workers=2, **PACE) as server:
        with Load(server, "/leak") as load:
            until_recycled(server, 4)
        assert load.failed == []
        assert load.answered * 128 * 1024 > 4 * 64 * MIB
        events = server.rest_so_far()
        assert not server.find("exited", fault=True)
        reasons = [e["reason"] for e in events if e["kind"] == "leaving"]
        assert all(reason.startswith("max_memory: ") for reason in reasons)


@pytest.mark.skipif(available_cpus() < 2, reason="one CPU is used up by one worker")
def test_a_group_grows_with_its_load_and_shrinks_after_it(tmp_path: Path) -> None:
    options = ("--max-workers", "2", "--max-connections", "10")
    with serving(tmp_path, "grow:app", *options, workers=1, **PACE) as server:
        with contextlib.ExitStack() as held:
            for _ in range(9):
                server.get("/", held.enter_context(contextlib.closing(server.connect())))
            grown = server.event("scaled", size=2, before=1)
        assert grown["reason"].endswith("by their connections")
        server.event("scaled", size=1, before=2)
        with Load(server, "/spin", clients=6) as load:
            grown = server.event("scaled", size=2, before=1)
            server.event("readied")
        assert grown["reason"].endswith(("by their CPU", "by their event loop"))
        assert load.failed == []
        assert server.ask("scale", to=1)["size"] == 1
        assert server.ask("scale", to="auto")["size"] == 1


ALONE = """
import fcntl, pathlib, signal
here = open("lock", "a")
try:
    fcntl.flock(here, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    pathlib.Path("twice").touch()
print("up", flush=True)
signal.pause()
"""


def test_a_singleton_that_is_recycled_never_runs_twice(tmp_path: Path) -> None:
    """Its replacement stands by until it has ended."""
    (tmp_path / "alone.py").write_text(ALONE)
    (tmp_path / "clusterd.toml").write_text(
        "[group.clock]\ncommand = ['python3', 'alone.py']\nsingleton = true\n"
        "readiness = 'line:^up$'\nmax_age = '300ms'\n"
    )
    with running(tmp_path, "") as server:
        until_recycled(server, 4)
        assert server.ask("status")["workers"][0]["recycled"] >= 4
        assert not server.find("exited", fault=True)
        assert server.stop() == 0
    assert not (tmp_path / "twice").exists()
