"""Real PostgreSQL and Redis servers, as our own children, each at an address of its own.

Neither can bind port 0 and report it. So each listens at its usual port, at a loopback address made
from the pid of the process that starts it: no two test processes share one.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT = 60.0  # seconds until a wait is a failure
_VERSIONS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
POSTGRES = _VERSIONS[-1] if _VERSIONS else None
REDIS = shutil.which("redis-server")


def own_address() -> str:
    """Return a loopback address that is ours for as long as this process lives."""
    pid = os.getpid()
    return f"127.{1 + (pid >> 16) % 250}.{pid >> 8 & 255}.{pid & 255}"


@contextlib.contextmanager
def postgres(place: Path) -> Iterator[str]:
    """Run a PostgreSQL server; yield its `HOST:PORT`. It trusts everybody and syncs nothing."""
    if POSTGRES is None:
        pytest.skip("postgresql is not installed")
    host = own_address()
    # PostgreSQL refuses to run as root, and its user may not enter pytest's directories.
    data = Path(tempfile.mkdtemp(prefix="clusterd-pg-"))
    as_user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        shutil.chown(data, "postgres", "postgres")
        as_user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--")
    initdb = (POSTGRES / "initdb", "-D", data / "data", "-U", "postgres", "-A", "trust", "-N")
    subprocess.run([*as_user, *map(str, initdb)], check=True, capture_output=True, cwd="/")
    command = [*as_user, str(POSTGRES / "postgres"), "-D", str(data / "data"), "-h", host, "-F"]
    command += ["-k", str(data), "-c", "max_connections=200"]
    try:
        with _running(command, place / "log", host, 5432):
            yield f"{host}:5432"
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def redis(place: Path) -> Iterator[str]:
    """Run a Redis server that stores nothing on disk; yield its URL."""
    if REDIS is None:
        pytest.skip("redis-server is not installed")
    host = own_address()
    command = [REDIS, "--bind", host, "--port", "6379", "--save", "", "--dir", str(place)]
    with _running(command, place / "log", host, 6379):
        yield f"redis://{host}:6379"


@contextlib.contextmanager
def _running(command: list[str], log: Path, host: str, port: int) -> Iterator[None]:
    """Run a server while the block runs, from when it accepts connections."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + LIMIT
        while not _accepts(host, port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(LIMIT)


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
