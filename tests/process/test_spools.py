"""Request bodies on a real disk: larger than the memory budget, and larger than the disk."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hostile import MIB, forget_peak, resident, spooled
from tests.support.server import LIMIT, ROOT, Server, running
from tests.support.spools import find_disk

# Temporary files in a small file system, see mount_namespaces(7). An overlay, since on tmpfs itself
# bodies would stay in memory.
SMALL_DISK = """
set -e
mount -t tmpfs -o size=3m none "$TMPDIR"
cd "$TMPDIR"
mkdir upper work lower
mount -t overlay none -o "lowerdir=lower,upperdir=upper,workdir=work" "$TMPDIR"
cd /
exec "$@"
"""
SMALL = ("unshare", "--mount", "sh", "-c", SMALL_DISK, "sh")
HEAD = b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


@contextlib.contextmanager
def serving_from(
    place: Path, folder: Path, *options: str, wrapper: tuple[str, ...] = ()
) -> Iterator[tuple[Server, int]]:
    """One worker with one thread whose temporary files are in a folder, and its pid."""
    options = ("-w", "1", "--min-ready", "0", "--threads", "1", *options)
    with running(
        place, "tell_wsgi:app", *options, wrapper=wrapper, keep=(), TMPDIR=str(folder)
    ) as server:
        server.ready()
        yield server, json.loads(server.get())["pid"]
        assert server.stop() == 0, server.history()


def make_blocks(count: int) -> Iterator[bytes]:
    """Return so many MiB of which none is as another."""
    source = random.Random(1)
    for _ in range(count):
        yield source.randbytes(MIB)


def test_a_body_larger_than_the_memory_budget_waits_on_disk(tmp_path: Path) -> None:
    folder = find_disk(tmp_path, Path("/var/tmp"), ROOT) / f"spools-{os.getpid()}"
    folder.mkdir()
    try:
        with serving_from(tmp_path, folder, "--memory-budget", "64MiB") as (server, pid):
            before = resident(pid)
            forget_peak(pid)
            body = make_blocks(200)
            digest = hashlib.sha256()
            connection = server.connect()
            connection.putrequest("POST", "/digest")
            connection.putheader("Content-Length", str(200 * MIB))
            connection.endheaders()
            for block in body:
                digest.update(block)
                connection.send(block)
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())) == (200, digest.hexdigest())
            assert resident(pid, "VmHWM") - before < 32 * MIB
            assert json.loads(server.get())["pid"] == pid, "its thread is free again"
            assert spooled(pid) == 0
            connection.close()
    finally:
        shutil.rmtree(folder)


def test_a_full_disk_costs_one_request_and_the_log_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    env = {**os.environ, "TMPDIR": str(folder)}
    if shutil.which("unshare") is None or subprocess.run([*SMALL, "true"], env=env).returncode:
        pytest.skip("nothing can be mounted here")
    with serving_from(tmp_path, folder, wrapper=SMALL) as (server, pid):
        with socket.create_connection(server.address, LIMIT) as sock:
            # What comes after the response is little enough to be read and thrown away.
            sock.sendall(HEAD % (4 * MIB) + bytes(4 * MIB))
            response = b""
            while piece := sock.recv(65536):  # to the end: the connection is closed
                response += piece
        assert response.startswith(b"HTTP/1.1 507 Insufficient Storage\r\n")
        assert json.loads(server.get())["pid"] == pid
        assert spooled(pid) == 0
        assert f"put on disk, in {folder}: [Errno 28] No space left on device" in server.log()
        connection = server.connect()
        connection.request("POST", "/upload", bytes(2 * MIB))
        assert json.loads(connection.getresponse().read())["size"] == 2 * MIB
        connection.close()
