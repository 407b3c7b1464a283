"""The paths by which root runs code: what is judged at a start and before an upgrade."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clusterd.master.trusted_paths import code


def test_all_that_is_run_by_its_path_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some.pth").touch()
    (tmp_path / "judged_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    script = ModuleType("__main__")  # as the console script is: it has no spec
    script.__file__ = str(tmp_path / "bin" / "clusterd")
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("judged_module")
    found = set(code())
    assert module.__spec__ is not None
    assert {module.__spec__.origin, module.__spec__.cached, str(tmp_path / "some.pth")} <= found
    assert {sys.executable, str(tmp_path), f"{sys.prefix}/pyvenv.cfg"} <= found
    assert script.__file__ in found


def test_the_current_directory_counts_where_modules_are_searched_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `python -m` has it. A module of any name that the master imports could be put there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, "", "lib"])
    assert {f"{tmp_path}/", f"{tmp_path}/lib"} <= set(code())
