"""The closed loop: each connection asks again as soon as it is answered."""

from time import monotonic_ns

from clusterd.bench.connection import Connection
from clusterd.bench.loop import AT_ONCE, SECOND, Loop


class Closed(Loop):
    """Asks as fast as it is answered."""

    def freed(self, connection: Connection, now: int) -> None:
        """It is asked at once, unless the run has not begun."""
        if self.running:
            connection.ask(now, now)
        else:
            super().freed(connection, now)

    def _first(self, now: int) -> None:
        while self._idle:
            connection = self._idle.popleft()
            connection.idle = False
            connection.ask(now, now)

    def _run(self) -> None:
        poll, handlers, timers = self._epoll.poll, self._handlers, self._timers
        while self.running:
            wait = max(timers.next - monotonic_ns(), 0) / SECOND
            for fd, events in poll(wait, AT_ONCE):
                handlers[fd](events)
            now = monotonic_ns()
            if now >= timers.next:
                timers.run(now)
