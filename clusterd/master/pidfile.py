"""The file that tells our pid to whoever wants it by that way."""

import contextlib
import os
from pathlib import Path

from clusterd.core.errors import ConfigError
from clusterd.kernel import own_files

LONGEST = 32  # bytes that are read: more than any number and its end of line


def write(path: str) -> None:
    """Put our pid there, in one step. Raises ConfigError: another clusterd that runs is named
    there, what is there is no file of ours, or it cannot be written. What a killed master left is
    overwritten."""
    _refuse(path)
    other = read(path)
    if other not in (0, os.getpid()) and _is_ours(other):
        raise ConfigError(
            f"pid_file: {path} is of the clusterd that runs as process {other}",
            "stop that one, or name another file",
        )
    fresh = f"{path}.{os.getpid()}"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)  # and never written through: it may be a link, and we root
        with Path(fresh).open("x") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(fresh, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise ConfigError(f"pid_file: {path} cannot be written: {error.strerror}") from None


def _refuse(path: str) -> None:
    """Raise ConfigError where what is at the path is not a file that we may replace."""
    with contextlib.suppress(OSError):  # nothing is there, or it turns out when it is written
        if reason := own_files.fault(path):
            raise ConfigError(
                f"pid_file: {path} cannot be written: {reason}", "remove it, or name another file"
            )


def read(path: str) -> int:
    """Return the pid that is written there, or 0. Never waits."""
    try:
        return int(own_files.read(path, LONGEST))
    except (OSError, ValueError):
        return 0


def remove(path: str) -> None:
    """Take it away, unless it has become another's."""
    if read(path) == os.getpid():
        with contextlib.suppress(OSError):
            os.unlink(path)


def _is_ours(pid: int) -> bool:
    """A pid is given again: what it was then may be anything now."""
    try:
        return b"clusterd" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
