"""The rooms keep to their walls, files and functions to their size, and tests to their manners."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "clusterd"

# Who may import whom: man/clusterd-design.7 tells why. A dot names one module of a room.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "kernel": {"core"},
    "config": {"core"},
    "fleet": {"core"},
    "wire": {"core"},
    "ipc": {"kernel", "core"},
    "app": {"wire", "core"},
    "observe": {"ipc", "core"},
    "bench": {"wire", "core"},
    "master": {"fleet", "ipc", "kernel", "config", "core"},
    "keeper": {"ipc", "kernel", "config", "core"},
    "zygote": {"app.importer", "ipc", "kernel", "config", "core"},
    "watch": {"kernel"},
    "worker": {"app", "wire", "ipc", "kernel", "config", "core"},
}
ANYTHING = {"cli", "child"}  # the composition root, and the entry file of a freshly started child
PURE = {"core", "fleet", "wire"}
IMPURE = {
    "asyncio",
    "multiprocessing",
    "random",
    "select",
    "selectors",
    "socket",
    "subprocess",
    "time",
    "uvloop",
}
LINES_OF_FILE = 600
LINES_OF_FUNCTION = 60
Function = ast.FunctionDef | ast.AsyncFunctionDef

SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), named(path))


def room(path: Path) -> str:
    """The room of a file: its directory under the package, or its own name right in it."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module: ast.AST) -> Iterator[tuple[int, str]]:
    """Every imported module, anywhere in the file, by line."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def functions(module: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(module) if isinstance(node, Function))


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    """DESIGN: the import table. Relative imports would hide the room, so there are none."""
    own = room(path)
    allowed = MAY_IMPORT.get(own, set())
    for line, name in imports(tree(path)):
        assert not name.startswith("."), f"{named(path)}:{line} imports relatively: {name}"
        parts = name.split(".")
        if parts[0] != "clusterd" or parts[1:2] in ([], ["__version__"]) or own in ANYTHING:
            continue
        target = parts[1]
        fine = target == own or target in allowed or ".".join(parts[1:3]) in allowed
        assert fine, f"{named(path)}:{line}: {own} may not import {name}"


def test_every_room_is_in_the_table_and_states_its_rule() -> None:
    """A room's `__init__` says what belongs there and who may import it, and does nothing."""
    for path in sorted(PACKAGE.iterdir()):
        if path.is_dir() and list(path.glob("*.py")):
            assert path.name in MAY_IMPORT or path.name in ANYTHING
            module = tree(path / "__init__.py")
            assert ast.get_docstring(module), f"{path.name} does not state its rule"
            assert len(module.body) == 1, f"{path.name}/__init__.py does more than that"


@pytest.mark.parametrize("path", [path for path in SOURCES if room(path) in PURE], ids=named)
def test_a_pure_room_has_no_clock_no_sockets_and_no_loop(path: Path) -> None:
    found = {name.split(".")[0] for _, name in imports(tree(path))} & IMPURE
    assert not found, f"{named(path)} imports {sorted(found)}"


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if room(path) not in ANYTHING], ids=named
)
def test_no_import_inside_a_function(path: Path) -> None:
    """Only the entry file and the cli choose at run time what to import."""
    for function in functions(tree(path)):
        found = [name for _, name in imports(function)]
        assert not found, f"{named(path)}: {function.name} imports {found}"


@pytest.mark.parametrize("path", [*SOURCES, *TESTS, *BENCHMARKS], ids=named)
def test_files_and_functions_fit_on_a_few_screens(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_OF_FILE
    for function in functions(tree(path)):
        assert function.end_lineno is not None
        first = function.body[0]
        documented = ast.get_docstring(function, clean=False) is not None
        start = (first.end_lineno or first.lineno) if documented else function.lineno
        length = function.end_lineno - start + 1
        assert length <= LINES_OF_FUNCTION, f"{named(path)}: {function.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_loggers_of_ours_are_out_of_reach_of_logging_configuration(path: Path) -> None:
    """`logging.getLogger` is for other libraries' loggers: an application can disable those."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "getLogger":
            foreign = [ast.unparse(arg) for arg in node.args] == ["'hpack'"]
            made = named(path) == "clusterd/core/log.py"
            assert foreign or made, f"{named(path)}:{node.lineno}: use core.log.get_logger"


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_every_file_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", TESTS, ids=named)
def test_tests_do_not_sleep(path: Path) -> None:
    """They wait for what they wait for. `asyncio.sleep(0)` lets the loop turn, and is no wait."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "sleep":
            turn = [ast.unparse(arg) for arg in node.args] == ["0"]
            assert turn, f"{named(path)}:{node.lineno} sleeps: {ast.unparse(node)}"


@pytest.mark.parametrize("path", TESTS, ids=named)
def test_tests_do_not_patch_the_operating_system(path: Path) -> None:
    """Seams are for that: a fake kernel, a clock that is an argument."""
    roots = ("os", "time", "signal")
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        if ast.unparse(node.func).split(".")[-1] in {"setattr", "patch", "object", "delattr"}:
            target = ast.unparse(node.args[0]).strip("'\"").split(".")[0]
            assert target not in roots, f"{named(path)}:{node.lineno} patches {target}"


def test_the_master_imports_neither_a_loop_nor_psutil_nor_an_engine() -> None:
    """What `clusterd run` imports before it becomes the master stays in the master for life."""
    code = "import sys, clusterd.cli.run; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    unwanted = {"asyncio", "ssl", "uvloop", "httptools", "psutil", "websockets"}
    assert not unwanted & set(done.stdout.split())
