"""Run the application's exit handlers, within a time.

A worker ends by `os._exit`: an ordinary exit would wait for every thread that the application left
running, for ever if one of them hangs. So what an ordinary exit runs is run here: first what
`threading._register_atexit` holds, with which concurrent.futures ends its threads and processes,
then `atexit`, with which telemetry libraries send what they still hold and `logging` closes its
handlers. That is the interpreter's own order.

Handlers run in the main thread, since many expect to. Another thread watches the time meanwhile.
"""

import atexit
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import process as multiprocessing
from types import FrameType

from clusterd.core.log import get_logger
from clusterd.ipc.channel import Channel, Closed
from clusterd.ipc.messages import Drain, Quit

logger = get_logger("clusterd.worker")

AT_LEAST = 2.0  # s for exit handlers, also where draining took all of the graceful timeout


def run(seconds: float, channel: Channel, status: int, log: logging.Handler) -> None:
    """Run all exit handlers. After `seconds` end the process, with its exit status.

    The master may also say meanwhile that we are to leave at once, or sooner.
    """
    _forget_processes_of_the_parent()
    watch = Watch(seconds, channel, status, log)
    threading.Thread(target=watch.run, name="exit handlers", daemon=True).start()
    try:
        _run_all()
    finally:
        watch.over = True


def _run_all() -> None:
    # Private to CPython, the same from 3.9 to 3.14; functools.partial objects.
    for callback in reversed(getattr(threading, "_threading_atexits", [])):
        try:
            callback()
        except BaseException:
            logger.exception("an exit handler of the application failed")
    try:
        atexit._run_exitfuncs()  # each that fails is told on standard error, and costs no other
    except BaseException:
        logger.exception("an exit handler of the application failed")


def _forget_processes_of_the_parent() -> None:
    """Processes that the import started belong to the zygote. multiprocessing's own exit handler
    would terminate them, since a worker has a copy of the list."""
    children: set[object] = getattr(multiprocessing, "_children", set())
    for child in list(children):
        if getattr(child, "_parent_pid", os.getpid()) != os.getpid():
            children.discard(child)


class Watch:
    """Ends the process when its time is over. Takes no lock that the main thread may hold."""

    def __init__(
        self,
        seconds: float,
        channel: Channel,
        status: int,
        log: logging.Handler,
        leave: Callable[[int], object] = os._exit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.over = False  # all handlers have run
        self._seconds = seconds
        self._channel = channel
        self._status = status
        self._log = log
        self._leave = leave
        self._clock = clock
        self._began = clock()
        self._deadline = self._began + seconds
        self._main = threading.main_thread().ident or 0

    def run(self) -> None:
        """Wait until time is over or the master says so."""
        poll = select.poll()
        number = self._channel.fileno()
        if number >= 0:
            poll.register(number, select.POLLIN)
        while (left := self._deadline - self._clock()) > 0 and not self.over:
            if poll.poll(left * 1000) and not self._hear():
                poll.unregister(number)
        if not self.over:
            self._tell()
            self._leave(self._status)

    def _hear(self) -> bool:
        """Take in one message of the master; False once none can come any more.

        The master is gone, or an exit handler has closed all descriptors.
        """
        try:
            received = self._channel.receive(block=False)
        except OSError:
            return False
        except Exception:
            return True
        if isinstance(received, Closed):
            return False
        if received is None:
            return True
        for fd in received[1]:
            os.close(fd)
        match received[0]:
            case Quit():
                self._leave(self._status)
            case Drain(within=within):
                sooner = self._clock() + max(AT_LEAST, within)
                self._deadline = min(self._deadline, sooner)
        return True

    def _tell(self) -> None:
        """Log which handler did not end: without `logging`, whose locks it may hold."""
        elapsed = self._clock() - self._began
        text = f"the exit handlers did not end within {elapsed:.1f} s, the worker leaves: "
        text += where(sys._current_frames().get(self._main))
        record = logger.makeRecord(logger.name, logging.WARNING, __file__, 0, text, (), None)
        try:
            os.write(getattr(self._log, "fd", 2), (self._log.format(record) + "\n").encode())
        except Exception:  # whatever it is, we are to leave
            return


def where(frame: FrameType | None) -> str:
    """Say where the main thread is: in the handler itself, and in the call that does not return."""
    chain: list[str] = []
    while frame is not None and frame.f_globals.get("__name__") != __name__:
        code = frame.f_code
        chain.append(f"{code.co_qualname} ({code.co_filename}:{frame.f_lineno})")
        frame = frame.f_back
    if not chain:
        return "no handler runs Python code"
    return chain[0] if len(chain) == 1 else f"{chain[-1]}, in {chain[0]}"
