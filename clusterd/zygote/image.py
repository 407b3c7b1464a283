"""The image that workers are forked from: the application, imported, and what it was made of."""

import hashlib
import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity that the import made, and the line of the application that made it, or ''."""

    what: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class SharedDraws:
    """Draws that forked workers may share: libraries' UUIDs, and secrets."""

    by: tuple[str, ...]  # `litestar: uuid4`


@dataclass(frozen=True, slots=True)
class Image:
    """An imported application, or the path of a program. `fingerprint` names its files, and
    `interface` how an application is called."""

    app: object
    fingerprint: str
    seconds: float
    identities: tuple[Identity | SharedDraws, ...] = ()
    interface: str = "asgi"


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
