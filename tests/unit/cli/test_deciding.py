"""What is decided at a start and at a reload: addresses that systemd passed, trusted files."""

import os
from pathlib import Path

import pytest

from clusterd.cli.deciding import ACTIVATED, decide
from clusterd.config.kinds import MAIN
from clusterd.core.errors import ConfigError

superuser = pytest.mark.skipif(os.geteuid() != 0, reason="others have no rights to lose")
PASSED = ("fd:web", "fd:admin")
US = f"{os.geteuid()}:{os.getegid()}"
OTHER = f'[group.other]\napp = "shop:other"\nbind = ["fd:admin,tls=off"]\nuser = "{US}"\n'


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
    given = {"app": "shop:app", "user": US, ACTIVATED: PASSED, **given}
    assert decide(given, tmp_path)[MAIN].listen.bind == binds


def test_after_an_upgrade_the_sockets_have_the_same_names(tmp_path: Path) -> None:
    """What was given is carried on as JSON, which has lists for tuples."""
    given = {"app": "shop:app", "user": US, ACTIVATED: list(PASSED)}
    assert decide(given, tmp_path)[MAIN].listen.bind == PASSED


@superuser
def test_settings_that_workers_could_write_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "clusterd.toml"
    file.write_text('user = "nobody"\n')
    assert decide({"app": "shop:app"}, tmp_path)[MAIN].limits.user == "nobody"
    tmp_path.chmod(0o757)
    with pytest.raises(ConfigError) as caught:
        decide({"app": "shop:app"}, tmp_path)
    assert caught.value.message.startswith(
        f"root reads settings, and everybody may write to {tmp_path} (owner root, "
    )
    assert caught.value.remedy.startswith(f"chmod o-w {tmp_path}; or start with --insecure-paths")
    assert decide({"app": "shop:app", "insecure_paths": True}, tmp_path)
    assert decide({"app": "shop:app", "user": "root"}, tmp_path)  # nothing that could be gained


@superuser
def test_a_procfile_is_settings_as_well(tmp_path: Path) -> None:
    """Its groups run as the user of the cluster, which may be another than that of the workers."""
    file = tmp_path / "Procfile"
    file.write_text("clock: sleep 1000\n")
    given = {"app": "shop:app", "user": "nobody", "procfile": str(file)}
    assert "clock" in decide(given, tmp_path)
    os.chown(file, 54321, 0)
    with pytest.raises(ConfigError, match=r"Procfile \(owner 54321, group root, mode 644\)"):
        decide(given, tmp_path)


@superuser
def test_without_a_file_there_is_nothing_to_judge(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert decide({"app": "shop:app", "user": "nobody"}, tmp_path)
