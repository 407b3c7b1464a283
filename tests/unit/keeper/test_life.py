"""Keepers with real programs: readiness, ends of every kind, and what a program is told."""

import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from clusterd.ipc.messages import Drain, Draining, Dump, Dumped, Failed, Hello, Leaving, Quit, Ready
from clusterd.ipc.scoreboard import Cell, Stage
from clusterd.kernel.process import is_alive
from tests.support.keeping import Zygote, is_gone, keeping, settings

WAIT = "import signal; signal.pause()"
DEAF = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf')\nwhile 1: signal.pause()"


def test_ready_when_it_stays_up_and_gone_when_told(tmp_path: Path) -> None:
    with keeping(tmp_path, settings(WAIT, place=tmp_path)) as zygote:
        keeper = zygote.keeper(3).ready()
        hello, ready = keeper.heard
        assert isinstance(hello, Hello)
        assert isinstance(ready, Ready)
        assert (ready.slot, ready.pid, len(ready.fingerprint)) == (3, keeper.pid, 16)
        assert keeper.row[Cell.PHASE] == Stage.READY
        assert is_alive(keeper.pid, int(keeper.row[Cell.START_TICKS]))
        program = keeper.program
        assert os.getsid(program) == program != os.getsid(keeper.pid)
        assert [type(one) for one in keeper.drain()][2:] == [Draining]
        assert is_gone(program)
        assert keeper.row[Cell.PHASE] == Stage.DRAINING


def test_its_zygote_is_light(tmp_path: Path) -> None:
    with keeping(tmp_path, settings(WAIT, place=tmp_path)) as zygote:
        keeper = zygote.keeper().ready()
        for pid in (zygote.process.pid, keeper.pid):
            mapped = Path(f"/proc/{pid}/maps").read_text()
            assert "setproctitle" in mapped
            assert not [name for name in ("uvloop", "_asyncio", "_ssl", "psutil") if name in mapped]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('one'); print('two'); raise SystemExit(7)", "status 7"),
        ("print('one'); print('two'); import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("print('one'); print('two')", "status 0"),
    ],
)
def test_its_end_is_told_with_its_last_lines(tmp_path: Path, code: str, reason: str) -> None:
    with keeping(tmp_path, settings(code, place=tmp_path, ready_after=60.0)) as zygote:
        *_, failed = zygote.keeper().rest()
        assert isinstance(failed, Failed)
        assert failed.stage == "command"
        assert f"{sys.executable} ended by itself with {reason} after " in failed.reason
        assert failed.traceback == "one\ntwo"


@pytest.mark.parametrize(
    ("argv", "more", "reason"),
    [
        (["no-such-program", "-x"], {}, "there is no program no-such-program in any directory"),
        (["./notes.txt", "-x"], {}, "./notes.txt is not executable"),
        (["true", "-x"], {"directory": "/no/such"}, "directory /no/such is not there"),
    ],
)
def test_what_cannot_be_run_is_said_by_the_zygote(
    tmp_path: Path, argv: list[str], more: dict[str, Any], reason: str
) -> None:
    (tmp_path / "notes.txt").touch()
    zygote = Zygote(tmp_path, settings(*argv, place=tmp_path, **more))
    failed = zygote.until(Failed)
    assert failed.stage == "command"
    assert reason in failed.reason
    assert zygote.rest() == [failed]
    assert zygote.process.wait() == 3
    zygote.channel.close()


def test_a_program_that_the_kernel_refuses(tmp_path: Path) -> None:
    program = tmp_path / "text"
    program.write_text("no interpreter line")
    program.chmod(0o755)
    with keeping(tmp_path, settings(str(program), "-x", place=tmp_path)) as zygote:
        failed = zygote.keeper().until(Failed)
        assert "Exec format error" in failed.reason


def test_one_that_ignores_the_signal_is_killed_in_time(tmp_path: Path) -> None:
    config = settings(DEAF, place=tmp_path, readiness="line:^deaf$")
    with keeping(tmp_path, config) as zygote:
        keeper = zygote.keeper().ready()
        program = keeper.program
        keeper.drain(within=0.2)
        assert is_gone(program)


def test_a_later_order_may_be_shorter_and_quit_is_at_once(tmp_path: Path) -> None:
    config = settings(DEAF, place=tmp_path, readiness="line:^deaf$")
    with keeping(tmp_path, config) as zygote:
        for hurry in (Drain("stop", 0.1), Quit()):
            keeper = zygote.keeper().ready()
            keeper.say(Drain("reload", 3600.0))
            keeper.until(Draining)
            program = keeper.program
            keeper.say(hurry)
            keeper.rest()
            assert is_gone(program)


def test_one_that_was_stopped_hears_that_it_is_to_end(tmp_path: Path) -> None:
    with keeping(tmp_path, settings(WAIT, place=tmp_path)) as zygote:
        keeper = zygote.keeper().ready()
        program = keeper.program
        os.kill(program, signal.SIGSTOP)
        keeper.drain(within=3600.0)
        assert is_gone(program)


def test_it_ends_with_its_keeper(tmp_path: Path) -> None:
    with keeping(tmp_path, settings(WAIT, place=tmp_path)) as zygote:
        keeper = zygote.keeper().ready()
        program = keeper.program
        os.kill(keeper.pid, signal.SIGKILL)
        keeper.rest()
        assert is_gone(program)


def test_it_ends_with_the_master(tmp_path: Path) -> None:
    code = (
        "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('told'))); signal.pause()"
    )
    with keeping(tmp_path, settings(code, place=tmp_path, ready_after=0.3)) as zygote:
        keeper = zygote.keeper().ready()
        program = keeper.program
        keeper.channel.close()
        assert is_gone(program)
        zygote.until_logged("told")


