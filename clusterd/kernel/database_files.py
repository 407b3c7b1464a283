"""The files of an embedded database: make them for us alone, and know what lies where they lie."""

import contextlib
import os

from clusterd.kernel.disk import file_system

FILE_MODE = 0o600  # jobs hold what users sent
DIRECTORY_MODE = 0o700
FUSE = "FUSE"
# f_type of statfs(2), from <linux/magic.h>. On network file systems the shared memory that SQLite's
# write-ahead log needs is not shared between machines, and their locks are often none.
_FILE_SYSTEMS = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x01021997: "9P",
    0x5346414F: "AFS",
    0x73757245: "Coda",
    0x00C36400: "Ceph",
    0x65735546: FUSE,
}


def create(path: str) -> None:
    """Make the file and its directory where they do not exist. Raises OSError.

    A file that exists is not opened: to close any descriptor of it drops the locks that SQLite
    holds on it in this process (fcntl(2)).
    """
    with contextlib.suppress(FileExistsError):
        os.makedirs(os.path.dirname(path), DIRECTORY_MODE)
    _create_file(path)


def _create_file(path: str) -> None:
    """Make a file where there is none. Raises OSError.

    One that the superuser makes, by a command on a store that no worker has opened yet, belongs to
    the directory's owner: workers of that user could not open it otherwise. SQLite gives the
    database's owner to the files that it makes beside it, in the same way.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        return
    try:
        if os.geteuid() == 0:
            directory = os.stat(os.path.dirname(path))
            os.fchown(fd, directory.st_uid, directory.st_gid)
    finally:
        os.close(fd)


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells a file from another at the same path; None for no file."""
    try:
        about = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_dev, about.st_ino


def touch(path: str) -> None:
    """Set the times of a file to now; make it where it does not exist. Raises OSError."""
    try:
        os.utime(path)
    except FileNotFoundError:
        _create_file(path)


def shared_file_system(path: str) -> str:
    """Return the name of the network file system, or FUSE, that a path is on; else ''."""
    return name_of(file_system(path))


def name_of(magic: int) -> str:
    """Return the name of a file system where it is a network's or FUSE; else ''.

    f_type is signed on some machines, so only its lower 32 bits count.
    """
    return _FILE_SYSTEMS.get(magic & 0xFFFFFFFF, "")
