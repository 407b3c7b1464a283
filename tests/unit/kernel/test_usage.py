"""Memory of processes, as the kernel tells it."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterd.kernel import usage

ROLLUP = """\
562405e22000-7ffe56724000 ---p 00000000 00:00 0                          [rollup]
Rss:                1688 kB
Pss:                 337 kB
Pss_Dirty:           112 kB
Shared_Clean:       1512 kB
Private_Clean:        64 kB
Private_Dirty:       112 kB
Swap:                  0 kB
"""


def test_reads_the_sums_that_the_kernel_keeps(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "smaps_rollup").write_text(ROLLUP)
    assert usage.of(7, tmp_path) == usage.Usage(176 * 1024, 337 * 1024, 1688 * 1024)


def test_memory_that_is_ours_alone_counts() -> None:
    before = usage.of()
    size = 32 << 20
    with mmap.mmap(-1, size) as block:
        block.write(b"x" * size)
        after = usage.of(os.getpid())
    assert 0.9 * size <= after.uss - before.uss < 1.1 * size, "but for what the test itself frees"
    assert after.uss <= after.pss <= after.rss


def test_who_is_gone_has_none() -> None:
    with pytest.raises(OSError, match="No such file"):
        usage.of(2**22 + 1)


def test_who_has_ended_and_is_not_reaped_has_none() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            usage.of(child.pid)


def test_a_tree_is_a_process_and_all_that_it_has_started(tmp_path: Path) -> None:
    for pid, children in ((7, "8 9 "), (8, ""), (9, "10 11 "), (10, "")):  # 11 is gone already
        (tmp_path / f"{pid}/task/{pid}").mkdir(parents=True)
        (tmp_path / f"{pid}/task/{pid}/children").write_text(children)
        (tmp_path / f"{pid}/smaps_rollup").write_text(ROLLUP)
    assert usage.tree(7, tmp_path).uss == 4 * 176 * 1024


def test_without_the_process_there_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        usage.tree(7, tmp_path)
