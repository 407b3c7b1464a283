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
        self._soon = threading.Event()  # to look before the interval is over
        self._weighed = 0.0
        self.news: queue.SimpleQueue[News] = queue.SimpleQueue()

    def order(self, order: Order) -> None:
        """Have something asked of the cluster; the answer is news. Some take their time."""
        threading.Thread(target=self._obey, args=(order,), daemon=True).start()

    def run(self) -> None:
        while True:
            self._look()
            self._soon.wait(self._interval)
            self._soon.clear()

    def _look(self) -> None:
        try:
            shot = Snapshot.of(self._find().ask("status", detail=True))
        except (ClusterdError, OSError, TypeError) as error:
            self.news.put(News(trouble=f"looking again: {str(error).splitlines()[0]}"))
            return
        self.news.put(News(shot=shot))
        if time.monotonic() - self._weighed >= WEIGH:
            self.news.put(News(memory=memory(shot)))
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
            self._soon.set()


def answered(order: Order, reply: dict[str, Any]) -> str:
    """What an order came to, in a few words."""
    if order.command == "scale":
        return f"{reply.get('size', '?')} workers wanted"
    if order.command == "restart":
        return f"slot {order.args['slot']} is served by process {reply.get('pid', '?')}"
    if reply.get("queued"):
        return f"generation {reply.get('generation')} follows the rollout under way"
    if "generation" in reply:
        return f"{order.command} to generation {reply['generation']} has begun"
    return f"{order.command}: done"


def memory(shot: Snapshot) -> dict[int, int]:
    """PSS of each worker in bytes, by pid; a program counts with its keeper."""
    found = {
        worker.pid: pss(worker.pid) + (pss(worker.program) if worker.program else 0)
        for worker in shot.workers
    }
    return {pid: size for pid, size in found.items() if size}


def pss(pid: int) -> int:
    """Bytes of memory with the share of what others share too; 0 where it cannot be known."""
    try:
        return usage.of(pid).pss
    except OSError:
        return 0  # it is gone, or another user's
