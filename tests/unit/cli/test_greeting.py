"""What a terminal is told before the application is imported."""

from pathlib import Path

import pytest

from clusterd.cli.run import greet
from clusterd.config import internal
from clusterd.config.resolve import load_groups


def test_groups_without_an_address_name_none_and_ours_are_not_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"HOME": str(tmp_path)}
    groups = load_groups({"app": "shop:app", "jobs": "shop:jobs", "workers": 1}, environ, tmp_path)
    main = next(iter(groups.values()))
    greet(groups | internal.groups(main, groups, environ))
    said = capsys.readouterr().err
    assert said.partition(": ")[2] == (
        "importing shop:app for 1 worker on 127.0.0.1:8000; importing shop:jobs for 1 worker; "
        "Ctrl-C stops\n"
    )
