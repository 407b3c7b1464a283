"""A real zygote of a small master: it never outlives it, and forks whatever was imported."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from clusterd.app.importer import LoadError
from clusterd.ipc.channel import LIMIT, encode
from clusterd.zygote.main import failure

# A master that boots one child, tells what it hears, and dies when its standard input ends.
MASTER = """
    import os, signal, socket, subprocess, sys
    from dataclasses import replace
    from clusterd.config.settings import Config
    from clusterd.ipc.channel import Channel
    from clusterd.ipc.messages import Boot, Spawn
    from clusterd.ipc.scoreboard import Scoreboard
    from clusterd.kernel.process import become_subreaper

    role, place = sys.argv[1:]
    become_subreaper()
    config = Config()
    config = replace(config, app=replace(config.app, app="shop:app", app_dir=place))
    ours, theirs = Channel.pair()
    board = Scoreboard.create()
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "clusterd.child", role, str(theirs.fileno())],
        pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )
    ours.send(Boot("web", 1, config.to_wire(), []), [board.fd, 2])
    worker, end = Channel.pair()
    pair = socket.socketpair()
    fds = [end.fileno(), 2, *(one.fileno() for one in pair)]
    if role == "worker" and "left" not in place:
        ours.send(Spawn(0, 0, 1, []), fds)
    theirs.close()
    if role == "zygote" and "fork" in place:
        print(type(ours.receive()[0]).__name__, flush=True)
        ours.send(Spawn(0, 0, 1, []), fds)
        end.close()
        print(type(worker.receive()[0]).__name__, flush=True)
        print(ours.receive(block=False), flush=True)
        child.kill()
        child.wait()
        print(type(ours.receive(block=False)).__name__, flush=True)
    if "left" in place:
        ours.close()
        print(child.wait(), flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def start(place: Path, role: str, app: str) -> subprocess.Popen[str]:
    (place / "shop.py").write_text(textwrap.dedent(app))
    command = [sys.executable, "-c", textwrap.dedent(MASTER), role, str(place)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )


@pytest.mark.parametrize("role", ["zygote", "worker"])
def test_an_import_that_never_ends_ends_with_the_master(tmp_path: Path, role: str) -> None:
    """Nobody reads the channel then: it is the kernel that tells of the master's death."""
    os.mkfifo(tmp_path / "fifo")
    app = f"""
        import threading
        told = open({str(tmp_path / "fifo")!r}, "w", buffering=1)
        told.write("importing\\n")
        threading.Event().wait()
    """
    master = start(tmp_path, role, app)
    with open(tmp_path / "fifo") as fifo:
        assert fifo.readline() == "importing\n"
        master.communicate()
        assert fifo.read() == "", "the end comes when the importing process is gone"


def test_an_import_that_ignores_its_childrens_deaths_can_be_forked(tmp_path: Path) -> None:
    """With SIGCHLD ignored, waiting for the intermediate child would fail though all went well."""
    place = tmp_path / "fork"
    place.mkdir()
    app = """
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        async def app(scope, receive, send): ...
    """
    master = start(place, "zygote", app)
    told, _ = master.communicate()
    assert told.split()[:3] == ["Loaded", "Hello", "None"]


@pytest.mark.parametrize("role", ["zygote", "worker"])
def test_a_child_whose_master_has_left_ends_as_if_asked(tmp_path: Path, role: str) -> None:
    """A worker that imports for itself, too, which has had no order yet."""
    place = tmp_path / "left"
    place.mkdir()
    master = start(place, role, "async def app(scope, receive, send): ...")
    told, _ = master.communicate()
    assert told.split() == ["0"]


def test_a_newborn_does_not_keep_the_channel_of_its_zygote(tmp_path: Path) -> None:
    """Else the master would not see the channel's end when the zygote has died."""
    place = tmp_path / "fork"
    place.mkdir()
    master = start(place, "zygote", "async def app(scope, receive, send): ...")
    told, _ = master.communicate()
    assert told.split()[3:] == ["Closed"]


@pytest.mark.parametrize("character", ["x", "ü", "\0", "\udc80"])
def test_an_error_of_any_length_fits_the_message_about_it(character: str) -> None:
    """It is said what failed, in a few thousand characters, and not that a packet is too long."""
    long = character * 100_000
    told = failure("import", LoadError(f"ValueError: {long}", "Mend it.", long))
    assert len(encode(told)) < LIMIT
    assert told.reason.startswith(f"ValueError: {character}")
    assert told.traceback.endswith(character * 1000), "its end says what was raised"
    assert told.remedy == "Mend it."
