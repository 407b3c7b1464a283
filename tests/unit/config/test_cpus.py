"""How many workers auto means: affinity cut down by the quota of any cgroup around us."""

from pathlib import Path

import pytest

from clusterd.config.cpus import available_cpus


def machine(root: Path, own: str, files: dict[str, str]) -> Path:
    """A root directory with /proc/self/cgroup and the given files under /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(own)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/gone/from/here\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/../../out\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", {"cpu.max": "rubbish"}, 8),
        ("0::/\n", {"cpu.max": "100000 0"}, 8),
        ("", {}, 8),
        (
            "4:cpu,cpuacct:/docker/1\n0::/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "250000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_the_tightest_quota_counts(
    own: str, files: dict[str, str], cpus: int, tmp_path: Path
) -> None:
    assert available_cpus(machine(tmp_path, own, files), affinity=8) == cpus


def test_this_machine_has_at_least_one() -> None:
    assert available_cpus() >= 1
