"""Signals as a set, with a wake-up descriptor as the bell."""

import contextlib
import ctypes
import signal
import socket
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Self

# The signal that makes faulthandler write the stack of the running thread into the dump pipe.
# A real-time one, since applications use the named ones; above SIGRTMIN, which debuggers like.
FAULT_SIGNAL = signal.SIGRTMIN + 1
# The signal whose handler, in Python, tells all stacks; if Python runs at all in the main thread.
LOOK_SIGNAL = signal.SIGRTMIN + 2
_LIBC = ctypes.CDLL(None, use_errno=True)
_ROOM = 512  # bytes, more than a struct sigaction of any C library has


def c_handler(number: int) -> int:
    """Return the address of a signal's handler in C, which is Python's own for Python functions.

    `signal.getsignal` knows nothing of the handlers that libraries install, such as faulthandler.
    Source: sigaction(2), whose structure begins with the address in glibc and musl.
    """
    found = ctypes.create_string_buffer(_ROOM)
    if _LIBC.sigaction(number, None, found) != 0:
        return 0
    return int(ctypes.c_void_p.from_buffer(found).value or 0)


class Wakeup:
    """Signals, once each, in order of arrival. The descriptor rings; the handler remembers.

    A socketpair holds 278 one-byte writes (measured), so that in a storm a TERM's byte could be
    lost: its bytes are thrown away, and the handler's dict is what counts. signalfd would leak a
    blocked mask into everything that is started from here.
    """

    def __init__(self, signals: Iterable[signal.Signals]) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._signals = tuple(signals)
        self._pending: dict[signal.Signals, int] = {}
        self._old: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        self._old = {sig: signal.signal(sig, self._note) for sig in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        for sig, handler in self._old.items():
            signal.signal(sig, handler)  # type: ignore[arg-type]  # what signal.signal gave us
        signal.set_wakeup_fd(-1)
        self._read.close()
        self._write.close()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        sig = signal.Signals(number)
        self._pending[sig] = self._pending.get(sig, 0) + 1  # one store: safe to re-enter

    def recall(self, pending: Mapping[signal.Signals, int]) -> None:
        """Remember signals that were drained, and ring."""
        for sig, count in pending.items():
            self._pending[sig] = self._pending.get(sig, 0) + count
        if pending:
            with contextlib.suppress(BlockingIOError):  # full: then it rings already
                self._write.send(b"\0")

    def fileno(self) -> int:
        return self._read.fileno()

    def drain(self) -> dict[signal.Signals, int]:
        """Signals since the last call, each with how often it was seen (never more than sent)."""
        with contextlib.suppress(BlockingIOError):
            while self._read.recv(4096):
                pass  # silence the bell first, then look: the other order could miss one
        pending, self._pending = self._pending, {}
        return pending
