"""From saving a file of a small app to the first answer of the new code, under `--dev`.

A fresh connection every 2 ms asks which version answers. What the import itself took is what the
zygote of that very reload says, and is subtracted, as is the silence that is waited for after a
save (`reload_delay`, what uvicorn calls --reload-delay). Once as it comes, with a zygote that was
started ahead, and once with that one killed before each save.
"""

import contextlib
import json
import os
import signal
import tempfile
import time
from pathlib import Path

from benchmarks import load, proc, servers
from benchmarks.outcome import Outcome
from benchmarks.servers import Running
from benchmarks.session import Session

DELAY = 0.05  # s; the default of reload_delay
LIMIT = 30.0  # s
QUIET = 1.5  # s between saves: what follows a reload is over, and uvicorn looks again
APP = """
VERSION = b"{version}"


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    headers = [(b"content-length", str(len(VERSION)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": VERSION}})
"""


def run(session: Session) -> Outcome:
    """Save a file again and again under each server."""
    outcome = Outcome(
        {"save to answer": "ms", "beyond import": "ms", "beyond import and delay": "ms"}
    )
    saves = session.times(10, tiny=2)
    for server in session.among(
        servers.CLUSTERD_DEV, servers.CLUSTERD_DEV_COLD, servers.UVICORN_DEV
    ):
        with tempfile.TemporaryDirectory(prefix="bench-dev-") as folder:
            save(folder, 0)
            with (
                session.forgiving(server, outcome),
                session.start(server, "small", workers=1, more={"folder": folder}) as running,
            ):
                _save_all(session, running, outcome, folder, saves)
    for server, target in ((servers.CLUSTERD_DEV_COLD, 250), (servers.CLUSTERD_DEV, 60)):
        taken = outcome.median(server.name, "beyond import and delay")
        how = "with a zygote ahead" if server is servers.CLUSTERD_DEV else "without one ahead"
        outcome.figure(f"save to first answer, beyond import and delay, {how}", taken, target, "ms")
    return outcome


def save(folder: str, version: int) -> None:
    """Put a version of the app in place, in one step."""
    fresh = Path(folder, "small.tmp")
    fresh.write_text(APP.format(version=version))
    fresh.replace(Path(folder, "small.py"))


def _save_all(
    session: Session, running: Running, outcome: Outcome, folder: str, saves: int
) -> None:
    name = running.server.name
    running.wait_answering()
    for version in range(1, saves + 1):
        time.sleep(QUIET)
        if running.server is servers.CLUSTERD_DEV_COLD:
            _kill_ahead(running)
        began = time.perf_counter()
        save(folder, version)
        taken = _until(running, str(version).encode()) - began
        outcome.add(name, "save to answer", taken * 1e3)
        said = f"save {version}: {name} {taken * 1e3:.0f} ms"
        if running.server.is_ours:
            beyond = taken - _import_took(running)
            outcome.add(name, "beyond import", beyond * 1e3)
            outcome.add(name, "beyond import and delay", (beyond - DELAY) * 1e3)
            said += f", {beyond * 1e3:.0f} ms beyond the import"
        session.say(said)


def _until(running: Running, version: bytes) -> float:
    """When the first answer of this version came."""
    limit = time.perf_counter() + LIMIT
    while time.perf_counter() < limit:
        with contextlib.suppress(OSError, ValueError):  # uvicorn refuses meanwhile
            if load.ask(running.port, "/").body == version:
                return time.perf_counter()
        time.sleep(0.002)
    raise TimeoutError(f"{running.server.name} does not serve what was saved")


def _import_took(running: Running) -> float:
    """What the last zygote of the app said, in seconds."""
    lines = [json.loads(line) for line in running.log.read_text().splitlines() if line[:1] == "{"]
    took = [one["seconds"] for one in lines if one["message"] == "zygote readied"]
    return float(took[-1])


def _kill_ahead(running: Running) -> None:
    """The zygote that has not been told what to import still has the name it was started with."""
    for pid in proc.tree(running.root):
        if b"clusterd.child" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
