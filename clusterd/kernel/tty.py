"""The terminal that a cluster was started at: applications write to it, and do nothing else there.

A process that has it as its controlling terminal can push input into it (TIOCSTI, tty_ioctl(2)),
which the shell reads as if it had been typed, and gets the signals of its keys. Any process can
read from it that has a descriptor for reading, as standard output and error are under a shell.
"""

import contextlib
import fcntl
import os
import termios

TERMINAL = "/dev/tty"  # the controlling one, tty(4)


def leave() -> None:
    """Give up the controlling terminal, our process group and standard input; nothing where there
    is no such terminal.

    The session stays: by that is known which processes have left the cluster on purpose. Whoever
    has no controlling terminal and leads no session gets none by opening one.
    """
    try:
        terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)  # Ctrl-C is for the group of the master
    try:
        fcntl.ioctl(terminal, termios.TIOCNOTTY)
    finally:
        os.close(terminal)
    if os.isatty(0):
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.close(null)
    write_only()


def write_only() -> None:
    """Have standard output and error open for writing alone, where they are a terminal of ours."""
    for fd in (1, 2):
        if not os.isatty(fd):
            continue
        with contextlib.suppress(OSError):  # another user's
            flags = os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC
            other = os.open(f"/proc/self/fd/{fd}", flags)
            os.dup2(other, fd)
            os.close(other)
