"""Load what the application's modules import lazily (PEP 810, Python 3.15) while it is imported.

A lazy import reads its file when the name is first used: in a worker that serves already, from
what is on the disk by then. Loaded with the application, an error in it fails the import, a
rollback goes back to the code of its time, and all workers share the memory.

Libraries' own lazy imports stay lazy.
"""

import importlib
import os
import sys
import types
from collections.abc import Callable
from types import ModuleType
from typing import Any, Self

from clusterd.core.own_code import OwnCode

LAZY: type | None = getattr(types, "LazyImportType", None)  # None before Python 3.15
Read = Callable[[ModuleType, str], object]  # as `read`
Filter = Callable[[str, str, tuple[str, ...] | None], bool]


class LazyImports:
    """While used as a context manager, record lazy imports; then `load` them.

    Reading the name `a` after `lazy import a.b` loads `a` and not `a.b`, hence the record. It is
    taken by the interpreter's filter, which is asked about each lazy import.
    """

    def __init__(self, own: OwnCode) -> None:
        self._own = own
        self._dotted: dict[tuple[str, str], None] = {}  # importing module, imported module
        self._system: Any = sys  # with functions that only Python 3.15 has
        self._earlier: Filter | None = None

    def __enter__(self) -> Self:
        if LAZY is not None:
            self._earlier = self._system.get_lazy_imports_filter()
            self._system.set_lazy_imports_filter(self._record)
        return self

    def __exit__(self, *_: object) -> None:
        # The application may have set a filter of its own meanwhile.
        if LAZY is not None and self._system.get_lazy_imports_filter() == self._record:
            self._system.set_lazy_imports_filter(self._earlier)

    def _record(self, importer: str, name: str, names: tuple[str, ...] | None) -> bool:
        if self._earlier is not None and not self._earlier(importer, name, names):
            return False
        if names is None and "." in name:
            self._dotted[importer, name] = None
        return True

    def load(self, read: Read) -> None:
        """Load what the application's modules import lazily, and what that imports lazily.

        A module that is missing is passed over: an import that is never used may name one. Any
        other error of `read` or an import passes.
        """
        seen: set[tuple[str, str]] = set()
        while LAZY is not None and (names := self._unread(LAZY) - seen):
            seen |= names
            for importer, name in sorted(names):
                try:
                    read(sys.modules[importer], name)
                except ModuleNotFoundError:
                    continue

    def _unread(self, lazy: type) -> set[tuple[str, str]]:
        """Return what is still to be loaded: pairs of a module and a name in it, or a module."""
        own = [
            (name, module)
            for name, module in list(sys.modules.items())
            if isinstance(module, ModuleType)
            and self._own.has(name, getattr(module, "__file__", None) or "")
        ]
        names = {name for name, _ in own}
        dotted = {pair for pair in self._dotted if pair[0] in names and pair[1] not in sys.modules}
        return dotted | {
            (importer, name)
            for importer, module in own
            for name, value in list(vars(module).items())
            if type(value) is lazy
        }


def read(module: ModuleType, name: str) -> object:
    """Load a lazy import: a name of the module, or a module if it has dots."""
    return importlib.import_module(name) if "." in name else getattr(module, name)


def load_package(package: str) -> None:
    """Load all that the loaded modules of a package import lazily.

    For our own, where PYTHON_LAZY_IMPORTS=all makes all imports lazy: else each worker would load
    them for itself, after the fork.
    """
    LazyImports(OwnCode(package, os.devnull)).load(read)
