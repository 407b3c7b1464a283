"""Log queues: their listeners are threads, which are started again in each forked worker.

`logging.handlers.QueueHandler` puts records into a queue, and a `QueueListener` takes them out in
a thread of its own. Litestar has one by default, so that no application of its would be imported
once.
"""

import queue
import threading
from logging.handlers import QueueListener
from typing import Any


def listening() -> dict[int, QueueListener]:
    """Return the listeners that run and can be started again, by their thread's number."""
    found = {}
    for thread in threading.enumerate():
        listener = getattr(getattr(thread, "_target", None), "__self__", None)
        if not isinstance(listener, QueueListener) or thread.native_id is None:
            continue
        if isinstance(listener.queue, queue.Queue):  # another kind's state is not known
            found[thread.native_id] = listener
    return found


def start_again(listener: QueueListener) -> None:
    """Start a listener in a forked child, where its thread does not exist.

    Its queue begins anew: the parent's thread handles what was in it, and may have held its lock
    at the fork. A condition would also wake a thread that is gone instead of the new one.
    """
    records: Any = listener.queue
    records.mutex = threading.Lock()
    records.not_empty = threading.Condition(records.mutex)
    records.not_full = threading.Condition(records.mutex)
    records.all_tasks_done = threading.Condition(records.mutex)
    records.queue.clear()
    records.unfinished_tasks = 0
    listener._thread = None  # type: ignore[attr-defined,unused-ignore]  # else 3.14 refuses
    listener.start()
