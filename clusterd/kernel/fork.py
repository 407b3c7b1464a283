"""The one way to fork: signals wait until the child has let go of its parent's bell.

The wake-up descriptor is inherited: without this a signal for the *child* would appear in the
*parent's* pipe, as if the parent had received it.
"""

import contextlib
import errno
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import NoReturn

from clusterd.core.exits import Exit
from clusterd.kernel.forked import fork_of_ours
from clusterd.kernel.process import set_parent_death_signal

_ORPHANED = signal.SIGUSR1  # blocked while it is used, so that its disposition does not matter
# Seconds to wait for the intermediate's exit. It exits at once, and a master that takes in the
# newborn only as its own child gives up before that (`Patience.spawn`).
_PATIENCE = 20.0


def fork_into(body: Callable[[], int]) -> int:
    """Fork; the child runs `body`, exits with what it returns and never comes back here."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        # From Python 3.12 on os.fork() warns of threads, naming its caller; with warnings as
        # errors it raises in the parent after the fork, and the child's pid is lost. Which threads
        # the application has is reported elsewhere. The filters are back before the child goes on.
        with fork_of_ours(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _become_child(body, blocked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return pid


def try_fork(body: Callable[[], int]) -> int:
    """Fork, wait, and return what `body` returned; 0 where the application takes in the end of
    children itself, by a handler of SIGCHLD or by ignoring it."""
    pid = fork_into(body)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


def _become_child(body: Callable[[], int], mask: set[int | signal.Signals]) -> NoReturn:
    code: int = Exit.BUG
    try:
        signal.set_wakeup_fd(-1)
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGQUIT):
            signal.signal(sig, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = body()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        flush_streams()
        os._exit(code)


def flush_streams() -> None:
    """Write what standard output and error hold back; a fork would copy it."""
    for stream in (sys.stdout, sys.stderr):
        # It is closed, None, a pipe that nobody reads, or an object of the application's.
        with contextlib.suppress(Exception):
            stream.flush()


def fork_orphan(body: Callable[[], int]) -> None:
    """Double-fork, so that the nearest subreaper adopts the child. Raises OSError from fork.

    `body` runs once the child's parent is its adopter: a newborn often runs before its
    intermediate parent is gone, and would be known under the wrong parent. It asks the kernel
    for a signal at that parent's death and looks at getppid() after having asked: either the
    signal comes or the parent has changed already (PR_SET_PDEATHSIG, prctl(2)).
    """

    def intermediate() -> int:
        mine = os.getpid()

        def newborn() -> int:
            _await_adoption(mine)
            return body()

        try:
            fork_into(newborn)
        except OSError as error:
            return error.errno or errno.EAGAIN
        return 0

    status = os.waitstatus_to_exitcode(os.waitpid(fork_into(intermediate), 0)[1])
    if status != 0:
        code = status if status > 0 else errno.EAGAIN
        raise OSError(code, os.strerror(code))


def _await_adoption(intermediate: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {_ORPHANED})
    set_parent_death_signal(_ORPHANED)
    deadline = time.monotonic() + _PATIENCE  # somebody else may send us the same signal
    while os.getppid() == intermediate and (left := deadline - time.monotonic()) > 0:
        signal.sigtimedwait({_ORPHANED}, left)
    set_parent_death_signal(0)
    signal.sigtimedwait({_ORPHANED}, 0)  # it may have come between the question and now
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {_ORPHANED})


@contextlib.contextmanager
def ending_children(on_end: Callable[[int], None]) -> Iterator[None]:
    """End a child that the block forked and that comes out of the block, as its parent does.

    The child would go on as the parent, whose descriptors it has. It ends as a program would: with
    the status of a SystemExit, else with an error's. `on_end` is called first, with its pid.
    """
    parent, code = os.getpid(), int(Exit.BUG)
    try:
        yield
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    finally:
        if (pid := os.getpid()) != parent:
            with contextlib.suppress(Exception):
                on_end(pid)
            flush_streams()
            os._exit(code)
