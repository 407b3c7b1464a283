"""What `clusterd top` hears of the cluster: a thread asks, so that keys are never waited for."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from clusterd.core.errors import ClusterdError
from clusterd.ipc.client import Client
from clusterd.kernel import usage
from clusterd.observe.keys import Order
from clusterd.observe.snapshot import Snapshot

WEIGH = 3.0  # seconds between two looks at the memory: each costs the kernel a walk of its pages


class News(NamedTuple):
    """Something that was heard; only one of its fields is set."""

    shot: Snapshot | None = None
    memory: dict[int, int] | None = None  # PSS in bytes by pid
    trouble: str = ""  # the cluster cannot be reached
    said: str = ""  # the answer to an order
    dumps: list[dict[str, Any]] | None = None


class Feed(threading.Thread):
    """Looks at the cluster every `interval` seconds, and passes orders on. A daemon."""

    def __init__(self, find: Callable[[], Client], interval: float) -> None:
        super().__init__(daemon=True)
        self._find = find
        self._interval = interval
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._weighed = 0.0
        self.news: queue.SimpleQueue[News] = queue.SimpleQueue()

    def order(self, order: Order) -> None:
        """Have something asked of the cluster; the answer is news."""
        self._orders.put(order)

    def run(self) -> None:
        while True:
            self._look()
            try:
                order = self._orders.get(timeout=self._interval)
            except queue.Empty:
                continue
            self._obey(order)

    def _look(self) -> None:
        try:
            shot = Snapshot.of(self._find().ask("status", detail=True))
        except (ClusterdError, OSError, TypeError) as error:
            self.news.put(News(trouble=f"looking again: {str(error).splitlines()[0]}"))
            return
        self.news.put(News(shot=shot))
        if time.monotonic() - self._weighed >= WEIGH:
            found = {worker.pid: pss(worker.pid) for worker in shot.workers}
            self.news.put(News(memory={pid: size for pid, size in found.items() if size}))
            self._weighed = time.monotonic()

    def _obey(self, order: Order) -> None:
        try:
            reply = self._find().ask(order.command, **order.args)
        except (ClusterdError, OSError) as error:
            self.news.put(News(said=str(error).splitlines()[0]))
            return
        if order.command == "dump":
            self.news.put(News(dumps=list(reply.get("dumps", ()))))
        else:
            self.news.put(News(said=answered(order, reply)))


def answered(order: Order, reply: dict[str, Any]) -> str:
    """What an order came to, in a few words."""
    if order.command == "scale":
        return f"{reply.get('size', '?')} workers wanted"
    if reply.get("queued"):
        return f"generation {reply.get('generation')} follows the rollout under way"
    if "generation" in reply:
        return f"{order.command} to generation {reply['generation']} has begun"
    return f"{order.command}: done"


def pss(pid: int) -> int:
    """Bytes of memory with the share of what others share too; 0 where it cannot be known."""
    try:
        return usage.of(pid).pss
    except OSError:
        return 0  # it is gone, or another user's
