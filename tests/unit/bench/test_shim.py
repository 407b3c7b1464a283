"""The user's application under another name: the same object, or an import that fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterd import demo
from clusterd.bench import shim
from clusterd.bench.shim import BrokenOnPurpose, found


def test_the_application_is_the_same_object(tmp_path: Path) -> None:
    assert found("clusterd.demo:app", str(tmp_path)) is demo.app
    assert found("os:path.join", str(tmp_path)) is os.path.join


def test_the_file_breaks_the_import_as_long_as_it_is_there(tmp_path: Path) -> None:
    broken = tmp_path / shim.BREAKS
    broken.touch()
    with pytest.raises(BrokenOnPurpose, match=r"breaks the import of clusterd.demo:app"):
        found("clusterd.demo:app", str(tmp_path))
    broken.unlink()
    assert found("clusterd.demo:app", str(tmp_path)) is demo.app


def test_another_process_learns_it_from_its_environment(tmp_path: Path) -> None:
    env = {**os.environ, shim.APP: "json:loads", shim.PLACE: str(tmp_path)}
    code = "import json; from clusterd.bench.shim import app; assert app is json.loads"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, cwd=Path.cwd())
