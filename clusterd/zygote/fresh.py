"""Importing files that are being written: bytecode of a file just saved is not kept.

Python knows a cached file by the source's size and its time in whole seconds. Of two saves within
a second, of the same size, the second would be taken for the first.
"""

import importlib.machinery as machinery
import os
import sys
import time
from typing import Any

SETTLED = 2.0  # seconds after which a save has another time than any before


class Loader(machinery.SourceFileLoader):
    """Keeps no bytecode of a file that may be saved again with the same time."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        if time.time() - os.stat(self.path).st_mtime > SETTLED:
            super().set_data(path, data, _mode=_mode)


def install() -> None:
    """Import everything from now on like that."""
    details = (
        (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
        (Loader, machinery.SOURCE_SUFFIXES),
        (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
    )
    sys.path_hooks.insert(0, machinery.FileFinder.path_hook(*details))
    sys.path_importer_cache.clear()
