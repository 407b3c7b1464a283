"""Where a worker is: stacks of its threads and tasks, from Python; from C when it is silent.

Three stages. A worker whose loop turns answers by itself, with everything. One that is silent gets
`LOOK_SIGNAL`, whose handler answers from wherever Python is. Where that does not run either, as in
C or at a lock, `FAULT_SIGNAL` follows, and faulthandler writes the stack of the interrupted thread
alone: dumping all threads of a *running* process crashed it after 11 to 5,000 dumps on 3.11-3.13
(measured), and even one that runs is not safe on all of them (`kernel.threads`).
"""

import asyncio
import collections
import faulthandler
import json
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any

from clusterd.ipc.channel import LIMIT
from clusterd.kernel.signals import FAULT_SIGNAL

ROOM = LIMIT - 1024  # bytes of JSON text that fit a packet, with its envelope
CUT = "\n… cut: the rest does not fit a message\n"


def register(fd: int) -> None:
    """From now on `FAULT_SIGNAL` writes the interrupted thread's stack into this descriptor."""
    faulthandler.register(FAULT_SIGNAL, file=fd, all_threads=False, chain=False)


def unregister() -> None:
    faulthandler.unregister(FAULT_SIGNAL)


def stacks(loop: asyncio.AbstractEventLoop, here: FrameType | None = None) -> str:
    """The main thread, the tasks (same stacks once, with their number), then other threads."""
    frames = sys._current_frames()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    mine = here if here is not None else frames.get(main or 0)
    parts = [f"thread MainThread\n{_show_frame(mine)}" if mine is not None else ""]
    parts += _tasks(loop)
    for ident, frame in frames.items():
        if ident != main:
            parts.append(f"thread {names.get(ident, ident)}\n{_show_frame(frame)}")
    return "\n".join(parts)


def fit(text: str, room: int = ROOM) -> str:
    """As much of the text as a message holds once it is JSON."""
    if len(json.dumps(text)) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if len(json.dumps(text[:middle] + CUT)) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low] + CUT


def fit_end(text: str, room: int = ROOM) -> str:
    """Return as much of the end of a text as a message holds: a traceback's last line names the
    error."""
    return (
        text
        if len(json.dumps(text)) <= room
        else CUT[1:] + fit(text[::-1], room)[: -len(CUT)][::-1]
    )


def _show_frame(frame: FrameType) -> str:
    return "".join(traceback.format_stack(frame))


def _tasks(loop: asyncio.AbstractEventLoop) -> Iterator[str]:
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for task in asyncio.all_tasks(loop):
        alike[_show_task(task)].append(task.get_name())
    for stack, names in sorted(alike.items(), key=lambda item: -len(item[1])):
        count = f"{len(names)} tasks, one of them" if len(names) > 1 else "task"
        yield f"{count} {names[0]}\n{stack}"


def _show_task(task: asyncio.Task[Any]) -> str:
    """The whole chain of awaits: `Task.get_stack` shows the outermost coroutine only."""
    lines = []
    waiting: Any = task.get_coro()
    while waiting is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(waiting, f"{kind}_frame", None)
            if frame is not None:
                lines += traceback.format_list(
                    traceback.StackSummary.extract([(frame, frame.f_lineno)])
                )
                follow = {"cr": "cr_await", "gi": "gi_yieldfrom", "ag": "ag_await"}[kind]
                waiting = getattr(waiting, follow, None)
                break
        else:
            lines.append(f"  waits for {type(waiting).__name__}\n")
            break
    return "".join(lines)
