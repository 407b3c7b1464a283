"""Bodies that wait for their app: in memory, on disk, and still coming."""

from pathlib import Path

import pytest

from clusterd.app.spool import BUFFER, MEMORY, NoRoomOnDiskError, Spool
from tests.support.spools import Client, Room, count_files_without_name, fill_disk

PIECE = bytes(range(256)) * 256


def spool_of(data: bytes = b"", room: Room | None = None) -> Spool:
    return Spool(data, room or Room(), Client())


def fill(spool: Spool, size: int) -> None:
    """Write so many bytes in pieces."""
    for at in range(0, size, len(PIECE)):
        spool.write(PIECE[: size - at])


@pytest.mark.parametrize(("size", "on_disk"), [(0, 0), (MEMORY, 0), (MEMORY + 1, 1)])
def test_what_is_large_goes_to_disk(size: int, on_disk: int) -> None:
    before = count_files_without_name()
    spool = spool_of()
    fill(spool, size)
    assert spool.size == size
    assert count_files_without_name() - before == on_disk
    file = spool.take()
    data = file.read()
    assert data == (PIECE * (size // len(PIECE) + 1))[:size]
    spool.close()
    assert file.closed
    assert count_files_without_name() == before


@pytest.mark.parametrize("in_memory", [False, True])
def test_each_byte_counts_as_memory_or_as_disk(in_memory: bool) -> None:
    """On tmpfs a file would take memory, and is not made."""
    before = count_files_without_name()
    room = Room(in_memory=in_memory)
    spool = spool_of(b"x", room)
    assert (spool.in_memory, room.held) == (1, 0)
    fill(spool, 2 * MEMORY)
    size = 2 * MEMORY + 1
    assert (spool.in_memory, room.held) == ((size, 0) if in_memory else (BUFFER, size))
    assert count_files_without_name() - before == (0 if in_memory else 1)
    assert spool.take().read() == b"x" + PIECE * 32
    assert room.asked == 1
    spool.close()
    assert room.held == 0


def test_nothing_is_written_that_the_budget_has_no_room_for() -> None:
    before = count_files_without_name()
    room = Room(2 * MEMORY)
    spool = spool_of(room=room)
    fill(spool, 2 * MEMORY)
    with pytest.raises(NoRoomOnDiskError):
        spool.write(b"x")
    assert room.held == 2 * MEMORY
    spool.close()
    assert room.held == 0
    with pytest.raises(NoRoomOnDiskError):
        fill(spool := spool_of(room=Room(MEMORY)), 2 * MEMORY)
    spool.close()
    assert count_files_without_name() == before


def test_a_full_disk_is_noticed_and_its_file_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = count_files_without_name()
    fill_disk(monkeypatch, tmp_path, 2 * MEMORY)
    room = Room()
    spool = spool_of(room=room)
    with pytest.raises(OSError, match="No space left"):
        fill(spool, 3 * MEMORY)
    spool.close()
    assert room.held == 0
    assert count_files_without_name() == before


def test_a_disk_that_is_full_only_for_the_last_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are in the buffer, so that the app would be the first to see it."""
    before = count_files_without_name()
    fill_disk(monkeypatch, tmp_path, 2 * MEMORY)
    spool = spool_of()
    fill(spool, 2 * MEMORY)
    spool.write(b"x")
    with pytest.raises(OSError, match="No space left"):
        spool.flush()
    spool.close()
    assert count_files_without_name() == before


def test_what_is_still_coming_follows() -> None:
    coming: list[bytes | bytearray] = [b"three\nfo", bytearray(b"ur\n"), b"five", b"", b"", b""]
    spool = spool_of(b"one\n")
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
    file = spool_of().take(lambda: coming.pop(0))
    assert file.read(10) == b"x" * 10
    assert len(file.read()) == 299_990


def test_what_ends_the_request_is_raised() -> None:
    def more() -> bytes:
        raise ConnectionResetError

    file = spool_of(b"abc").take(more)
    assert file.read(3) == b"abc"
    with pytest.raises(ConnectionResetError):
        file.read(1)
