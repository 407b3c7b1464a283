"""What the application does with the descriptor of its worker's channel hurts its worker alone."""

import contextlib
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from clusterd.kernel import passing
from clusterd.observe.why import stories
from tests.support.server import LIMIT, Server, serving

TEXTS = 12  # floods, each of which is cut off after 4 MiB
PEAK = 40 * 1024  # KiB of memory that the master may have had at most


def replaced(server: Server, path: str) -> dict[str, object]:
    """Ask for a breach, and wait until the worker that committed it is gone and replaced."""
    pid = int(server.get(path).partition(": ")[2].rstrip("}"))
    breach = server.event("breach", pid=pid)
    server.event("exited", pid=pid)
    return breach


def status_of(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@pytest.mark.parametrize("claim", ["master", "init", "all", "none"])
def test_a_newborn_that_claims_another_pid_is_killed_and_replaced(
    tmp_path: Path, claim: str
) -> None:
    """Before, the master would have signalled that process, and waited for its end at a stop."""
    mark = tmp_path / "mark"
    mark.touch()
    with serving(tmp_path, "traitor:app", workers=1, LIE=f"{mark}={claim}") as server:
        (breach,) = server.find("breach")
        assert "said hello as process" in breach["reason"]
        assert breach["sender"] not in {worker["pid"] for worker in server.workers()}
        assert not Path(f"/proc/{breach['sender']}").exists(), "killed, and reaped"
        assert server.get()


def test_noise_costs_the_worker_that_made_it(tmp_path: Path) -> None:
    with serving(tmp_path, "traitor:app") as server:
        before = {worker["pid"] for worker in server.workers()}
        breach = replaced(server, "/noise")
        assert "no message" in str(breach["reason"])
        server.event("readied", slot=breach["slot"])
        after = {worker["pid"] for worker in server.workers()}
        assert len(before & after) == 1, "the other one serves on"
        (story,) = stories(server.rest_so_far())
        assert "broke the rules" in story.headline


def test_long_texts_do_not_grow_the_master_nor_keep_it_from_others(tmp_path: Path) -> None:
    with serving(tmp_path, "traitor:app") as server:
        for _ in range(TEXTS):
            breach = replaced(server, "/texts")
            assert "bytes at once" in str(breach["reason"])
            assert server.ask("status")["ok"]
            assert server.get()
        assert status_of(server.pid, "VmHWM") < PEAK
        assert not server.find("trouble"), "nothing that the master took for its own fault"


def test_a_descriptor_that_blocks_at_its_close_does_not_block_the_master(tmp_path: Path) -> None:
    with serving(tmp_path, "traitor:app", workers=1) as server:
        pid = server.workers()[0]["pid"]
        server.get("/blocks")
        server.event("exited", pid=pid)
        server.event("readied", slot=0)
        assert server.get()


def test_a_flood_does_not_keep_the_master_from_ending(tmp_path: Path) -> None:
    """A flood that the master reads only once it is asked to stop does not keep it."""
    with serving(tmp_path, "traitor:app") as server:
        os.kill(server.pid, signal.SIGSTOP)
        server.get("/texts")
        server.signal(signal.SIGTERM)
        os.kill(server.pid, signal.SIGCONT)
        assert server.process.wait(LIMIT) == 0


def can_refuse() -> bool:
    """Linux 6.16 and newer."""
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.suppress(PermissionError):
        passing.refuse(ours)
        socket.send_fds(theirs, [b"x"], [0])
        return False
    return True


@pytest.mark.skipif(not can_refuse(), reason="this kernel cannot refuse descriptors")
def test_a_client_of_a_unix_socket_sends_no_descriptors(tmp_path: Path) -> None:
    """A worker that read them would wait at their close."""
    path = tmp_path / "s"
    with (
        serving(tmp_path, "tell:app", "-b", f"unix:{path}", workers=1),
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.settimeout(LIMIT)
        client.connect(str(path))
        with pytest.raises(PermissionError):
            socket.send_fds(client, [b"GET / HTTP/1.1\r\n"], [0])
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("held", ["/held", "/held-by-a-thread"])
def test_a_tracer_of_the_applications_keeps_neither_its_slot_empty_nor_the_master_from_ending(
    tmp_path: Path, held: str
) -> None:
    """The kernel reports the end of a traced process to its tracer, which never waits for it."""
    with serving(tmp_path, "traitor:app", "--graceful-timeout", "1", workers=1) as server:
        found = json.loads(server.get("/traced"))
        os.kill(found["pid"], signal.SIGKILL)
        server.event("exited", pid=found["pid"])
        server.event("readied", slot=0)
        server.get(held)
        server.signal(signal.SIGTERM)
        assert server.process.wait(LIMIT) == 0


def test_a_worker_that_a_tracer_of_the_applications_holds_at_its_exit_is_replaced(
    tmp_path: Path,
) -> None:
    """It was killed by others than the master, and only its sibling misses its heartbeat."""
    limits = ("--hang-dump", "0.4", "--hang-timeout", "1.2")
    with serving(tmp_path, "traitor:app", *limits) as server:
        found = json.loads(server.get("/held"))
        slots = {one["pid"]: one["slot"] for one in server.workers()}
        os.kill(found["pid"], signal.SIGKILL)
        halted = server.event("halted", pid=found["pid"])
        assert f"stopped by process {found['tracer']}, which traces it" in halted["reason"]
        server.event("exited", pid=found["pid"])
        server.rest_so_far()
        assert server.find("readied", slot=slots[found["pid"]])[1:], "the replacement came first"