def test_the_stop_signal_is_of_ones_choice(tmp_path: Path) -> None:
    code = "import signal; signal.signal(10, lambda *_: print('usr1') or exit()); print('up')\n"
    code += "while 1: signal.pause()"
    config = settings(code, place=tmp_path, stop_signal="USR1", readiness="line:up")
    with keeping(tmp_path, config) as zygote:
        zygote.keeper().ready().drain()
        zygote.until_logged("usr1")


def test_what_it_left_behind_ends_with_it(tmp_path: Path) -> None:
    """Its process group by the signal; who made a session of his own as an orphan of the keeper."""
    code = "sleep 60 & setsid sleep 60 & echo up; wait"
    config = settings("/bin/sh", "-c", code, place=tmp_path, readiness="line:up")
    with keeping(tmp_path, config) as zygote:
        keeper = zygote.keeper().ready()
        keeper.say(Dump())
        text = keeper.until(Dumped).text
        pids = [int(line.split()[1]) for line in text.splitlines() if line.startswith("process ")]
        assert len(pids) == 3, text
        assert "its last lines:\n  up" in text
        keeper.drain(within=20)
        assert all(is_gone(pid) for pid in pids)


def test_a_daemon_is_noticed_and_held_and_ended(tmp_path: Path) -> None:
    code = """
import os, signal, sys
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(0, 100)
signal.pause()
"""
    with keeping(tmp_path, settings(code, place=tmp_path)) as zygote:
        keeper = zygote.keeper().ready()
        zygote.until_logged("went into the background")
        keeper.say(Dump())
        (line,) = keeper.until(Dumped).text.splitlines()
        daemon = int(line.split()[1])
        assert keeper.drain()
        assert is_gone(daemon)


def test_notify_is_heard_and_may_be_closed(tmp_path: Path) -> None:
    code = """
import os, signal, socket
name = os.environ["NOTIFY_SOCKET"].replace("@", chr(0))
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.sendto(b"STATUS=halfway", name)
told.sendto(b"READY=1\\nSTATUS=serving", name)
told.close()
signal.pause()
"""
    config = settings(code, place=tmp_path, readiness="notify")
    with keeping(tmp_path, config) as zygote:
        keeper = zygote.keeper().ready()
        title = Path(f"/proc/{keeper.pid}/cmdline").read_bytes().rstrip(b"\0")
        assert title == b"clusterd: crew keeper 0 g1 ready (serving)"
        keeper.drain()


def test_one_that_says_that_it_stops_is_replaced_first(tmp_path: Path) -> None:
    code = """
import os, signal, socket
name = os.environ["NOTIFY_SOCKET"].replace("@", chr(0))
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.sendto(b"READY=1", name)
told.sendto(b"STOPPING=1", name)
signal.pause()
"""
    with keeping(tmp_path, settings(code, place=tmp_path, readiness="notify")) as zygote:
        keeper = zygote.keeper().ready()
        assert keeper.until(Leaving).reason == "it says that it stops"
        keeper.drain()


def test_sockets_and_variables_are_handed_over(tmp_path: Path) -> None:
    code = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
assert os.environ["LISTEN_FDNAMES"] == "crew:crew"
found = [socket.socket(fileno=3 + number) for number in range(int(os.environ["LISTEN_FDS"]))]
print("open", *sorted(map(int, os.listdir("/proc/self/fd")))[:-1])
print(os.environ["CLUSTERD_GROUP"], os.environ["CLUSTERD_SLOT"], os.environ["PORT"], os.getcwd())
client, _ = found[1].accept()
client.sendall(b"served")
"""
    variables = ("PORT=5100", "A=b=c")
    with (
        keeping(tmp_path, settings(code, place=tmp_path, environment=variables)) as zygote,
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        two.setblocking(False)
        keeper = zygote.keeper(2, one, two).ready()
        with socket.create_connection(two.getsockname(), timeout=30) as client:
            assert client.recv(100) == b"served"
        keeper.rest()
        zygote.until_logged("open 0 1 2 3 4")
        zygote.until_logged(f"crew 2 5102 {tmp_path}")


def test_signals_mean_what_they_mean_to_a_worker(tmp_path: Path) -> None:
    with keeping(tmp_path, settings(WAIT, place=tmp_path)) as zygote:
        keeper = zygote.keeper().ready()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH):
            os.kill(keeper.pid, number)
        os.kill(keeper.pid, signal.SIGUSR2)
        zygote.until_logged("where it is, as asked for by USR2")
        os.kill(keeper.pid, signal.SIGTERM)
        assert keeper.until(Leaving).reason == "TERM"
        os.kill(keeper.pid, signal.SIGTERM)
        keeper.until(Draining)
        keeper.rest()


def test_no_signal_is_ignored_or_blocked_in_it(tmp_path: Path) -> None:
    """Save the two that are libc's own: posix_spawn(3) of glibc leaves those ignored."""
    code = "grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f2 | xargs echo mask; sleep 60"
    config = settings("/bin/sh", "-c", code, place=tmp_path, readiness="line:mask")
    with keeping(tmp_path, config) as zygote:
        zygote.keeper().ready().drain()
        (line,) = [line for line in zygote.lines() if "mask " in line]
        masks = re.findall("[0-9a-f]{16}", line)
        assert len(masks) == 2
        libcs = 1 << 31 | 1 << 32  # signals 32 and 33: SIGCANCEL and SIGSETXID
        assert not any(int(mask, 16) & ~libcs for mask in masks)
