"""What an application imports lazily is loaded with it: in fresh interpreters of Python 3.15."""

import json
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(types, "LazyImportType"), reason="lazy imports exist from Python 3.15 on"
)
LIBRARY = "lib/site-packages"
CODE = """
    import json, sys
    from clusterd.app.importer import LoadError, load
    sys.path.insert(0, "lib/site-packages")
    try:
        load("shop:app", preload_modules={preload})
        told = ""
    except LoadError as error:
        told = error.message + chr(10) + error.traceback
    left = sys.get_lazy_imports_filter() is None
    print(json.dumps([told, sorted(sys.modules), left]))
"""


def load(place: Path, mode: str = "normal", preload: tuple[str, ...] = (), **files: str) -> Any:
    """Load `shop:app`: what went wrong, or '', and the modules that are loaded then.

    `files` are named as modules, with `__` for a dot; libraries begin with `lib_`.
    """
    for name, text in {"shop": "", **files}.items():
        library = name.startswith("lib_")
        path = Path(place, LIBRARY if library else "", *name.split("__"))
        path.parent.mkdir(parents=True, exist_ok=True)
        if text == "package":
            path.mkdir()
            (path / "__init__.py").touch()
        else:
            path.with_suffix(".py").write_text(textwrap.dedent(text))
    with (place / "shop.py").open("a") as shop:
        shop.write("\nasync def app(scope, receive, send): pass\n")
    done = subprocess.run(
        [sys.executable, "-X", f"lazy_imports={mode}", "-c", textwrap.dedent(CODE).format(
            preload=preload
        )],
        cwd=place,
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    told, modules, left = json.loads(done.stdout)
    assert left, "the filter is taken out again"
    return told, set(modules)


def test_a_lazily_imported_module_is_loaded_and_what_it_imports_lazily(tmp_path: Path) -> None:
    told, modules = load(
        tmp_path, shop="lazy import report", report="lazy from paper import size", paper="size = 4"
    )
    assert told == ""
    assert {"report", "paper"} <= modules


def test_a_submodule_is_loaded_too(tmp_path: Path) -> None:
    """Reading `lib_plot` loads the package and neither of its modules."""
    told, modules = load(
        tmp_path,
        shop="lazy import lib_plot.bars\nlazy import lib_plot.lines",
        lib_plot="package",
        lib_plot__bars="",
        lib_plot__lines="",
    )
    assert told == ""
    assert {"lib_plot.bars", "lib_plot.lines"} <= modules


def test_a_librarys_own_lazy_import_stays_lazy(tmp_path: Path) -> None:
    _, modules = load(
        tmp_path, shop="lazy import lib_plot", lib_plot="lazy import lib_tk", lib_tk=""
    )
    assert "lib_plot" in modules
    assert "lib_tk" not in modules


def test_the_same_where_all_imports_are_lazy(tmp_path: Path) -> None:
    told, modules = load(
        tmp_path, "all", shop="import lib_plot.bars", lib_plot="package", lib_plot__bars=""
    )
    assert told == ""
    assert "lib_plot.bars" in modules


def test_a_module_that_is_missing_is_passed_over(tmp_path: Path) -> None:
    told, modules = load(
        tmp_path, shop="lazy import lib_absent\nlazy import lib_gone.part\nlazy import report",
        report="",
    )  # fmt: skip
    assert told == ""
    assert "report" in modules


@pytest.mark.parametrize(
    ("report", "wanted"),
    [
        ("def", "SyntaxError: invalid syntax"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_in_it_fails_the_import(tmp_path: Path, report: str, wanted: str) -> None:
    told, _ = load(tmp_path, shop="lazy import report", report=report)
    assert told.startswith(f"the lazy import of report in shop failed: {wanted}")
    assert 'report.py", line 1' in told
    assert "clusterd" not in told


def test_a_name_that_its_module_has_not_fails_the_import(tmp_path: Path) -> None:
    told, _ = load(tmp_path, shop="lazy from report import total", report="")
    assert "cannot import name 'total' from 'report'" in told
