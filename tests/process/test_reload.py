"""Rolling in new code, for real: good code loses nothing, broken code changes nothing."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.ipc.client import Refused
from tests.support.gate import descriptors, gate
from tests.support.load import Load
from tests.support.server import Server, serving

GOOD = """
import os
VERSION = {version!r}
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    body = (VERSION + " " + str(os.getpid())).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""

BROKEN = {
    "import error": ("import tea_that_is_not_there\n", "tea_that_is_not_there"),
    "syntax error": ("def app(:\n", "SyntaxError"),
    "exit during import": ("import sys; sys.exit(0)\n", "SystemExit"),
    "hard exit during import": ("import os; os._exit(0)\n", "ended while loading"),
    "import hang": ("import threading; threading.Event().wait()\n", "took too long"),
    "lifespan failure": (
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no tea'})\n",
        "no tea",
    ),
    "dies right after ready": (
        GOOD.format(version="dead")
        + "import asyncio, os\nserve = app\n"
        + "async def app(scope, receive, send):\n"
        + "    if scope['type'] == 'lifespan':\n"
        + "        asyncio.get_running_loop().call_later(0.05, os._exit, 7)\n"
        + "    await serve(scope, receive, send)\n",
        "status 7",
    ),
    "no such attribute": ("application = None\n", "no attribute"),
}


def ready_pids(server: Server) -> set[int]:
    """Who serves."""
    return {w["pid"] for w in server.workers() if w["phase"] == "ready"}


def settled(server: Server) -> int:
    """The master's descriptors once two workers and two zygotes are left of a reload."""
    while len(server.ask("status")["workers"]) > 2:
        server.event("exited")
    while len(server.ask("status")["zygotes"]) > 2:
        server.event("zygote_exited")
    return descriptors(server.pid)


def deploy(place: Path, code: str) -> None:
    """Put code where the application is imported from, as one atomic step."""
    fresh = place / "shop.py.new"
    fresh.write_text(code)
    fresh.replace(place / "shop.py")


@contextlib.contextmanager
def shop(place: Path, *options: str, workers: int = 2) -> Iterator[Server]:
    """A cluster that serves the code in its directory."""
    deploy(place, GOOD.format(version="one"))
    with serving(place, "shop:app", "--app-dir", str(place), *options, workers=workers) as server:
        yield server


