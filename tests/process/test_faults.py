"""Scripted faults: what is refused by the system, what hangs, what is full."""

import json
import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from tests.support.server import LIMIT, running, serving


def test_forks_that_fail_are_tried_again_and_the_rest_serves(tmp_path: Path) -> None:
    with serving(tmp_path, CLUSTERD_TEST_FAULTS="zygote.fork_orphan@2-4=EAGAIN") as server:
        assert len(server.find("spawn_failed")) >= 3
        assert server.get()


def test_no_process_for_the_zygote_is_tried_again(tmp_path: Path) -> None:
    with serving(tmp_path, CLUSTERD_TEST_FAULTS="spawn@1-2=EAGAIN") as server:
        assert len(server.find("spawn_failed")) == 2
        assert server.get()


def test_no_descriptors_for_the_master_is_tried_again(tmp_path: Path) -> None:
    """The first pair is the hand-over's, the second the zygote's channel."""
    script = "pair@2=EMFILE,pair@4-5=EMFILE,pipe@2=ENFILE"
    with serving(tmp_path, CLUSTERD_TEST_FAULTS=script) as server:
        assert server.get()


def test_the_master_stopped_and_continued_kills_nobody(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        before = {w["pid"] for w in server.workers()}
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert server.get(), "workers serve on"
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert {w["pid"] for w in server.workers()} == before


def test_everything_frozen_and_thawed_goes_on(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        family = server.family()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in family:
                os.kill(pid, number)
        assert server.get()
        assert server.family() == family


def test_a_worker_short_of_descriptors_pauses_and_recovers(tmp_path: Path) -> None:
    with serving(tmp_path, "tell:app", workers=1) as server:
        (worker,) = server.workers()
        used = len(os.listdir(f"/proc/{worker['pid']}/fd"))
        soft = used + 8
        resource.prlimit(worker["pid"], resource.RLIMIT_NOFILE, (soft, soft))
        crowd = [socket.create_connection(server.address, timeout=LIMIT) for _ in range(40)]
        for client in crowd:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        for client in crowd:  # each is answered as soon as one before it has gone
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            client.close()
        assert server.get()
        assert server.log().count("descriptor") <= 20, "one line a second at most"


def test_a_full_disk_under_the_log_stops_nothing(tmp_path: Path) -> None:
    with (
        open("/dev/full", "wb") as full,
        running(
            tmp_path, "tell:app", "--log-file", f"/dev/fd/{full.fileno()}", keep=(full.fileno(),)
        ) as server,
    ):
        server.ready()
        with pytest.raises(AssertionError, match="500"):
            server.get("/fail")
        assert server.get()
        server.ask("reload", wait=True)
        told = server.log()
        assert "No space left" in told
        assert told.count("cannot write to the log") <= 8, "once a process"


def test_a_runtime_directory_that_cannot_be_written_is_said_at_start(tmp_path: Path) -> None:
    with running(tmp_path, "clusterd.demo:app", "--runtime-dir", "/proc/clusterd") as server:
        assert server.process.wait(LIMIT) == 5
        assert "/proc/clusterd" in server.log()


def test_an_environment_s_runtime_directory_that_fails_only_costs_commands(tmp_path: Path) -> None:
    (tmp_path / "clusterd.sock").touch()  # a file that is no socket is not removed
    options = ("--runtime-dir", "")
    with running(tmp_path, "tell:app", *options, RUNTIME_DIRECTORY=str(tmp_path)) as server:
        assert server.started
        server.signal(signal.SIGTERM)
        assert server.process.wait(LIMIT) == 0
        assert "serving without commands" in server.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a pid namespace")
def test_as_pid_1_of_a_container_it_reaps_strangers_and_obeys_term(tmp_path: Path) -> None:
    """In a pid namespace of its own: orphans of the app become its children."""
    app = """
import os, subprocess
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    child = subprocess.Popen(["sh", "-c", "sh -c 'read x; exit 3' & echo $!"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    orphan = int(child.stdout.readline())
    os.waitpid(child.pid, 0)
    child.stdin.close()
    while os.path.exists(f"/proc/{orphan}"):
        pass
    body = str(orphan).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
    (tmp_path / "shop.py").write_text(app)
    wrapper = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    with running(
        tmp_path, "shop:app", "--app-dir", str(tmp_path), "-w", "1", wrapper=wrapper
    ) as server:
        server.ready()
        assert server.find("started")[0]["pid"] == 1
        assert server.get().isdigit()
        assert server.ask("stop")["ok"]
        assert server.wait() == 0


def test_reuseport_a_dead_worker_s_queue_is_served_by_another(tmp_path: Path) -> None:
    options = ("--balance", "reuseport")
    with serving(tmp_path, "tell:app", *options, workers=2) as server:
        (zygote,) = server.ask("status")["zygotes"]
        victim, other = server.workers()
        os.kill(zygote["pid"], signal.SIGSTOP)  # no replacement for now
        try:
            os.kill(victim["pid"], signal.SIGKILL)
            server.event("exited", pid=victim["pid"])
            answers = {json.loads(server.get())["pid"] for _ in range(40)}
            assert answers == {other["pid"]}
        finally:
            os.kill(zygote["pid"], signal.SIGCONT)
        server.event("readied", slot=victim["slot"])
        answers = {json.loads(server.get())["pid"] for _ in range(60)}
        assert len(answers) == 2


def test_a_crash_looping_app_backs_off_and_heals(tmp_path: Path) -> None:
    switch = tmp_path / "broken"
    app = f"""
import os, asyncio
from clusterd.demo import app as demo
async def app(scope, receive, send):
    if scope["type"] == "lifespan" and os.path.exists({str(switch)!r}):
        os._exit(9)
    await demo(scope, receive, send)
"""
    (tmp_path / "shop.py").write_text(app)
    with serving(tmp_path, "shop:app", "--app-dir", str(tmp_path), workers=1) as server:
        switch.write_text("")
        os.kill(server.workers()[0]["pid"], signal.SIGKILL)
        server.event("backed_off", deaths=3)
        assert server.ask("status")["state"] == "degraded"
        switch.unlink()
        server.event("readied")


def test_a_stop_while_starting_up_ends_with_status_0(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import threading\nthreading.Event().wait()\n")
    with running(tmp_path, "shop:app", "--app-dir", str(tmp_path)) as server:
        server.event("zygote_spawned")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.family() == set()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import tea_that_is_not_there\n", "tea_that_is_not_there"),
        ("import sys; sys.exit(0)\n", "SystemExit"),
        ("import os; os._exit(0)\n", "status 0"),
        ("import threading; threading.Event().wait()\n", "took too long"),
        (
            "async def app(scope, receive, send):\n"
            "    await send({'type': 'lifespan.startup.failed', 'message': 'no tea'})\n",
            "no tea",
        ),
        (
            "import os\nasync def app(scope, receive, send):\n    os._exit(7)\n",
            "3 times",
        ),
    ],
    ids=["import error", "exit", "hard exit", "hang", "lifespan", "dies"],
)
def test_a_first_start_that_leads_nowhere_is_exit_3(code: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(code)
    options = ("--app-dir", str(tmp_path), "--startup-timeout", "2s", "-w", "2")
    with running(tmp_path, "shop:app", *options) as server:
        assert server.wait() == 3
        assert reason in server.log()
        assert server.family() == set()
