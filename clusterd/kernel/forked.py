"""What a child that the application forks must not keep of our process.

Such a child is a copy: it has our signal handlers, our listening sockets, our channel to the master
and every client's connection. As long as it lives the port would be taken, clients would see no end
of their connections, and SIGTERM would run a handler that belongs to a worker. So every process of
ours says here what is its own, and a hook of `os.fork` takes that away in the child, at once.
Children that are started by exec lose it in any case: our descriptors are close-on-exec, and exec
resets handlers.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

_handlers: dict[int, Handler] = {}  # ours, by signal number
_descriptors: list[Callable[[], Iterable[int]]] = []
_callbacks: list[Callable[[], object]] = []
_state = {"registered": False}
# Of each thread. `is_ours`: it forks for us; `blocked`: the signals that it had blocked before.
_thread = threading.local()


def handle(number: int, handler: Handler) -> None:
    """Install a signal handler that forked children of the application do not keep."""
    signal.signal(number, handler)
    _handlers[number] = handler
    _register()


def disown(descriptors: Callable[[], Iterable[int]]) -> None:
    """Have forked children lose the descriptors that this function returns in the child."""
    _descriptors.append(descriptors)
    _register()


def in_child(callback: Callable[[], object]) -> None:
    """Have this called in forked children of the application."""
    _callbacks.append(callback)
    _register()


def forget() -> None:
    """Drop what our parent registered, but for handlers: its descriptors are not ours."""
    _descriptors.clear()
    _callbacks.clear()


@contextlib.contextmanager
def fork_of_ours() -> Iterator[None]:
    """Mark the forks within as our own: the child keeps everything."""
    _thread.is_ours = True
    try:
        yield
    finally:
        _thread.is_ours = False


def _is_ours() -> bool:
    return getattr(_thread, "is_ours", False)


def _register() -> None:
    if not _state["registered"]:
        _state["registered"] = True
        os.register_at_fork(
            before=_hold_signals, after_in_parent=_release_signals, after_in_child=_leave_ours
        )


def _hold_signals() -> None:
    """Block what we handle: a signal that comes to the child before it has other handlers would
    be lost, as `Process.terminate` right after `Process.start` (seen). It waits instead."""
    if not _is_ours():
        _thread.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _handlers)


def _release_signals() -> None:
    if not _is_ours():
        signal.pthread_sigmask(signal.SIG_SETMASK, _thread.blocked)


def _leave_ours() -> None:
    """Run in the child. What one step raises must not cost the others."""
    if _is_ours():
        return
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)  # else a signal for the child would wake the parent's loop
    _reset_signals()
    numbers: list[int] = []
    for ask in _descriptors:
        with contextlib.suppress(Exception):
            numbers += ask()
    _replace(sorted({number for number in numbers if number >= 0}))
    for callback in _callbacks:
        with contextlib.suppress(Exception):
            callback()
    # A child of this child must not lose descriptors of its own that have these numbers by then.
    _handlers.clear()
    forget()
    _release_signals()


def _reset_signals() -> None:
    """Give our handlers back to Python's defaults; the application's own handlers stay."""
    for number, handler in _handlers.items():
        if signal.getsignal(number) is handler:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # libuv's, which Python does not know of


def _replace(numbers: Iterable[int]) -> None:
    """Put /dev/null in the place of these descriptors.

    They are not closed: objects of the parent, which the child has as copies, may close their
    number at any time, and by then it would be another file's.
    """
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # out of descriptors, or no /dev: then closing must do
        for number in numbers:
            with contextlib.suppress(OSError):
                os.close(number)
        return
    for number in numbers:
        with contextlib.suppress(OSError):
            os.dup2(null, number, inheritable=False)
    os.close(null)
