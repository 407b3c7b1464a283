"""What is looked up before a program is run, and what it finds in its environment."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from clusterd.config.settings import Config
from clusterd.core.errors import AppError
from clusterd.keeper.program import environment, find, fingerprint
from tests.support.keeping import settings

ALONE = Config()  # names no script beside the program


def test_a_program_is_looked_for_on_the_path_that_it_will_have(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    for variables in (("PATH=/no/such:bin",), (f"PATH={tool.parent}",)):
        config = settings("tool", "-x", place=tmp_path, environment=variables)
        with pytest.raises(AppError, match="tool is not executable"):
            find(config)
        tool.chmod(0o755)
        assert find(config) == str(tool)
        tool.chmod(0o644)
    with pytest.raises(AppError, match="there is no program tool in any directory of PATH"):
        find(settings("tool", "-x", place=tmp_path))


def test_a_path_is_seen_from_the_working_directory(tmp_path: Path) -> None:
    config = settings("./tool", "-x", place=tmp_path)
    with pytest.raises(AppError, match=r"there is no program \./tool in"):
        find(config)
    (tmp_path / "tool").touch(0o755)
    assert os.path.samefile(find(config), tmp_path / "tool")


def test_a_fingerprint_is_of_the_file_as_it_is(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("one")
    before = fingerprint(str(tool), ALONE)
    assert before == fingerprint(str(tool), ALONE)
    tool.write_text("other")
    assert fingerprint(str(tool), ALONE) != before


def test_what_it_finds_in_its_environment(tmp_path: Path) -> None:
    config = settings("x", "-x", place=tmp_path, environment=("PORT=80", "A=b=c"))
    assert environment({"HOME": "/h", "A": "old"}, config, "job", 2, 0) == {
        "HOME": "/h",
        "PORT": "82",
        "A": "b=c",
        "CLUSTERD_GROUP": "job",
        "CLUSTERD_SLOT": "2",
    }
    plain = settings("x", "-x", place=tmp_path)
    found = environment({"PORT": "80"}, plain, "job", 2, 2, "@there")
    assert found["PORT"] == "80", "who did not ask for one has the port that clusterd has"
    assert found["NOTIFY_SOCKET"] == "@there"
    assert (found["LISTEN_FDS"], found["LISTEN_FDNAMES"]) == ("2", "job:job")
    assert "LISTEN_PID" not in found


def test_scripts_among_the_arguments_belong_to_the_program_and_data_does_not(
    tmp_path: Path,
) -> None:
    script, data = tmp_path / "work.py", tmp_path / "data.db"
    for file in (script, data):
        file.write_text("1")
    whole = Config()
    command = replace(
        whole.command, command=("python3", "work.py", "--to", "data.db"), directory=str(tmp_path)
    )
    whole = replace(whole, command=command)
    before = fingerprint(sys.executable, whole)
    data.write_text("12")
    assert fingerprint(sys.executable, whole) == before
    script.write_text("12")
    assert fingerprint(sys.executable, whole) != before
    script.unlink()
    assert fingerprint(sys.executable, whole) == fingerprint(sys.executable, ALONE)
