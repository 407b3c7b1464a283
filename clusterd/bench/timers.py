"""What is to happen at a time: the only thing in a generator that is not caused by the peer."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Call = Callable[[], None]
NEVER = 1 << 63


class Timers:
    """Calls by the time they are due, in ns. `next` is the earliest, for who waits."""

    __slots__ = ("_heap", "_serial", "next")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Call]] = []
        self._serial = count()  # those of the same time keep their order
        self.next = NEVER

    def later(self, when: int, call: Call) -> None:
        """Call it at that time, or soon after."""
        heappush(self._heap, (when, next(self._serial), call))
        self.next = self._heap[0][0]

    def run(self, now: int) -> None:
        """Those that are due by now; what they add is for the next time."""
        due: list[Call] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heappop(self._heap)[2])
        self.next = self._heap[0][0] if self._heap else NEVER
        for call in due:
            call()
