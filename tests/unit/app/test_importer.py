"""Finding the application, and saying whose fault it is when it cannot be found."""

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusterd.app.importer import LIMIT, LoadError, closed_to_us, load

Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def _modules() -> Iterator[None]:
    """Forget what a test imported."""
    modules, path = set(sys.modules), sys.path[:]
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], None]:
    def make(name: str, text: str) -> None:
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(textwrap.dedent(text))

    return make


GOOD = """
    def app(): return 1
    def make(): return app
    class Web:
        app = staticmethod(app)
"""


@pytest.mark.parametrize(
    ("name", "factory"),
    [
        ("shop:app", False),
        ("shop", False),
        ("shop:Web.app", False),
        ("shop:make", True),
        ("shop:make()", False),
    ],
)
def test_ways_to_name_an_app(write: Write, tmp_path: Path, name: str, factory: bool) -> None:
    write("shop", GOOD)
    assert load(name, str(tmp_path), factory)() == 1  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "does not name an application"),
        ("shop:", "does not name an application"),
        ("shop/web.py", "does not name an application"),
        ("nothere:app", "no module nothere"),
        ("shop.nothere:app", "no module shop.nothere"),
        ("shop:nothere", "no attribute nothere"),
        ("shop:Web.nothere", "no attribute Web.nothere"),
        ("shop:number", "not callable"),
        ("shop:number()", "cannot be called"),
        ("shop:broken()", "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_found(write: Write, tmp_path: Path, name: str, says: str) -> None:
    write("shop", GOOD + "\n    number = 5\n    def broken(): 1 / 0\n")
    with pytest.raises(LoadError, match=says):
        load(name, str(tmp_path))


def test_the_traceback_is_the_apps_own(write: Write, tmp_path: Path) -> None:
    """Neither our frames nor the import machinery's."""
    write("shop", "import shelf\n")
    write("shelf", "def stack():\n    raise RuntimeError('no room')\nstack()\n")
    with pytest.raises(LoadError) as caught:
        load("shop:app", str(tmp_path))
    text = caught.value.traceback
    assert caught.value.message == "importing shop failed: RuntimeError: no room"
    assert [line for line in text.splitlines() if "File" in line] == [
        f'  File "{tmp_path}/shop.py", line 1, in <module>',
        f'  File "{tmp_path}/shelf.py", line 3, in <module>',
        f'  File "{tmp_path}/shelf.py", line 2, in stack',
    ]
    assert text.endswith("RuntimeError: no room\n")


def test_a_module_missing_inside_the_app_is_the_apps_error(write: Write, tmp_path: Path) -> None:
    write("shop", "import notinstalled\n")
    with pytest.raises(LoadError) as caught:
        load("shop:app", str(tmp_path))
    assert "shop.py" in caught.value.traceback
    assert "ModuleNotFoundError" in caught.value.message


@pytest.mark.parametrize("text", ["raise SystemExit(2)", "def (", "raise BaseException('x')"])
def test_whatever_an_import_does(write: Write, tmp_path: Path, text: str) -> None:
    """It ends as the app's error, never as ours."""
    write("shop", text)
    with pytest.raises(LoadError) as caught:
        load("shop:app", str(tmp_path))
    assert caught.value.traceback


def test_a_long_traceback_is_cut(write: Write, tmp_path: Path) -> None:
    write("shop", "raise RuntimeError('é' * 100_000)")
    with pytest.raises(LoadError) as caught:
        load("shop:app", str(tmp_path))
    assert len(caught.value.traceback.encode()) <= LIMIT


def test_modules_to_preload_are_imported_with_the_application(tmp_path: Path) -> None:
    """After it, since the application may set up what they need."""
    (tmp_path / "shop_early.py").write_text("async def app(scope, receive, send): ...")
    (tmp_path / "shop_report.py").write_text("import shop_early")
    load("shop_early:app", str(tmp_path), preload_modules=["shop_report"])
    assert "shop_report" in sys.modules


def test_a_module_to_preload_that_is_missing_fails_the_import(tmp_path: Path) -> None:
    (tmp_path / "shop_alone.py").write_text("async def app(scope, receive, send): ...")
    with pytest.raises(LoadError, match="there is no module shop_absent to import preload_modules"):
        load("shop_alone:app", str(tmp_path), preload_modules=["shop_absent"])


def test_directories_that_this_user_may_not_look_into_are_found(tmp_path: Path) -> None:
    shut, inside = tmp_path / "shut", tmp_path / "shut" / "inside"
    inside.mkdir(parents=True)
    open_ways = [str(tmp_path), str(inside), str(tmp_path / "none"), "/etc/passwd"]
    assert closed_to_us(open_ways) is None
    if os.geteuid() == 0:
        pytest.skip("root may look into everything; tests/process/test_rights.py asks as another")
    shut.chmod(0o600)
    found = closed_to_us(open_ways)
    assert found == (str(inside), f"{shut} may not be entered by")
    shut.chmod(0o300)
    assert closed_to_us([str(shut)]) == (str(shut), f"{shut} may not be listed by")
    shut.chmod(0o700)
