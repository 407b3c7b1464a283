"""The master's writer: its flags are its own, where that can be had."""

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.kernel import own_files
from clusterd.kernel.nonblocking import NonBlockingWriter, open_masters


@pytest.fixture
def log(tmp_path: Path) -> Iterator[int]:
    """A log that is opened to append, as workers have it."""
    (tmp_path / "log").write_text("before\n")
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND)
    yield fd
    os.close(fd)


def overwrite(fd: int) -> None:
    """Have whatever is written to this description replace what is at the beginning."""
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.lseek(fd, 0, os.SEEK_SET)


def test_flags_that_a_worker_changes_are_not_the_masters(log: int, tmp_path: Path) -> None:
    writer = open_masters(log)
    overwrite(log)
    writer.write(b"a line\n")
    assert (tmp_path / "log").read_text() == "before\na line\n"
    own = writer.fileno()
    assert own != log
    writer.close()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(own)


def test_a_worker_opens_no_file_anew(log: int) -> None:
    """An application that closes every descriptor keeps standard error, and with it the log."""
    assert NonBlockingWriter(log).fileno() == log


def test_a_position_that_is_shared_is_written_at(tmp_path: Path) -> None:
    """As after `2> log`, where workers write with the same descriptor."""
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    writer = open_masters(fd)
    writer.write(b"a")
    os.write(fd, b"b")
    writer.write(b"c")
    assert (tmp_path / "log").read_bytes() == b"abc"
    os.close(fd)


def test_a_file_that_cannot_be_opened_anew_is_written_to_as_it_is(log: int, tmp_path: Path) -> None:
    """It is another user's, say, who has passed it on."""
    (tmp_path / "log").chmod(0o400)
    pid = os.fork()
    if pid == 0:
        shares = False
        try:
            if os.geteuid() == 0:
                os.seteuid(54321)
            writer = open_masters(log)
            writer.write(b"a line\n")
            shares = writer.fileno() == log
        finally:
            os._exit(not shares)
    assert os.waitpid(pid, 0)[1] == 0
    assert (tmp_path / "log").read_text() == "before\na line\n"


def test_flags_are_set_again_before_a_successor_takes_them_for_ours(
    log: int, tmp_path: Path
) -> None:
    overwrite(log)
    own_files.set_flags_again(log)
    writer = open_masters(log)
    overwrite(log)
    writer.write(b"a line\n")
    assert (tmp_path / "log").read_text() == "before\na line\n"
    writer.close()
