"""Open the log and the pid file: by a path from the settings, by a master that may be root.

Another user may be able to write to the directory and may have put something else in the place of
the file. A link would lead the lines of the log into a file of root's. To open a FIFO or a leased
file waits for another process, and the master would not even hear SIGTERM meanwhile. To open a
device may set it in motion. So each of them is refused by lstat(2) before it is opened, and by
fstat(2) again afterwards, as it may have been replaced in between.
"""

import errno
import fcntl
import os
import pwd
import re
import stat
from collections.abc import Callable, Collection

MODE = 0o640  # the log may hold what users sent: not for everybody
ROOT = 0
TRIES = 3  # a file that appears and vanishes between two calls is replaced on purpose
OTHERS = 0o022  # mode bits: the group and everybody may write
SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
STREAMS = {"/dev/stdout": 1, "/dev/stderr": 2}
DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d{1,9})", re.ASCII)
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
}


def descriptor_of(path: str) -> int | None:
    """Return the number of the descriptor that a path names, or None for any other path.

    /dev/stdout, /dev/stderr, /dev/fd/N and /proc/self/fd/N are links. They are not opened: that
    would fail for a socket, and wait for a FIFO.
    """
    if path in STREAMS:
        return STREAMS[path]
    match = DESCRIPTOR.fullmatch(path)
    return int(match[1]) if match else None


def open_log(path: str, owners: Collection[int] = ()) -> int:
    """Return a descriptor that appends to the log. Raises OSError; never waits.

    `owners` are the users, beside root and ourselves, that the file may belong to: those that the
    workers run as, for a rotation may give it to them.
    """
    number = descriptor_of(path)
    if number is not None:
        return _inherited(number)
    flags = os.O_WRONLY | os.O_APPEND | SAFELY
    for _ in range(TRIES):
        try:
            return _open(path, flags, owners)
        except FileNotFoundError:
            try:
                return os.open(path, flags | os.O_CREAT | os.O_EXCL, MODE)
            except FileExistsError:
                continue
    raise OSError(errno.EBUSY, "it is made and removed all the time", path)


def set_flags_again(fd: int) -> None:
    """Have a log that we opened append again, and do nothing else: workers share its flags."""
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)


def read(path: str, size: int) -> bytes:
    """Return the first bytes of a file of root's or of ours. Raises OSError; never waits."""
    fd = _open(path, os.O_RDONLY | SAFELY, ())
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def fault(path: str, owners: Collection[int] = ()) -> str:
    """Return why what is at this path would not be opened, or ''. Raises OSError: nothing is."""
    return judge(os.lstat(path), path, owners)


def judge(about: os.stat_result, path: str, owners: Collection[int] = ()) -> str:
    """Return why a file may not be used as one of ours, or ''. Raises OSError."""
    kind = stat.S_IFMT(about.st_mode)
    if kind != stat.S_IFREG:
        return f"it is {KINDS.get(kind, 'something else')}, not a regular file"
    if about.st_uid not in {ROOT, os.geteuid(), *owners}:
        return f"it belongs to {_name(about.st_uid)}"
    if about.st_nlink > 1 and _others_may_write(os.path.dirname(path) or "."):
        # Another user may have made it, as a second name of a file of ours: link(2), and proc(5)
        # on fs.protected_hardlinks, which may be off.
        return f"it has {about.st_nlink} hard links, in a directory that others may write to"
    return ""


def _open(
    path: str,
    flags: int,
    owners: Collection[int],
    lstat: Callable[[str], os.stat_result] = os.lstat,
) -> int:
    _refuse(lstat(path), path, owners)
    fd = os.open(path, flags)
    try:
        opened = os.fstat(fd)
        _refuse(opened, path, owners)
        # A second name of root's file may have been removed again before fstat(2) counted its
        # names. One name, and that at this path, can be no other user's doing.
        now = lstat(path)
        if (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino):
            raise PermissionError(errno.EPERM, "it is being replaced", path)
        _refuse(now, path, owners)
    except OSError:
        os.close(fd)
        raise
    return fd


def _refuse(about: os.stat_result, path: str, owners: Collection[int]) -> None:
    if reason := judge(about, path, owners):
        raise PermissionError(errno.EPERM, reason, path)


def _others_may_write(directory: str) -> bool:
    about = os.stat(directory)
    return about.st_uid not in (ROOT, os.geteuid()) or bool(about.st_mode & OTHERS)


def _inherited(number: int) -> int:
    """Return a copy of a descriptor that we were started with. Raises OSError."""
    if number > 2 and fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
        # All that we opened ourselves is closed by exec (PEP 446).
        raise OSError(errno.EBADF, f"no descriptor {number} was passed to clusterd")
    if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, f"descriptor {number} is open for reading only")
    return number if number <= 2 else fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)


def _name(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