def test_a_reload_brings_today_s_code(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        assert server.get().startswith("one ")
        deploy(tmp_path, GOOD.format(version="two"))
        assert server.ask("reload", wait=True)["generation"] == 2
        assert server.get().startswith("two ")
        assert {w["generation"] for w in server.workers() if w["phase"] == "ready"} == {2}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_code_leaves_the_old_serving_and_says_why(name: str, tmp_path: Path) -> None:
    code, reason = BROKEN[name]
    options = ("--startup-timeout", "2s", "--min-ready", "1s")
    with shop(tmp_path, *options) as server:
        before = ready_pids(server)
        deploy(tmp_path, code)
        with pytest.raises(Refused) as refused:
            server.ask("reload", wait=True)
        told = refused.value.message + str(refused.value.reply.get("traceback"))
        assert reason in told
        assert ready_pids(server) == before
        assert server.get().startswith("one ")
        deploy(tmp_path, GOOD.format(version="two"))
        assert server.ask("reload", wait=True)
        assert server.get().startswith("two ")


def test_rollback_returns_to_the_code_in_memory(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        deploy(tmp_path, GOOD.format(version="two"))
        server.ask("reload", wait=True)
        assert server.ask("rollback", wait=True)["generation"] == 1
        assert server.get().startswith("one ")


def test_a_symlink_deploy_is_followed(tmp_path: Path) -> None:
    for number in ("one", "two"):
        (tmp_path / number).mkdir()
        deploy(tmp_path / number, GOOD.format(version=number))
    current = tmp_path / "current"
    current.symlink_to("one")
    with serving(tmp_path, "shop:app", "--app-dir", ".", cwd=str(current)) as server:
        assert server.get().startswith("one ")
        current.unlink()
        current.symlink_to("two")
        server.ask("reload", wait=True)
        assert server.get().startswith("two ")


def test_ten_reloads_under_load_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        server.ask("reload", wait=True)
        before = settled(server)
        with Load(server) as load:
            for _ in range(10):
                server.ask("reload", wait=True)
        assert load.failed == []
        assert load.answered > 0
        assert settled(server) == before


@pytest.mark.slow
def test_a_hundred_reloads_leave_the_master_as_it_was(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        for _ in range(5):
            server.ask("reload", wait=True)
        before, memory = settled(server), resident(server.pid)
        for _ in range(100):
            server.ask("reload", wait=True)
        assert settled(server) == before
        assert resident(server.pid) < memory + 4 * 2**20, "the journal itself may still fill"


def resident(pid: int) -> int:
    """Bytes of memory that a process has (field 2 of statm, proc(5))."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_idle_connections_are_answered_after_a_reload(tmp_path: Path) -> None:
    """A browser's worth of them: none is reset, and each gets its next answer."""
    with shop(tmp_path) as server:
        clients = [server.connect() for _ in range(24)]
        for client in clients:
            server.get("/", client)
        deploy(tmp_path, GOOD.format(version="two"))
        server.ask("reload", wait=True)
        for client in clients:
            assert client.sock is not None, "the server has closed it"
            assert server.get("/", client).startswith("two ")
            client.close()


def test_term_in_the_middle_of_a_reload_wins(tmp_path: Path) -> None:
    with shop(tmp_path, "--min-ready", "60s") as server:
        server.signal(signal.SIGHUP)
        server.event("canary_readied")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.family() == set()


def test_scale_and_death_in_the_middle_of_a_reload(tmp_path: Path) -> None:
    with shop(tmp_path, "--min-ready", "1s") as server:
        server.signal(signal.SIGHUP)
        server.event("canary_readied")
        old = next(w for w in server.workers() if w["generation"] == 1)
        os.kill(old["pid"], signal.SIGKILL)
        server.ask("scale", to=3)
        server.signal(signal.SIGHUP)
        server.event("rollout_finished", generation=2)
        server.event("rollout_finished", generation=3)
        ready = [w["generation"] for w in server.workers() if w["phase"] == "ready"]
        assert ready == [3, 3, 3]


def test_a_storm_of_hups_is_a_few_rollouts_and_one_generation(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        for _ in range(500):
            server.signal(signal.SIGHUP)
        server.signal(signal.SIGTTIN)
        server.event("scaled", size=3)
        while server.ask("status")["rollout"]:
            server.event("rollout_finished")
        status = server.ask("status")
        generations = {w["generation"] for w in status["workers"] if w["phase"] == "ready"}
        assert generations == {status["generation"]}
        assert status["generation"] <= 4


def test_a_changed_bind_is_taken_over_and_the_old_one_emptied(tmp_path: Path) -> None:
    settings = tmp_path / "clusterd.toml"
    first, second = tmp_path / "a.sock", tmp_path / "b.sock"
    bound = 'bind = ["127.0.0.1:0", "unix:{}"]\nmin_ready = 0\nworkers = 1\n'
    settings.write_text(bound.format(first))
    deploy(tmp_path, GOOD.format(version="one"))
    with serving_file(tmp_path) as server:
        assert first.exists()
        settings.write_text(bound.format(second))
        server.ask("reload", wait=True)
        assert second.exists()
        assert not first.exists()
        settings.write_text('bind = ["no.such.host.invalid:80"]\nworkers = 1\n')
        with pytest.raises(Refused, match="not known"):
            server.ask("reload", wait=True)
        assert server.get().startswith("one ")


@contextlib.contextmanager
def serving_file(place: Path) -> Iterator[Server]:
    """A cluster whose addresses and size come from the file in its directory."""
    made = Server(place, "shop:app", "--app-dir", str(place), from_file=True)
    try:
        yield made.ready()
        assert made.stop() == 0
    finally:
        made.dispose()


def test_a_stream_in_progress_over_a_reload_ends_as_the_app_says(tmp_path: Path) -> None:
    with gate() as door, serving(tmp_path, GATE=str(door.path)) as server:
        client = server.connect()
        client.request("GET", "/stream")
        visitor = door.next()
        server.signal(signal.SIGHUP)
        server.event("retired", pid=visitor.pid)
        visitor.release()
        assert client.getresponse().read() == b"first\nlast\n"
        client.close()
        server.event("rollout_finished")


def test_a_stream_of_events_is_ended_cleanly_after_its_grace(tmp_path: Path) -> None:
    """The client sees a whole answer (a cut one raises) and may connect again, to new code."""
    with serving(tmp_path, "tell:app", "--stream-grace", "100ms") as server:
        client = server.connect()
        client.request("GET", "/events")
        response = client.getresponse()
        assert response.fp.readline() == b"9\r\n"
        server.ask("reload", wait=True)
        rest = b"data: 1\n\n\r\n0\r\n\r\n"
        assert response.fp.read(len(rest)) == rest
        client.sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert response.fp.read().startswith(b"HTTP/1.1 200 ")  # kept, as its head had said
        client.close()


def test_a_zygote_whose_code_changed_meanwhile_becomes_a_new_generation(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        deploy(tmp_path, GOOD.format(version="two"))
        (zygote,) = server.ask("status")["zygotes"]
        os.kill(zygote["pid"], signal.SIGKILL)
        server.event("rollout_finished", generation=2)
        assert server.get().startswith("two ")


def test_a_zygote_whose_code_changed_in_a_pause_holds_no_reload_up(tmp_path: Path) -> None:
    """Found by a soak: the rollout that it began ended with the pause, and the reload waited."""
    with shop(tmp_path) as server:
        server.ask("pause")
        (zygote,) = server.ask("status")["zygotes"]
        deploy(tmp_path, GOOD.format(version="two"))
        os.kill(zygote["pid"], signal.SIGKILL)
        server.event("zygote_exited", pid=zygote["pid"])
        server.event("zygote_readied")
        assert server.ask("status")["rollout"] is None
        server.ask("reload", wait=True)
        assert server.get().startswith("two ")


def test_when_all_died_and_the_code_is_broken_it_stays_up_and_heals(tmp_path: Path) -> None:
    with shop(tmp_path) as server:
        deploy(tmp_path, BROKEN["import error"][0])
        (zygote,) = server.ask("status")["zygotes"]
        workers = ready_pids(server)
        for pid in (zygote["pid"], *workers):
            os.kill(pid, signal.SIGKILL)
        server.event("zygote_failed")
        server.event("backed_off")
        waiting = server.connect()
        waiting.request("GET", "/")
        deploy(tmp_path, GOOD.format(version="two"))
        assert waiting.getresponse().read().startswith(b"two ")
        waiting.close()
