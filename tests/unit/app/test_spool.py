"""Bodies that wait for their app: in memory, on disk, and still coming."""

import os

import pytest

from clusterd.app.spool import MEMORY, Spool


def files_on_disk() -> int:
    """Open files without a name, of this process."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += "(deleted)" in os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass  # the listing's own
    return found


@pytest.mark.parametrize(("size", "on_disk"), [(0, 0), (MEMORY, 0), (MEMORY + 1, 1)])
def test_what_is_large_goes_to_disk(size: int, on_disk: int) -> None:
    before = files_on_disk()
    spool = Spool(b"")
    piece = bytes(range(256)) * 256
    for at in range(0, size, len(piece)):
        spool.write(piece[: size - at])
    assert spool.size == size
    assert files_on_disk() - before == on_disk
    file = spool.take()
    data = file.read()
    assert data == (piece * (size // len(piece) + 1))[:size]
    file.close()
    del spool, file
    assert files_on_disk() == before


def test_what_is_still_coming_follows() -> None:
    coming: list[bytes | bytearray] = [b"three\nfo", bytearray(b"ur\n"), b"five", b"", b"", b""]
    spool = Spool(b"one\n")
    spool.write(b"two\n")
    file = spool.take(lambda: coming.pop(0))
    assert file.read(2) == b"on"
    assert file.readline() == b"e\n"
    assert file.readline() == b"two\n"
    assert len(coming) == 6  # nothing is waited for before it is wanted
    assert list(file) == [b"three\n", b"four\n", b"five"]
    assert file.read() == b""


def test_a_piece_larger_than_what_is_asked_for() -> None:
    coming = [b"x" * 300_000, b""]
    file = Spool(b"").take(lambda: coming.pop(0))
    assert file.read(10) == b"x" * 10
    assert len(file.read()) == 299_990


def test_what_ends_the_request_is_raised() -> None:
    def more() -> bytes:
        raise ConnectionResetError

    file = Spool(b"abc").take(more)
    assert file.read(3) == b"abc"
    with pytest.raises(ConnectionResetError):
        file.read(1)
