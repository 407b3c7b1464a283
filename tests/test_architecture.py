"""The rooms keep to their walls, files and functions to their size, and tests to their manners."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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
    "__main__": {"cli.main"},
    "observe": {"ipc", "core"},
    "bench": {"wire", "core"},
    "master": {"fleet", "ipc", "kernel", "config", "core"},
    "jobs": {"ipc", "kernel", "config", "core"},
    "keeper": {"ipc", "kernel", "config", "core"},
    "zygote": {"app.importer", "ipc", "kernel", "config", "core"},
    "watch": {"kernel"},
    "worker": {"app", "wire", "ipc", "kernel", "config", "core"},
}
ANYTHING = {"cli", "child"}  # the composition root, and the entry file of a freshly started child
PURE = {"core", "fleet", "wire"}
PUBLIC = {"jobs"}  # what applications import stands in their `__init__`
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


@functools.cache
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


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def called(call: ast.Call) -> str:
    """Return the last name of what is called: `c` of `a.b.c()`."""
    return ast.unparse(call.func).split(".")[-1]


def arguments(call: ast.Call) -> list[str]:
    return [ast.unparse(argument) for argument in call.args]


def test_files_import_only_what_their_room_may() -> None:
    """DESIGN: the import table. Relative imports would hide the room, so there are none."""
    wrong = []
    for path in SOURCES:
        own = room(path)
        for line, name in imports(tree(path)):
            if name.startswith("."):
                wrong.append(f"{named(path)}:{line} imports relatively: {name}")
            elif not may_import(own, name):
                wrong.append(f"{named(path)}:{line}: {own} may not import {name}")
    assert not wrong, "\n".join(wrong)


def may_import(own: str, name: str) -> bool:
    """Whether a file of a room may import a module, ours or another's."""
    parts = name.split(".")
    if parts[0] != "clusterd" or parts[1:2] in ([], ["__version__"]) or own in ANYTHING:
        return True
    allowed = MAY_IMPORT.get(own, set())
    return parts[1] == own or parts[1] in allowed or ".".join(parts[1:3]) in allowed


def test_every_room_is_in_the_table_and_states_its_rule() -> None:
    """A room's `__init__` says what belongs there and who may import it, and does nothing."""
    for path in sorted(PACKAGE.iterdir()):
        if path.is_dir() and list(path.glob("*.py")):
            assert path.name in MAY_IMPORT or path.name in ANYTHING
            module = tree(path / "__init__.py")
            assert ast.get_docstring(module), f"{path.name} does not state its rule"
            if path.name not in PUBLIC:
                assert len(module.body) == 1, f"{path.name}/__init__.py does more than that"


def test_a_pure_room_has_no_clock_no_sockets_and_no_loop() -> None:
    wrong = [
        f"{named(path)}:{line} imports {name}"
        for path in SOURCES
        if room(path) in PURE
        for line, name in imports(tree(path))
        if name.split(".")[0] in IMPURE
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_inside_a_function() -> None:
    """Only the entry file and the cli choose at run time what to import."""
    wrong = [
        f"{named(path)}:{line}: {function.name} imports {name}"
        for path in SOURCES
        if room(path) not in ANYTHING
        for function in functions(tree(path))
        for line, name in imports(function)
    ]
    assert not wrong, "\n".join(wrong)


def test_files_and_functions_fit_on_a_few_screens() -> None:
    wrong = []
    for path in [*SOURCES, *TESTS, *BENCHMARKS]:
        lines = len(path.read_text().splitlines())
        if lines > LINES_OF_FILE:
            wrong.append(f"{named(path)} has {lines} lines")
        for function in functions(tree(path)):
            length = length_of(function)
            if length > LINES_OF_FUNCTION:
                place = f"{named(path)}:{function.lineno}"
                wrong.append(f"{place}: {function.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def length_of(function: Function) -> int:
    """Return the lines of a function without its docstring."""
    assert function.end_lineno is not None
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    start = (first.end_lineno or first.lineno) if documented else function.lineno
    return function.end_lineno - start + 1


def test_loggers_of_ours_are_out_of_reach_of_logging_configuration() -> None:
    """`logging.getLogger` is for other libraries' loggers: an application can disable those."""
    wrong = [
        f"{named(path)}:{call.lineno}: use core.log.get_logger"
        for path in SOURCES
        if named(path) != "clusterd/core/log.py"
        for call in calls(path)
        if called(call) == "getLogger" and arguments(call) != ["'hpack'"]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_file_says_what_it_is_for() -> None:
    wrong = [named(path) for path in SOURCES if not ast.get_docstring(tree(path))]
    assert not wrong, "\n".join(wrong)


def test_tests_do_not_sleep() -> None:
    """They wait for what they wait for. `asyncio.sleep(0)` lets the loop turn, and is no wait."""
    wrong = [
        f"{named(path)}:{call.lineno} sleeps: {ast.unparse(call)}"
        for path in TESTS
        for call in calls(path)
        if called(call) == "sleep" and arguments(call) != ["0"]
    ]
    assert not wrong, "\n".join(wrong)


def test_tests_do_not_patch_the_operating_system() -> None:
    """Seams are for that: a fake kernel, a clock that is an argument."""
    wrong = []
    for path in TESTS:
        for call in calls(path):
            if call.args and called(call) in {"setattr", "patch", "object", "delattr"}:
                target = ast.unparse(call.args[0]).strip("'\"").split(".")[0]
                if target in ("os", "time", "signal"):
                    wrong.append(f"{named(path)}:{call.lineno} patches {target}")
    assert not wrong, "\n".join(wrong)


def test_the_master_imports_neither_a_loop_nor_psutil_nor_an_engine() -> None:
    """What `clusterd run` imports before it becomes the master stays in the master for life."""
    code = "import sys, clusterd.cli.run; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    unwanted = {"asyncio", "ssl", "uvloop", "httptools", "psutil", "websockets"}
    assert not unwanted & set(done.stdout.split())
