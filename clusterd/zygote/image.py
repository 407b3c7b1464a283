"""The image that workers are forked from: the application, imported, and what it was made of."""

import gc
import hashlib
import os
import sys
import time
from dataclasses import dataclass

from clusterd.app.importer import load
from clusterd.config.serving import AppSettings


@dataclass(frozen=True, slots=True)
class Image:
    """An imported application. `fingerprint` names the files it was made of."""

    app: object
    fingerprint: str
    seconds: float


def build(settings: AppSettings) -> Image:
    """Import the application. Raises AppError with the application's own traceback."""
    began = time.monotonic()
    # What an import makes stays: looking for garbage in it again and again finds next to nothing.
    gc.disable()
    try:
        app = load(settings.app, settings.app_dir, settings.factory, settings.interface)
    finally:
        gc.enable()
    # Frozen objects are left alone by the collector, so that it does not write to (and thereby
    # copy) pages that all workers share.
    gc.collect()
    gc.freeze()
    return Image(app, fingerprint(), time.monotonic() - began)


def fingerprint() -> str:
    """A digest of the files that are loaded now: path, inode, size and time of change of each.

    Modules imported later do not count; what matters is whether a rebuilt zygote got the same
    code as the one that died.
    """
    digest = hashlib.sha256()
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for path in sorted(file for file in files if isinstance(file, str)):
        try:
            stat = os.stat(path)
        except OSError:
            continue
        digest.update(f"{path}\0{stat.st_ino}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
