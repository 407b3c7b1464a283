"""Reading what a process has open."""

import os
from pathlib import Path

from clusterd.kernel import resources


def test_a_descriptor_that_cannot_be_asked_as_a_socket_leaves_no_copy(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        before = os.listdir("/proc/self/fd")
        assert resources._socket(file.fileno()) is None
        assert len(os.listdir("/proc/self/fd")) == len(before)
