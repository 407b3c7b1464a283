"""Which modules an application imports later, in its functions."""

import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.cli.later_imports import later_imports
from clusterd.core.own_code import OwnCode


@pytest.fixture(autouse=True)
def _libraries(tmp_path: Path) -> Iterator[None]:
    """Libraries that could be imported; the first of them is."""
    path = sys.path[:]
    sys.path.insert(0, str(tmp_path / "site-packages"))
    (tmp_path / "site-packages").mkdir()
    for name in ("shop_loaded", "shop_plot", "shop_table"):
        (tmp_path / "site-packages" / f"{name}.py").touch()
    __import__("shop_loaded")
    yield
    sys.path[:] = path
    del sys.modules["shop_loaded"]


def later(place: Path, code: str, name: str = "shop_web") -> list[tuple[str, str]]:
    """What a module of the application with this code imports later."""
    file = place / f"{name}.py"
    file.write_text(textwrap.dedent(code))
    module = types.ModuleType(name)
    module.__file__, module.__package__ = str(file), name.rpartition(".")[0]
    sys.modules[name] = module
    try:
        return later_imports(OwnCode("shop_web:app", str(place)))
    finally:
        del sys.modules[name]


def test_an_import_in_a_function_is_found_with_its_line(tmp_path: Path) -> None:
    code = """
        async def chart(request):
            if request:
                import shop_plot
            from shop_table import rows
    """
    assert later(tmp_path, code) == [
        ("shop_plot", "shop_web.py:4"),
        ("shop_table", "shop_web.py:5"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "import shop_loaded",
        "import shop_absent",
        "import this",
        "from ..up import x",
        "import json",
    ],
)
def test_what_is_loaded_absent_small_or_wrong_is_left_out(tmp_path: Path, line: str) -> None:
    assert later(tmp_path, f"def chart():\n    {line}") == []


def test_an_import_of_the_module_itself_is_no_later_one(tmp_path: Path) -> None:
    assert later(tmp_path, "import shop_plot") == []


def test_a_submodule_of_a_loaded_package_is_found(tmp_path: Path) -> None:
    assert later(tmp_path, "def f():\n    import shop_loaded.part") == [
        ("shop_loaded.part", "shop_web.py:2")
    ]


def test_a_relative_import_is_told_by_its_full_name(tmp_path: Path) -> None:
    (tmp_path / "shop_web").mkdir()
    sys.path.insert(0, str(tmp_path))
    found = later(tmp_path, "def f():\n    from .pages import home", "shop_web.views")
    assert found == [("shop_web.pages", "shop_web.views.py:2")]
