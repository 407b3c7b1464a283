"""How much memory a worker may use for its clients where no setting says so."""

from pathlib import Path

import pytest

from clusterd.config.memory import LEAST, available_memory, memory_budget
from clusterd.config.resolve import load
from clusterd.core.units import GIB, MIB

MACHINE = {"proc/meminfo": "MemTotal:       16777216 kB\nMemFree: 1 kB\n"}
CGROUP = {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": str(2 * GIB)}


@pytest.mark.parametrize(
    ("files", "workers", "available", "budget"),
    [
        (MACHINE, 4, 16 * GIB, GIB),
        (MACHINE | CGROUP, 4, 2 * GIB, 128 * MIB),
        (CGROUP, 1, 2 * GIB, 512 * MIB),
        (MACHINE | CGROUP, 64, 2 * GIB, LEAST),
        ({}, 2, 0, LEAST),
        ({"proc/meminfo": "rubbish\nMemTotal: much\n"}, 1, 0, LEAST),
    ],
)
def test_a_quarter_of_the_memory_is_for_clients(
    files: dict[str, str], workers: int, available: int, budget: int, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == available
    assert memory_budget(workers, tmp_path) == budget


def test_what_a_setting_says_counts_and_the_most_workers_share(tmp_path: Path) -> None:
    given = load({"app": "m:a", "memory_budget": "3MiB"}, {}, tmp_path)
    assert given.http.memory_budget == 3 * MIB
    own = load({"app": "m:a", "workers": "1", "max_workers": "2"}, {}, tmp_path)
    assert own.http.memory_budget == memory_budget(2)
