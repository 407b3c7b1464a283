"""The file of the master's pid: whose it is, and what becomes of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterd.core.errors import ConfigError
from clusterd.master import pidfile


def test_it_is_written_in_one_step_and_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pidfile.write(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.write(str(path))  # again, after an upgrade in place
    assert [each.name for each in tmp_path.iterdir()] == ["pid"]
    pidfile.remove(str(path))
    pidfile.remove(str(path))
    assert list(tmp_path.iterdir()) == []
    pidfile.remove("")  # none was wanted


@pytest.mark.parametrize("left", ["", "nonsense", "1", "4194305"])
def test_what_names_no_clusterd_that_runs_is_overwritten(left: str, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text(left)
    pidfile.write(str(path))
    assert pidfile.read(str(path)) == os.getpid()


def test_that_of_another_is_neither_overwritten_nor_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    argv = [sys.executable, "-c", "print(flush=True); input()", "clusterd: master shop:app"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        path.write_text(f"{other.pid}\n")
        with pytest.raises(ConfigError, match=f"that runs as process {other.pid}"):
            pidfile.write(str(path))
        pidfile.remove(str(path))
        assert pidfile.read(str(path)) == other.pid
        other.communicate(b"\n")
    pidfile.write(str(path))


def test_a_place_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        pidfile.write(str(tmp_path / "none" / "pid"))
    (tmp_path / "pid").mkdir()
    with pytest.raises(ConfigError, match="cannot be written: it is a directory, not a"):
        pidfile.write(str(tmp_path / "pid"))
    assert [each.name for each in tmp_path.iterdir()] == ["pid"]


def test_a_link_in_the_way_leads_nowhere(tmp_path: Path) -> None:
    """Root may write it where others may: what it is called before it is whole can be guessed."""
    victim, path = tmp_path / "passwd", tmp_path / "pid"
    victim.write_text("ours")
    (tmp_path / f"pid.{os.getpid()}").symlink_to(victim)
    pidfile.write(str(path))
    assert victim.read_text() == "ours"
    assert pidfile.read(str(path)) == os.getpid()
    assert not path.is_symlink()
