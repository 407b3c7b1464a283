"""Find modules that an imported application imports later, inside functions.

Each worker imports them for itself, at the first request that needs them: its client waits, and the
workers share none of their memory.
"""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from clusterd.core.own_code import OwnCode

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def later_imports(own: OwnCode) -> list[tuple[str, str]]:
    """Return modules that the application's functions import and that are not loaded yet.

    Each with the first line that does. Modules of the standard library are small, and left out,
    as are modules of packages that are not installed.
    """
    found: dict[str, str] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(module, ModuleType) or not file or not file.endswith(".py"):
            continue
        if own.has(module.__name__, file):
            for name, line in _inside_functions(module, Path(file)):
                if _is_to_come(name):
                    found.setdefault(name, f"{own.short(file)}:{line}")
    return sorted(found.items())


def _inside_functions(module: ModuleType, file: Path) -> Iterator[tuple[str, int]]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # changed since it was imported
        return
    for function in ast.walk(tree):
        if isinstance(function, Function):
            for node in ast.walk(function):
                for name in _imported(node, module.__package__ or ""):
                    yield name, getattr(node, "lineno", 0)


def _imported(node: ast.AST, package: str) -> list[str]:
    """Return the full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        try:
            return [importlib.util.resolve_name("." * node.level + (node.module or ""), package)]
        except ImportError:  # above the topmost package: it would fail
            return []
    return []


def _is_to_come(name: str) -> bool:
    top = name.partition(".")[0]
    if name in sys.modules or top in sys.stdlib_module_names:
        return False
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False
