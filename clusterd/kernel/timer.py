"""A timer of the kernel's that signals one thread, whatever that thread is doing.

timer_create(2) has no wrapper in the standard library, hence ctypes. The functions are libc's
since glibc 2.34, and librt's before; musl has them in libc.

CLOCK_MONOTONIC stands still while the machine sleeps, but goes on while the process is stopped or
its cgroup is frozen: the signal is then delivered together with the thaw. Who judges must look
whether the thread has gone on since.
"""

import ctypes
import functools
import os
import threading
import time

_SIGEV_THREAD_ID = 4  # <linux/signal.h>, as the next
_SIGEV_SIZE = 64


class _SigEvent(ctypes.Structure):
    """sigevent(3type), which is the same on 64-bit x86 and Arm: the value is a pointer's size."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),  # sigev_notify_thread_id, the first of the union
        ("_rest", ctypes.c_char * (_SIGEV_SIZE - ctypes.sizeof(ctypes.c_void_p) - 12)),
    )


class _TimeSpec(ctypes.Structure):
    """timespec(3type)."""

    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    """itimerspec(3type)."""

    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


def _library() -> ctypes.PyDLL:
    """Called without letting go of the interpreter: to get that back may take longer."""
    libc = ctypes.PyDLL(None, use_errno=True)
    return libc if hasattr(libc, "timer_create") else ctypes.PyDLL("librt.so.1", use_errno=True)


class Timer:
    """Signals the thread that made it once, `seconds` after it was last armed.

    A child that is forked does not have it. Raises OSError where the kernel has no timers left
    (RLIMIT_SIGPENDING).
    """

    def __init__(self, number: int) -> None:
        self._lib = _library()
        event = _SigEvent(None, number, _SIGEV_THREAD_ID, threading.get_native_id())
        self._id = ctypes.c_void_p()
        self._check(
            self._lib.timer_create(
                time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._id)
            )
        )
        self._spec = _TimerSpec()
        # What is done at each beat is one call with what is there already.
        self._wind_up = functools.partial(
            self._lib.timer_settime, self._id, 0, ctypes.byref(self._spec), None
        )

    def arm(self, seconds: float) -> None:
        """Start anew; 0 means never."""
        value = self._spec.value
        value.seconds = int(seconds)
        value.nanoseconds = int(seconds % 1 * 1e9)
        self._check(self._wind_up())

    def again(self) -> None:
        """Start anew, with the time that it was armed with last."""
        self._wind_up()

    def disarm(self) -> None:
        """Do not signal."""
        self.arm(0)

    def close(self) -> None:
        """Give it back to the kernel."""
        self._lib.timer_delete(self._id)

    @staticmethod
    def _check(result: int) -> None:
        if result != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
