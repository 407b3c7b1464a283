"""What happens meanwhile: one line that is drawn over at a terminal, and nothing elsewhere.

Lines that stay (`say`, and one for each turn that ended) are shown at a terminal only, too: what a
run comes to is printed at its end, wherever that goes.
"""

import os
from collections.abc import Sequence
from typing import TextIO

from clusterd.bench import amounts
from clusterd.bench.figures import percentile
from clusterd.bench.histogram import Histogram
from clusterd.bench.interval import INTERVAL
from clusterd.bench.load import Load
from clusterd.bench.results import Moment, Turn
from clusterd.bench.rows import told
from clusterd.core.terminal import clean

BLOCKS = "▁▂▃▄▅▆▇█"
TREND = 16  # intervals that are drawn
CLEAR = "\r\x1b[K"
WIDTH = 80  # where the terminal does not tell


class Progress:
    """Follows the turns of a run. `turns` is how many there will be; 0: not known."""

    def __init__(self, stream: TextIO, turns: int = 0, *, width: int = 0) -> None:
        self._stream, self._turns = stream, turns
        self._shown = stream.isatty()
        self._width = width
        self._done = 0
        self._what = ""
        self._load = Load()
        self._speeds: list[float] = []
        self._failed = 0

    def begin(self, side: str, round_: int, load: Load) -> None:
        """A turn begins: it is being started, or connects."""
        self._what, self._load = f"round {round_}  {clean(side)}", load
        self._speeds, self._failed = [], 0
        self._draw(f"{self._head()}  starts …")

    def seen(self, moment: Moment) -> None:
        """An interval is over."""
        self._speeds.append(moment.in_time / INTERVAL)
        self._failed += sum(moment.errors.values())
        if self._shown:
            self._draw(self._line(moment))

    def end(self, turn: Turn) -> None:
        """A turn is over: one line that stays."""
        head = self._head()
        self._done += 1
        parts = [amounts.rate(turn.throughput)]
        if turn.latency.count:
            p50, p99 = (told(percentile(p, turn.latency)) for p in (50.0, 99.0))
            parts += [f"p50 {p50}", f"p99 {p99}"]
        if turn.failed:
            parts.append(f"{amounts.count(turn.failed)} failed")
        doubts = f"  ({amounts.plural(len(turn.doubts), 'doubt')})" if turn.doubts else ""
        self.say(f"{head}  {'  '.join(parts)}{doubts}")

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._shown:
            self._write(f"{CLEAR}{self._cut(clean(line))}\n")

    def close(self) -> None:
        """Nothing is drawn over any more."""
        if self._shown:
            self._write(CLEAR)

    def _head(self) -> str:
        number = f"[{self._number()}] " if self._turns else ""
        load = f"  {amounts.rate(self._load.rate)}" if self._load.rate else ""
        return f"{number}{self._what}{load}  {self._load.connections}c"

    def _number(self) -> str:
        wide = len(str(self._turns))
        return f"{min(self._done + 1, self._turns):{wide}}/{self._turns}"

    def _line(self, moment: Moment) -> str:
        left = max(0.0, self._load.duration - len(self._speeds) * INTERVAL)
        parts = [self._head(), trend(self._speeds[-TREND:]), amounts.rate(self._speeds[-1])]
        if moment.latency.count:
            parts.append(f"p99 {_p99(moment.latency)}")
        if self._failed:
            parts.append(f"{amounts.count(self._failed)} failed")
        parts.append(f"{left:.0f} s left")
        return "  ".join(parts)

    def _draw(self, line: str) -> None:
        if self._shown:
            self._write(CLEAR + self._cut(line))

    def _cut(self, line: str) -> str:
        """No wider than the terminal: a line that wraps could not be drawn over."""
        return line[: max(1, (self._width or _columns(self._stream)) - 1)]

    def _write(self, text: str) -> None:
        """A terminal that is gone must not end the measurement."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._shown = False


def trend(speeds: Sequence[float]) -> str:
    """The last intervals as little bars, from 0 on."""
    most = max(speeds, default=0.0) or 1.0
    return "".join(BLOCKS[round(speed / most * (len(BLOCKS) - 1))] for speed in speeds)


def _p99(latency: Histogram) -> str:
    return amounts.latency(latency.percentile(99))


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH
