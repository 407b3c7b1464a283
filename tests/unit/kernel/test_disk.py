"""What a file lies on, as the kernel says it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from clusterd.kernel.disk import free_space, is_in_memory


@pytest.mark.parametrize("place", ["/dev/shm", "/proc/self", "", "/"])
def test_memory_and_disk_are_told_apart(place: str, tmp_path: Path) -> None:
    """Ask `stat -f` as well, which has a list of its own."""
    path = place or str(tmp_path)
    kind = subprocess.check_output(["stat", "-f", "-c", "%T", path], text=True).strip()
    fd = os.open(path, os.O_RDONLY)
    try:
        assert is_in_memory(fd) == (kind in ("tmpfs", "ramfs")), kind
    finally:
        os.close(fd)


def test_a_memfd_lies_in_memory_and_what_is_not_known_on_disk() -> None:
    fd = os.memfd_create("x")
    assert is_in_memory(fd)
    os.close(fd)
    assert not is_in_memory(fd)


def test_free_space_is_what_an_ordinary_user_may_write(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1000):  # others write to the disk meanwhile
            before = shutil.disk_usage(tmp_path).free
            found = free_space(fd)
            if shutil.disk_usage(tmp_path).free == before:
                break
        assert found == before
    finally:
        os.close(fd)
