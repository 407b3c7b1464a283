"""Output becomes lines of the log: whole, harmless, and never in anybody's way."""

import contextlib
import json
import os
import pty
import select
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.ipc.messages import Failed
from clusterd.keeper.output import PIECE, Lines, Outlet, Output, clean_but_colour, line_form
from clusterd.keeper.turns import Turns
from tests.support.keeping import keeping, settings


@given(st.lists(st.binary(max_size=50)))
def test_lines_do_not_depend_on_how_they_come(pieces: list[bytes]) -> None:
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)] + lines.end()
    assert b"\n".join(found) == b"".join(pieces).removesuffix(b"\n")


def test_a_line_without_end_comes_in_pieces() -> None:
    lines = Lines()
    found = lines.feed(b"x" * (2 * PIECE + 10))
    assert [len(line) for line in found] == [PIECE, PIECE]
    assert lines.feed(b"y\n" + b"z" * (PIECE + 1) + b"\n") == [
        b"x" * 10 + b"y",
        b"z" * PIECE,
        b"z",
    ]
    assert lines.end() == []


def test_what_a_program_prints_drives_no_terminal_and_forges_no_line() -> None:
    assert clean_but_colour("\x1b[31mred\x1b[0m \x1b[2J\x07") == (
        "\x1b[31mred\x1b[0m \\x1b[2J\\x07\x1b[0m"
    )
    assert clean_but_colour("a\tb") == "a       b"
    assert clean_but_colour("plain \x9b31m") == "plain \\x9b31m"


def test_at_a_terminal_a_line_follows_its_name_and_elsewhere_it_is_an_event() -> None:
    master, slave = pty.openpty()
    form = line_form("auto", slave, {"pid": 7}, "clock.1", 0)
    assert form("stdout", "tick") == "\x1b[36mclock.1 |\x1b[0m tick"
    for style, fd in (("json", slave), ("auto", os.open(os.devnull, os.O_WRONLY))):
        told = json.loads(
            line_form(style, fd, {"group": "clock", "pid": 7}, "clock.1", 0)("stderr", "é\n")
        )
        del told["time"]
        assert told == {
            "level": "info",
            "group": "clock",
            "pid": 7,
            "message": "é\n",
            "stream": "stderr",
        }
    os.close(fd)
    os.close(master)
    os.close(slave)


def filled(fd: int) -> None:
    """Write to a descriptor until it takes no more."""
    os.set_blocking(fd, False)
    for size in (1000, 1):
        with contextlib.suppress(BlockingIOError):
            while os.write(fd, b"-" * size):
                pass
    os.set_blocking(fd, True)


def pipe() -> tuple[int, int]:
    return os.pipe()


def pair() -> tuple[int, int]:
    one, two = socket.socketpair()
    return one.detach(), two.detach()


@pytest.mark.parametrize("make", [pipe, pair])
def test_a_log_that_takes_nothing_is_not_waited_for(make: object) -> None:
    """Writing to it would block for ever: others share it, so that we may not make it otherwise."""
    read, write = make()  # type: ignore[operator]
    filled(write)
    changes: list[bool] = []
    outlet = Outlet(write, lambda: changes.append(bool(outlet.pending)))
    outlet.put("kept")
    assert os.get_blocking(write)
    assert changes == [True]
    outlet.give_up()
    for _ in range(5):
        outlet.put("dropped")
    assert outlet.lost == 5
    while select.select([read], [], [], 0)[0]:
        os.read(read, 65536)
    outlet.resume()
    assert changes == [True, True, False]
    outlet.put("heard")
    assert os.read(read, 65536) == b"kept\n5 lines of output are missing here\nheard\n"
    os.close(read)
    outlet.put("into the void")  # nobody reads it any more: no signal, no error
    outlet.close()
    os.close(write)


def test_a_stuck_log_holds_the_program_back_and_then_lets_it_go() -> None:
    """Nothing is read while the log is stuck, so that memory stays small; then lines are lost."""
    read, write = os.pipe()
    filled(write)
    turns = Turns()
    outlet = Outlet(write)
    output = Output(turns, outlet, lambda _, text: text, lambda _: None)
    theirs, other = output.open()
    os.write(theirs, b"one\n")
    turns.turn()
    assert outlet.pending == b"one\n"
    output.read_on(False)
    os.write(theirs, b"two\n")
    turns.at("nothing", 0, lambda: None)
    turns.turn()
    assert list(output.last) == ["one"]
    outlet.give_up()
    output.read_on(True)
    turns.turn()
    assert list(output.last) == ["one", "two"]
    assert outlet.lost == 1
    output.close()
    outlet.close()
    for fd in (theirs, other, read, write):
        os.close(fd)


def test_a_flood_is_passed_on_whole_and_orders_are_heard_in_it(tmp_path: Path) -> None:
    flood = settings("/bin/sh", "-c", "yes flood", place=tmp_path)
    with keeping(tmp_path, flood) as zygote:
        keeper = zygote.keeper().ready()
        zygote.until_logged("flood")
        rss = int(Path(f"/proc/{keeper.pid}/statm").read_text().split()[1]) * 4096
        assert rss < 64 * 1024 * 1024
        keeper.drain()
        lines = zygote.lines()
        assert {json.loads(line)["message"] for line in lines} == {"flood"}


def test_last_words_without_an_end_of_line_are_kept(tmp_path: Path) -> None:
    code = "import sys; sys.stdout.write('out'); sys.stderr.write('err'); sys.exit(1)"
    with keeping(tmp_path, settings(code, place=tmp_path, ready_after=60.0)) as zygote:
        *_, failed = zygote.keeper().rest()
        assert isinstance(failed, Failed)
        assert sorted(failed.traceback.splitlines()) == ["err", "out"]
        told = [json.loads(line) for line in zygote.lines()]
        assert sorted((one["stream"], one["message"]) for one in told) == [
            ("stderr", "err"),
            ("stdout", "out"),
        ]


def test_a_log_that_nobody_reads_does_not_stop_the_program(tmp_path: Path) -> None:
    read, write = os.pipe()
    filled(write)
    code = "for n in range(20000): print('line', n)\nprint('last', file=open('done', 'w'))"
    config = settings(code, place=tmp_path, ready_after=60.0)
    with keeping(tmp_path, config, log_fd=write) as zygote:
        *_, failed = zygote.keeper().rest()
        assert isinstance(failed, Failed)
        assert failed.traceback.splitlines()[-1] == "line 19999"
        assert (tmp_path / "done").read_text() == "last\n"
    os.close(read)
    os.close(write)
