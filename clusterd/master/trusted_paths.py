"""What root relies on by its path, settings and code, and the refusal where others may change it.

Only where workers have less rights than the master: else there is nothing that they could gain.
"""

import os
import site
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from clusterd.config.settings import Config
from clusterd.config.sources import find_file
from clusterd.core.errors import ConfigError
from clusterd.core.write_access import Fault, Writer, remedy
from clusterd.kernel import own_files
from clusterd.kernel.paths import Looker, trust

SETTINGS = "root reads settings"
CODE = "root runs Python code"
FILES = "root writes the log and the pid file"
NO_USER_SITE = "or set PYTHONNOUSERSITE=1, so that Python searches no packages below HOME"
INSECURE = "or start with --insecure-paths, where all users of this machine may become root"


def faults_of_settings(
    groups: Mapping[str, Config], given: Mapping[str, Any], environ: Mapping[str, str], home: Path
) -> list[Fault]:
    """Return what others than root may write to on the way to the files that settings come from."""
    looker = _looker(groups, environ)
    if looker is None:
        return []
    procfiles = [config.place.procfile for config in groups.values()]
    file = find_file(given, environ, home)
    return looker.faults(filter(None, [str(file or ""), *procfiles]))


def faults_of_code(groups: Mapping[str, Config], environ: Mapping[str, str]) -> list[Fault]:
    """Return what others than root may write to on the way to the code that the master runs."""
    looker = _looker(groups, environ)
    return [] if looker is None else looker.faults(code())


def faults_of_files(groups: Mapping[str, Config], environ: Mapping[str, str]) -> list[Fault]:
    """Return what others than root may write to on the way to the log and the pid file.

    The files are judged when they are opened, by `kernel.own_files`. In a sticky directory that is
    enough: others can put no file of root's there, nor exchange one that is.
    """
    looker = _looker(groups, environ)
    if looker is None:
        return []
    named = {path for one in groups.values() for path in (one.log.log_file, one.place.pid_file)}
    paths = [path for path in sorted(named) if path and own_files.descriptor_of(path) is None]
    return [
        fault
        for fault in looker.faults(map(os.path.dirname, paths))
        if fault.writer is Writer.OWNER or not fault.entry.mode & stat.S_ISVTX
    ]


def _looker(groups: Mapping[str, Config], environ: Mapping[str, str]) -> Looker | None:
    found = trust((config.limits.user for config in groups.values()), environ)
    return None if found is None else Looker(found)


def code() -> Iterator[str]:
    """Yield where this interpreter and its modules come from, and where it looks for more.

    A directory of the search path counts itself: a module that is put there is found, by whatever
    name the master imports next. So do compiled modules, which are run in place of their sources,
    and `.pth` files, whose lines run at each start.
    """
    here = os.getcwd()
    yield os.path.join(here, sys.executable)
    if site.ENABLE_USER_SITE:  # searched below $HOME at the next start, once somebody has made it
        yield os.path.join(here, site.getusersitepackages())
    if program := getattr(sys.modules["__main__"], "__file__", None):
        yield os.path.join(here, program)
    yield os.path.join(sys.prefix, "pyvenv.cfg")
    for entry in sys.path:
        yield (path := os.path.join(here, entry))
        if os.path.isdir(path):
            yield from (os.path.join(path, n) for n in os.listdir(path) if n.endswith(".pth"))
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        if spec is not None and spec.has_location:
            yield from (os.path.join(here, one) for one in (spec.origin, spec.cached) if one)


def refuse(what: str, faults: Iterable[Fault], groups: Mapping[str, Config]) -> None:
    """Raise ConfigError where others may write, unless the operator has said that it is meant."""
    if (found := list(faults)) and not is_insecure(groups):
        raise ConfigError(*described(what, found))


def refuse_code(groups: Mapping[str, Config], environ: Mapping[str, str]) -> None:
    """Raise ConfigError where others may change the code that the master runs."""
    refuse(CODE, faults_of_code(groups, environ), groups)


def refuse_files(groups: Mapping[str, Config], environ: Mapping[str, str]) -> None:
    """Raise ConfigError where others may put something in the place of the log or the pid file."""
    refuse(FILES, faults_of_files(groups, environ), groups)


def is_insecure(groups: Mapping[str, Config]) -> bool:
    """Return whether the operator trusts all users of this machine."""
    return any(config.trust.insecure_paths for config in groups.values())


def described(what: str, found: list[Fault]) -> tuple[str, str]:
    """Return the sentence about what was found, and what to do."""
    ways = [remedy(found), INSECURE]
    if what == CODE and any(_is_user_site(fault) for fault in found):
        ways.insert(1, NO_USER_SITE)
    return f"{what}, and {found[0]}", "; ".join(ways)


def _is_user_site(fault: Fault) -> bool:
    """Return whether the path leads to where packages of the user are."""
    below = f"{site.getusersitepackages()}/"
    return bool(site.ENABLE_USER_SITE) and below.startswith(f"{fault.entry.path}/")
