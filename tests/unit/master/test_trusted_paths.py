"""The paths by which root runs code: what is judged at a start and before an upgrade."""

import importlib
import os
import site
import sys
from pathlib import Path
from types import ModuleType

import pytest

from clusterd.core.write_access import Trust
from clusterd.kernel.paths import Looker
from clusterd.master.trusted_paths import CODE, NO_USER_SITE, code, described


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


def test_packages_below_home_count_before_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the owner of HOME could add some, and an upgrade or a restart would run them as root."""
    packages = tmp_path / "home" / ".local" / "lib" / "site-packages"
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(packages))
    monkeypatch.setattr(site, "ENABLE_USER_SITE", False)  # as in a virtual environment, or by -s
    assert str(packages) not in code()
    monkeypatch.setattr(site, "ENABLE_USER_SITE", True)
    assert str(packages) in code()
    others = Trust(frozenset({os.getuid() + 1}), frozenset())
    found = [one for one in Looker(others).faults([str(packages)]) if "home" in one.entry.path]
    assert NO_USER_SITE in described(CODE, found)[1]
    (tmp_path / "lib").mkdir()
    found = [
        one for one in Looker(others).faults([f"{tmp_path}/lib"]) if one.entry.path[-3:] == "lib"
    ]
    assert NO_USER_SITE not in described(CODE, found)[1]
