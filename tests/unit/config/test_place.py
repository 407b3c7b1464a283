"""Where the control socket lies."""

import os
from pathlib import Path

import pytest

from clusterd.config import runtime_dir
from clusterd.config.place import control_path, identity
from clusterd.config.settings import PlaceSettings
from clusterd.core.errors import ConfigError

ME = os.geteuid()


@pytest.mark.parametrize(
    ("uid", "environ", "found"),
    [
        (0, {}, ["/run/clusterd", "/tmp/clusterd-0"]),
        (7, {}, ["/tmp/clusterd-7"]),
        (7, {"TMPDIR": "/scratch"}, ["/scratch/clusterd-7"]),
        (7, {"XDG_RUNTIME_DIR": "/run/user/7"}, ["/run/user/7/clusterd", "/tmp/clusterd-7"]),
        (
            0,
            {"XDG_RUNTIME_DIR": "/run/user/0"},
            ["/run/clusterd", "/run/user/0/clusterd", "/tmp/clusterd-0"],
        ),
        (
            7,
            {"RUNTIME_DIRECTORY": "/run/shop:/run/b", "XDG_RUNTIME_DIR": ""},
            ["/run/shop", "/tmp/clusterd-7"],
        ),
    ],
)
def test_systemds_then_the_systems_then_the_sessions_then_a_temporary_one(
    uid: int, environ: dict[str, str], found: list[str]
) -> None:
    assert runtime_dir.candidates(environ, uid) == found


def test_commands_also_look_where_another_terminal_may_have_started_a_cluster() -> None:
    found = runtime_dir.searched({"TMPDIR": "/scratch"}, 7)
    assert found == ["/scratch/clusterd-7", "/run/user/7/clusterd", "/tmp/clusterd-7"]


def test_the_first_directory_that_can_be_used_is_taken(tmp_path: Path) -> None:
    session, more = tmp_path / "session", tmp_path / "tmp"
    more.mkdir()
    environ = {"XDG_RUNTIME_DIR": str(session), "TMPDIR": str(more)}
    if ME == 0:
        environ["RUNTIME_DIRECTORY"] = str(tmp_path / "none/none")  # or it would be /run/clusterd
        assert runtime_dir.fault(environ["RUNTIME_DIRECTORY"], environ, ME)
    own = str(more / f"clusterd-{ME}")
    assert runtime_dir.fault(str(session / "clusterd"), environ, ME) == f"there is no {session}"
    assert runtime_dir.fault(own, environ, ME) == ""
    session.mkdir()
    assert runtime_dir.fault(str(session / "clusterd"), environ, ME) == ""
    if ME:
        assert runtime_dir.find(environ, ME) == str(session / "clusterd")


def test_a_directory_that_another_user_may_have_laid_out_is_not_used(tmp_path: Path) -> None:
    """A link, a file, one that others may write to, one of another user."""
    real, link, file = tmp_path / "real", tmp_path / "link", tmp_path / "file"
    real.mkdir(mode=0o700)
    link.symlink_to(real)
    file.touch()
    assert runtime_dir.fault(str(real), {}, ME) == ""
    assert runtime_dir.fault(str(link), {}, ME) == "it is a link"
    assert runtime_dir.fault(str(file), {}, ME) == "it is not a directory"
    assert runtime_dir.fault(str(real), {}, ME + 1) == f"it belongs to user {ME}"
    real.chmod(0o777)
    assert runtime_dir.fault(str(real), {}, ME) == "its mode 777 lets others write to it"
    (real / "clusterd.sock").touch()
    environ = {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    (tmp_path / "clusterd").symlink_to(real)
    (tmp_path / f"clusterd-{ME}").symlink_to(real)
    found = runtime_dir.running("", "", environ, ME)
    assert not [path for path in found if path.startswith(str(tmp_path))], "nor by commands"


def test_the_directory_that_is_set_is_the_only_one() -> None:
    place, environ = PlaceSettings(runtime_dir="/r"), {"RUNTIME_DIRECTORY": "/run"}
    assert control_path(place, environ) == "/r/clusterd.sock"
    assert control_path(PlaceSettings(name="shop"), environ) == "/run/shop.sock" or ME


def test_a_path_that_no_socket_can_have_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="would have 114 bytes"):
        control_path(PlaceSettings(runtime_dir="/" + "d" * 99), {})


def test_log_lines_name_a_cluster_that_was_given_a_name() -> None:
    assert identity(PlaceSettings()) == {}
    assert identity(PlaceSettings(name="shop")) == {"name": "shop"}
