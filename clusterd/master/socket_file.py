"""The file of a Unix socket and the lock beside it: locked, cleared of what is stale, permitted.

The lock's holder owns the path. In the lock stands which socket file is the holder's, so that a
successor knows what a killed master has left: its own file it may replace, even while workers of
that master still drain. Any other program's socket is asked whether it lives.
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator

from clusterd.config.address import LONGEST_PATH, Unix
from clusterd.core.errors import BindError, ConfigError
from clusterd.kernel import own_files, privileges

RECORD = 64  # bytes at most of what stands in a lock: two numbers


@contextlib.contextmanager
def pinned(path: str) -> Iterator[str]:
    """A name of the file that is at this path now, and of no other meanwhile. Raises OSError.

    Who may write to its directory could put a link to a file of ours there, just before we, as
    the superuser, change the mode of what we have made (open(2): O_PATH; proc(5): /proc/PID/fd).
    """
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, "it is a link", path)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def touch(lock: int) -> int:
    """Return the time of now, in ns, by the clock of the file system that the lock lies in."""
    os.utime(lock)
    return os.fstat(lock).st_mtime_ns


def inode_of(name: str, since: int = 0) -> int:
    """Return the inode of a socket file that was just made. Raises OSError where it was replaced.

    `name` pins it. `since`: a time before it was made. A user who may write to the directory could
    rename another socket of ours, which this user may not connect to, to the path.
    """
    about = os.stat(name)
    is_new = not since or (about.st_uid == os.geteuid() and about.st_mtime_ns >= since)
    if not stat.S_ISSOCK(about.st_mode) or about.st_nlink != 1 or not is_new:
        raise OSError(errno.EBUSY, "it was replaced while it was made")
    return about.st_ino


def owners_of(address: Unix) -> tuple[int, int]:
    """Return the numbers of the owner and the group that a socket is to have, or LEFT for each.
    Raises ConfigError."""
    return privileges.owners(address.owner, address.group, str(address))


def permit(name: str, address: Unix, owners: tuple[int, int]) -> None:
    """Give a socket file that we made its owner, group and mode. Raises OSError or BindError.

    `name` pins it. With a second name it might be another socket of root's, put there by a user who
    may write to the directory.
    """
    inode_of(name)
    if owners != (privileges.LEFT, privileges.LEFT):
        try:
            os.chown(name, *owners)
        except PermissionError:
            raise BindError(
                f"{address} cannot be bound: its owner or group may not be set",
                "only root may set any; others may set a group that they are in",
            ) from None
    os.chmod(name, address.mode)


def lock_path(path: str) -> int:
    """Lock the file beside a socket's path: who holds it owns the path. Raises BindError.

    Opened and locked in a loop, since the one who held it removes it when it leaves.
    """
    name = f"{path}.lock"
    if len(path.encode()) > LONGEST_PATH:
        raise ConfigError(f"{path} is too long for a Unix socket: at most {LONGEST_PATH} bytes")
    try:
        while True:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | own_files.SAFELY, 0o600)
            try:
                _refuse(name, lock)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(name).st_ino == os.fstat(lock).st_ino:
                        return lock
            except BlockingIOError:
                os.close(lock)
                raise BindError(
                    f"{path} is in use: another process holds {name}",
                    "stop it, or choose another path (or --name for a second cluster)",
                ) from None
            except (OSError, BindError):
                os.close(lock)
                raise
            os.close(lock)
    except OSError as error:
        raise BindError(f"{path} cannot be used: {error.strerror}: {name}") from error


def _refuse(name: str, lock: int) -> None:
    """Raise BindError where a lock is another user's, who could hold it for ever."""
    if reason := own_files.judge(os.fstat(lock), name):
        raise BindError(
            f"{name} cannot be used as a lock: {reason}",
            "remove it, or choose another path in a directory of your own",
        )


def unlock_path(path: str, lock: int) -> None:
    """Remove the lock file while we hold it, and let go."""
    with contextlib.suppress(OSError):
        os.unlink(f"{path}.lock")
    os.close(lock)


def record(name: str, lock: int) -> int:
    """Write into the lock which socket file is ours; return its inode. Raises OSError."""
    about = os.stat(name)
    os.ftruncate(lock, 0)
    os.pwrite(lock, _mark(about), 0)
    return about.st_ino


def _mark(about: os.stat_result) -> bytes:
    """Tell one socket file from all others: a file system may give an inode again at once."""
    return b"%d %d\n" % (about.st_ino, about.st_mtime_ns)


def remove_stale(path: str, lock: int) -> None:
    """Remove a socket file that nobody owns (we hold its lock). Anything else is left alone.

    Raises BindError where another program listens there: it may know nothing of our locks.
    """
    try:
        about = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(about.st_mode):
        raise BindError(f"{path} exists and is no socket", "remove it, or choose another path")
    is_our_own = os.pread(lock, RECORD, 0) == _mark(about)
    if (is_our_own or not is_alive(path)) and _remove(path, about):
        return
    raise BindError(
        f"{path} is in use: another program listens there",
        "stop that program, or choose another path",
    )


def _remove(path: str, about: os.stat_result) -> bool:
    """Remove a socket file; return False, and leave it, where another has taken its place.

    Another program may have removed it and bound the path since it was judged. No system call
    removes a name on the condition that it is a certain file's, so the file is renamed first: what
    has another name then is judged again, and nothing else can come in its place there.
    """
    aside = f"{path}.lock.stale"
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return True  # that program has only removed it so far
    if _mark(os.lstat(aside)) == _mark(about):
        os.unlink(aside)
        return True
    os.rename(aside, path)
    return False


def is_alive(path: str) -> bool:
    """Return whether a process has a Unix socket open, or may have. Never waits."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # its queue is full, it is another kind of socket, or not for us to ask
    return True
