"""What a worker can tell of itself while its loop still turns: it is busy, or it is stalled.

Each detector is asked at every beat and answers for how long it has been so, 0 for not at all.
What that means is said by `core.vitals`.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Protocol

from clusterd.app.exchange import WAITING
from clusterd.kernel import threads

SHARE = 0.3  # of a CPU that other threads must use to be worth a closer look
# By how much the beat is late, at least, when a thread holds the interpreter: part of the time
# after which it is asked to let go.
LATE = 0.4 * sys.getswitchinterval()  # seconds
# Where a thread waits for its next job: frames of these files at its bottom say nothing.
MACHINERY = (
    "/threading.py",
    "/concurrent/futures/thread.py",
    "/anyio/_backends/_asyncio.py",
    "/worker/threads.py",
)


class Waiting(Protocol):
    """An exchange, as far as `Stalled` looks at it."""

    @property
    def began(self) -> float: ...
    @property
    def complete(self) -> bool: ...
    @property
    def stage(self) -> int: ...


class Stalled:
    """The loop turns, and no request gets on: pools whose threads wait for each other, say.

    So long as any answer is completed, nothing is stalled. Streams and WebSockets, whose answer
    has begun, and requests whose body is still coming, do not count; nor does a single request,
    which may just take its time: two must have waited all along.
    """

    def __init__(self) -> None:
        self._answers = -1
        self._since = 0.0

    def look(self, now: float, answers: int, running: Iterable[Waiting]) -> float:
        """Seconds for which nothing was answered and two requests waited. `running`: oldest
        first.
        """
        if answers != self._answers:
            self._answers, self._since = answers, now
            return 0.0
        seen = 0
        for exchange in running:
            if exchange.stage == WAITING and exchange.complete:
                seen += 1
                if seen == 2:
                    return max(0.0, now - max(self._since, exchange.began))
        return 0.0


def others() -> list[threading.Thread]:
    """The threads beside the loop's."""
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if thread is not main]


class Busy:
    """The loop turns, but a thread in one long call takes the interpreter whenever it can.

    The signs: other threads use a good part of a CPU, the beat comes late by about the time
    after which CPython makes a thread let go (`sys.getswitchinterval`), and the CPU time is that
    of threads that have not left their call since the last beat. A pool under load has the first
    two as well; but its threads turn to another job.
    """

    def __init__(
        self,
        spent: Callable[[], float] = time.process_time,
        own: Callable[[], float] = time.thread_time,
        ran: Callable[[int], float] = threads.ran,
    ) -> None:
        self.culprit = ""  # the name of the thread
        self._spent, self._own, self._ran = spent, own, ran
        self._now, self._others = 0.0, 0.0
        self._since = 0.0
        self._misses = 0
        self._calls: dict[int, tuple[float, list[FrameType]]] = {}  # as they were, by thread

    @property
    def is_suspected(self) -> bool:
        """Whether to ask at the next beat, however that comes."""
        return bool(self._calls)

    def look(self, now: float, late: float) -> float:
        """Seconds for which it has been so; `late`: by how much the beat is.

        To be called at beats that are late by `LATE`, and while `is_suspected`.
        """
        elapsed, self._now = now - self._now, now
        before, self._others = self._others, self._spent() - self._own()
        share = (self._others - before) / elapsed if elapsed > 0 else 0.0
        if share < SHARE or late < LATE:
            return self._well(now)
        if not self._in_one_call((self._others - before) / 2):
            return self._well(now, forget=False)
        self._misses = 0
        self._since = self._since or now - elapsed
        return now - self._since

    def _well(self, now: float, forget: bool = True) -> float:
        """One beat that comes in time is chance; two are not."""
        self._misses += 1
        if forget and self._misses > 1:
            self._calls.clear()
        if self._misses > 1 or not self._since:
            self._since = 0.0
            return 0.0
        return now - self._since

    def _in_one_call(self, enough: float) -> bool:
        """Whether threads that are still in their call of the last beat used so many seconds."""
        before, self._calls = self._calls, {}
        frames = sys._current_frames()
        used, most = 0.0, 0.0
        for thread in others():
            ident, native = thread.ident, thread.native_id
            if ident not in frames or native is None:
                continue
            ran, calls = self._ran(native), call_chain(frames[ident])
            self._calls[native] = ran, calls
            was = before.get(native)
            if was is not None and is_same_call(was[1], calls):
                used += ran - was[0]
                if ran - was[0] > most:
                    most, self.culprit = ran - was[0], thread.name
        return used > 0 and used >= enough


def call_chain(frame: FrameType | None) -> list[FrameType]:
    """The frames of a stack, outermost first, without a pool's own at the bottom."""
    chain = []
    while frame is not None:
        chain.append(frame)
        frame = frame.f_back
    chain.reverse()
    at = 0
    while at < len(chain) and chain[at].f_code.co_filename.endswith(MACHINERY):
        at += 1
    return chain[at : at + 1]


def is_same_call(before: list[FrameType], now: list[FrameType]) -> bool:
    """Whether the outermost frame is the very same: kept meanwhile, so no other has its place."""
    return bool(before and now) and before[0] is now[0]
