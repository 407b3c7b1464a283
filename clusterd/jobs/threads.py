"""The threads that plain functions run in: started when none is free, and used again."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Threads:
    """Runs functions in threads.

    They are daemons, which `concurrent.futures` has not: it waits for its threads where a process
    exits, so a job that was handed back would keep its worker from leaving, and run on meanwhile.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._calls = queue.SimpleQueue()
        self._free = threading.Semaphore(0)
        self._started = 0

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Run a function. The caller limits how many run at once."""
        future: Future[Any] = Future()
        self._calls.put((future, call))
        if not self._free.acquire(blocking=False):
            self._started += 1
            name = f"job {self._started}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Let the threads end after what they run."""
        for _ in range(self._started):
            self._calls.put(None)

    def _serve(self) -> None:
        while (task := self._calls.get()) is not None:
            _run(*task)
            del task  # or this thread would keep a job's arguments while it waits
            self._free.release()


def _run(future: "Future[Any]", call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
