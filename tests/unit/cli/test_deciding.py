"""What is listened on where systemd passed sockets and nobody said what to bind."""

from pathlib import Path

import pytest

from clusterd.cli.deciding import ACTIVATED, decide
from clusterd.config.kinds import MAIN

PASSED = ("fd:web", "fd:admin")
OTHER = '[group.other]\napp = "shop:other"\nbind = ["fd:admin,tls=off"]\nuser = "root"\n'


@pytest.mark.parametrize(
    ("file", "given", "binds"),
    [
        ("", {}, PASSED),
        ("", {"bind": (":80",)}, ("0.0.0.0:80",)),
        ('bind = ":80"\n', {}, ("0.0.0.0:80",)),
        (OTHER, {}, ("fd:web",)),
    ],
    ids=["nobody", "command-line", "file", "another-group"],
)
def test_the_main_group_gets_what_nobody_names(
    tmp_path: Path, file: str, given: dict[str, object], binds: tuple[str, ...]
) -> None:
    (tmp_path / "clusterd.toml").write_text(file)
    given = {"app": "shop:app", "user": "root", ACTIVATED: PASSED, **given}
    assert decide(given, tmp_path)[MAIN].listen.bind == binds


def test_after_an_upgrade_the_sockets_have_the_same_names(tmp_path: Path) -> None:
    """What was given is carried on as JSON, which has lists for tuples."""
    given = {"app": "shop:app", "user": "root", ACTIVATED: list(PASSED)}
    assert decide(given, tmp_path)[MAIN].listen.bind == PASSED
