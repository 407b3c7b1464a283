"""The live line: at a terminal only, never wider than it, and never in the way."""

import io

from clusterd.bench.load import Load
from clusterd.bench.progress import CLEAR, Progress, trend
from tests.support import reports


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


class Gone(Terminal):
    """A terminal that was closed."""

    def write(self, text: str, /) -> int:
        raise OSError(5, "Input/output error")


def driven(stream: io.StringIO, turns: int = 2, width: int = 200) -> Progress:
    """A turn from beginning to end."""
    progress = Progress(stream, turns, width=width)
    turn = reports.turn(load=Load(duration=3.0), errors=[(3, "reset", 7)])
    progress.begin("1 worker", 1, turn.load)
    for moment in turn.moments:
        progress.seen(moment)
    turn.doubts.append("noise")
    progress.end(turn)
    return progress


def test_elsewhere_it_is_silent() -> None:
    stream = io.StringIO()
    driven(stream).say("a line")
    assert stream.getvalue() == ""


def test_a_terminal_sees_each_interval_and_keeps_each_turn() -> None:
    stream = Terminal()
    driven(stream).close()
    drawn = stream.getvalue().split(CLEAR)
    assert len(drawn) == 1 + 1 + 12 + 1 + 1
    assert drawn[1] == "[1/2] round 1  1 worker  64c  starts …"
    assert drawn[6].startswith("[1/2] round 1  1 worker  64c  ▅▆███  1")
    assert drawn[6].endswith("  7 failed  2 s left")
    assert drawn[14].startswith("[1/2] round 1  1 worker  64c  10,839/s  p50 4.03 ms")
    assert drawn[14].endswith("  7 failed  (1 doubt)\n")


def test_the_rate_that_is_asked_is_shown() -> None:
    stream = Terminal()
    Progress(stream, width=80).begin("uvicorn\x1b[2J", 2, Load(rate=500.0, connections=8))
    assert stream.getvalue() == f"{CLEAR}round 2  uvicorn\\x1b[2J  500/s  8c  starts …"


def test_no_line_wraps() -> None:
    stream = Terminal()
    driven(stream, width=40)
    lines = stream.getvalue().replace("\n", "").split(CLEAR)
    assert max(map(len, lines)) == 39


def test_a_terminal_that_is_gone_does_not_end_the_measurement() -> None:
    driven(Gone()).close()


def test_a_trend_is_drawn_from_nothing_up() -> None:
    assert trend([0, 50, 100]) == "▁▅█"
    assert trend([0, 0]) == "▁▁"
    assert trend([]) == ""
