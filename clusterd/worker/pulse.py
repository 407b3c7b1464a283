"""The worker's pulse: once a second, heartbeat, loop lag and counters go to its scoreboard row."""

import asyncio
import time
from collections.abc import Callable

from clusterd.ipc.scoreboard import Cell
from clusterd.kernel.faulty import pace
from clusterd.kernel.schedule import Meter

PERIOD = 1.0  # seconds; a beat costs some 20 µs, so an idle worker stays under 10 ms a minute


class Pulse:
    """Beats from the loop itself, never from a thread: a blocked loop must look blocked."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        row: memoryview,
        clock: Callable[[], float] = time.monotonic,
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter or Meter()
        self._waited = 0.0  # seconds for a CPU, until the last beat
        self.publish: Callable[[], None] | None = None  # the server's, once there is one
        self.every: list[Callable[[float], None]] = []  # called at each beat with the time
        self._loop = loop
        self._row = row
        self._clock = clock
        self.period = PERIOD / pace()  # seconds
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._due = self._clock()
        self._beat()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def waited(self) -> float:
        """Return for how many seconds since the last beat we have waited for a CPU."""
        return max(0.0, self._meter.waited() - self._waited)

    def _beat(self) -> None:
        now = self._clock()
        row = self._row
        row[Cell.LOOP_LAG] = max(0, int((now - self._due) * 1e6))
        row[Cell.HEARTBEAT] = int(now * 1e6)
        row[Cell.CPU] = int(time.process_time() * 1e6)
        self._waited = self._meter.waited()
        row[Cell.WAITED] = int(self._waited * 1e6) + 1
        self._due = now + self.period
        self._timer = self._loop.call_later(self.period, self._beat)  # first: the rest may fail
        if self.publish is not None:
            self.publish()
        for look in self.every:
            try:
                look(now)
            except Exception as error:  # it costs no other its beat
                text = "a look at the worker's vitals failed: this is a bug in clusterd"
                self._loop.call_exception_handler({"message": text, "exception": error})
