"""The pulse: heartbeat, lag and counters, once a second, from the loop itself."""

from collections.abc import Callable

from clusterd.ipc.scoreboard import Cell, Scoreboard
from clusterd.worker.pulse import PERIOD, Pulse


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """One timer, and a clock that moves when it goes off."""

    def __init__(self) -> None:
        self.now = 50.0
        self.delay = 0.0
        self.timer = FakeTimer(lambda: None)

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        self.delay = delay
        self.timer = FakeTimer(callback)
        return self.timer

    def go_off(self, late: float = 0.0) -> None:
        self.now += self.delay + late
        self.timer.callback()


def test_beats_at_once_and_every_second(board: Scoreboard) -> None:
    loop, row = FakeLoop(), board.row(0)
    pulse = Pulse(loop, row, loop.time)  # type: ignore[arg-type]  # as much of one as it needs
    published: list[float] = []
    pulse.publish = lambda: published.append(loop.now)
    looked: list[float] = []
    pulse.every.append(looked.append)

    pulse.start()
    assert row[Cell.HEARTBEAT] == 50_000_000
    loop.go_off()
    assert row[Cell.HEARTBEAT] == 51_000_000
    assert row[Cell.LOOP_LAG] == 0
    assert published == looked == [50.0, 51.0]
    assert row[Cell.CPU] > 0


def test_a_late_beat_tells_by_how_much(board: Scoreboard) -> None:
    loop, row = FakeLoop(), board.row(0)
    pulse = Pulse(loop, row, loop.time)  # type: ignore[arg-type]
    pulse.start()

    loop.go_off(late=0.25)
    assert row[Cell.LOOP_LAG] == 250_000
    assert loop.delay == PERIOD
    loop.go_off()
    assert row[Cell.LOOP_LAG] == 0


def test_stopped_it_does_not_wake_again(board: Scoreboard) -> None:
    loop = FakeLoop()
    pulse = Pulse(loop, board.row(0), loop.time)  # type: ignore[arg-type]
    pulse.start()

    pulse.stop()
    assert loop.timer.cancelled
