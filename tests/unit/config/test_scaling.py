"""The bounds of autoscaling, and where a group begins in them."""

from pathlib import Path
from typing import Any

import pytest

from clusterd.config.resolve import load, load_groups
from clusterd.core.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "workers", "origin"),
    [
        ({"workers": "9"}, 9, "--workers"),  # without max_workers nothing is bounded
        ({"workers": "9", "max_workers": "4"}, 4, "--workers (within 1 to 4)"),
        ({"workers": "1", "min_workers": "2", "max_workers": "4"}, 2, "--workers (within 2 to 4)"),
        ({"workers": "3", "min_workers": "2", "max_workers": "4"}, 3, "--workers"),
        ({"workers": "3", "min_workers": "9"}, 3, "--workers"),
    ],
)
def test_a_group_begins_within_its_bounds(
    tmp_path: Path, given: dict[str, Any], workers: int, origin: str
) -> None:
    config = load(given, {}, tmp_path)
    assert (config.fleet.workers, config.origins["workers"]) == (workers, origin)


def test_bounds_that_leave_no_room_are_refused(tmp_path: Path) -> None:
    given = {"min_workers": "5", "max_workers": "4"}
    with pytest.raises(ConfigError, match="min_workers is 5, more than max_workers, 4"):
        load(given, {}, tmp_path)


def test_a_command_has_no_load_to_go_by(tmp_path: Path) -> None:
    (tmp_path / "clusterd.toml").write_text(
        "[web]\napp = 'a:b'\n[group.jobs]\ncommand = 'work'\nmax_workers = 4\n"
    )
    with pytest.raises(ConfigError, match="a command does not say"):
        load_groups({}, {}, tmp_path)


def test_bounds_at_the_top_are_not_for_every_group(tmp_path: Path) -> None:
    """Or a file with a command in it could have none there."""
    (tmp_path / "clusterd.toml").write_text(
        "max_workers = 4\napp = 'a:b'\n[group.jobs]\ncommand = 'work'\n"
    )
    groups = load_groups({}, {}, tmp_path)
    assert [groups[name].fleet.max_workers for name in ("web", "jobs")] == [4, 0]
