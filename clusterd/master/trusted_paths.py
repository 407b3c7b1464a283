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
from clusterd.config.sources import CONFIG_VARIABLE, FILE, PROJECT, find_file
from clusterd.core.errors import ConfigError
from clusterd.core.write_access import Fault, Writer, remedy
from clusterd.ipc import last_run
from clusterd.kernel import own_files, paths, privileges
from clusterd.kernel.paths import Looker, is_home, trust

SETTINGS = "root reads settings"
CODE = "root runs Python code"
LOG = "root writes the log"
PID_FILE = "root writes the pid file"
NO_USER_SITE = "or set PYTHONNOUSERSITE=1, so that Python searches no packages below HOME"
ELSEWHERE = {
    SETTINGS: "put them where only root may write, e.g. --config /etc/clusterd.toml",
    CODE: "install clusterd and its Python where only root may write, e.g. in /opt",
    LOG: "name a directory where only root may write, e.g. in /var/log: --log-file",
    PID_FILE: "name a directory where only root may write, e.g. in /run: --pid-file",
}
INSECURE = (
    "or start with --insecure-paths: no such path is refused then, and users who may write to one "
    "can become root"
)


def faults_of_settings(
    groups: Mapping[str, Config], given: Mapping[str, Any], environ: Mapping[str, str], home: Path
) -> list[Fault]:
    """Return what others than root may write to on the way to the files that settings come from."""
    looker = _looker(groups, environ)
    if looker is None:
        return []
    procfiles = [config.place.procfile for config in groups.values()]
    files = _settings_files(groups, given, environ, home)
    return looker.faults(filter(None, [*map(str, files), *procfiles]))


def faults_of_code(groups: Mapping[str, Config], environ: Mapping[str, str]) -> list[Fault]:
    """Return what others than root may write to on the way to the code that the master runs."""
    looker = _looker(groups, environ)
    if looker is None:
        return []
    libraries = [*paths.libraries(), *paths.library_path(environ), *paths.added_libraries(environ)]
    return looker.faults([*code(), *libraries])


def faults_of_log(groups: Mapping[str, Config], environ: Mapping[str, str]) -> list[Fault]:
    """Return what others than root may write to on the way to the log.

    The file is judged when it is opened, by `kernel.own_files`. In a sticky directory that is
    enough: others can put no file of root's there, nor exchange one that is. It is for the log's
    own directory, too, where that belongs to the workers' user or a group may write to it: what
    can be put there is no link and no file of root's, and workers write to the log anyhow.
    """
    looker = _looker(groups, environ)
    if looker is None:
        return []
    directories = _directories(one.log.log_file for one in groups.values())
    users = privileges.users(one.limits.user for one in groups.values())
    its_own = {os.path.realpath(path) for path in directories}

    def is_fault(fault: Fault) -> bool:
        entry = fault.entry
        if not entry.is_passed and entry.path in its_own and fault.writer is not Writer.EVERYBODY:
            return fault.writer is Writer.OWNER and entry.uid not in users
        return _is_fault(fault, looker)

    return [fault for fault in looker.faults(sorted(directories)) if is_fault(fault)]


def faults_of_pid_file(groups: Mapping[str, Config], environ: Mapping[str, str]) -> list[Fault]:
    """Return what others than root may write to on the way to the pid file.

    It says which process root is to signal. Sticky directories are as for the log.
    """
    looker = _looker(groups, environ)
    if looker is None:
        return []
    directories = _directories(one.place.pid_file for one in groups.values())
    return [one for one in looker.faults(sorted(directories)) if _is_fault(one, looker)]


def _is_fault(fault: Fault, looker: Looker) -> bool:
    """Return whether a file that root makes and judges itself is not safe on this way."""
    is_sticky = bool(fault.entry.mode & stat.S_ISVTX)
    match fault.writer:
        case Writer.OWNER:
            return True
        case Writer.EVERYBODY:
            return not is_sticky
        case Writer.GROUP:
            return not (is_sticky or _is_of_syslog(fault, looker))


def fault_of_record(groups: Mapping[str, Config], environ: Mapping[str, str]) -> str:
    """Return why no record of this run can be kept for `clusterd why`, or ''.

    Root makes directories and files there, and removes old records. A link in place of one of these
    directories would have it do so elsewhere.
    """
    looker, directory = _looker(groups, environ), last_run.directory(environ)
    if looker is None or directory is None or is_insecure(groups):
        return ""
    faults = looker.faults([os.path.abspath(directory)])
    return str(faults[0]) if faults else ""


def all_faults(
    groups: Mapping[str, Config], given: Mapping[str, Any], environ: Mapping[str, str], home: Path
) -> list[tuple[str, list[Fault]]]:
    """Return what root does with paths that others may write to, and these, for each kind."""
    found = (
        (SETTINGS, faults_of_settings(groups, given, environ, home)),
        (CODE, faults_of_code(groups, environ)),
        (LOG, faults_of_log(groups, environ)),
        (PID_FILE, faults_of_pid_file(groups, environ)),
    )
    return [(what, faults) for what, faults in found if faults]


def _directories(files: Iterable[str]) -> set[str]:
    named = (path for path in files if path and own_files.descriptor_of(path) is None)
    return {os.path.dirname(path) for path in named}


def _is_of_syslog(fault: Fault, looker: Looker) -> bool:
    """Return whether it is /var/log of Ubuntu, where the system's rsyslog makes its files.

    All that root logs there relies on it, and rsyslog fails where its group may not write.
    """
    is_given = fault.entry.path == "/var/log" and fault.group == "syslog"
    return is_given and fault.entry.gid not in looker.trust.workers


def _settings_files(
    groups: Mapping[str, Config], given: Mapping[str, Any], environ: Mapping[str, str], home: Path
) -> Iterator[Path]:
    """Yield the files that these settings come from, also where one was removed since.

    A pyproject.toml without settings of ours is the application's alone. It is judged once it has
    some; so is a clusterd.toml, whatever it says, since it is there for nothing else.
    """
    file = find_file(given, environ, home)
    if file is not None and (given.get("config") or environ.get(CONFIG_VARIABLE)):
        yield file
        return
    origins = [origin for one in groups.values() for origin in one.origins.values()]
    for name in (FILE, PROJECT):
        is_read = any(origin.startswith(f"{name} ") for origin in origins)
        if is_read or (name == FILE and file == home / FILE):
            yield home / name


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
    refuse(LOG, faults_of_log(groups, environ), groups)
    refuse(PID_FILE, faults_of_pid_file(groups, environ), groups)


def is_insecure(groups: Mapping[str, Config]) -> bool:
    """Return whether the operator trusts all users of this machine."""
    return any(config.trust.insecure_paths for config in groups.values())


def described(what: str, found: list[Fault]) -> tuple[str, str]:
    """Return the sentence about what was found, and what to do."""
    ways = [commands(what, found), INSECURE]
    if what == CODE and any(_is_user_site(fault) for fault in found):
        ways.insert(1, NO_USER_SITE)
    return f"{what}, and {found[0]}", "; ".join(ways)


def _is_user_site(fault: Fault) -> bool:
    """Return whether the path leads to where packages of the user are."""
    below = f"{site.getusersitepackages()}/"
    return bool(site.ENABLE_USER_SITE) and below.startswith(f"{fault.entry.path}/")


def commands(what: str, found: list[Fault]) -> str:
    """Return what mends it."""
    owned = [fault.entry for fault in found if fault.writer is Writer.OWNER]
    if any(is_home(entry.path, entry.uid) for entry in owned):
        return ELSEWHERE[what]  # a home directory of root's would lock its user out
    mended = remedy(found, _tree())
    listed = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    named = {os.path.abspath(path) for path in listed if path} - {str(_packages())}
    needed = found[0].needed and os.path.abspath(found[0].needed)
    if needed in named:
        return f"take {needed} out of PYTHONPATH (--app-dir names the app's directory), or {mended}"
    if what == CODE and needed in paths.library_path(os.environ):
        entry = " (an empty entry)" if needed == os.getcwd() else ""
        return f"take {needed} out of LD_LIBRARY_PATH{entry}, or {mended}"
    if what == CODE and needed == os.getcwd() and not sys.flags.safe_path:
        return f"start it as 'clusterd' ('python -m' searches {needed} for modules), or {mended}"
    return mended


def _tree() -> str:
    """Return the directory that one command may give to root: never a whole /usr."""
    if sys.prefix != sys.base_prefix:
        return sys.prefix  # a virtual environment
    packages = _packages()
    return str(packages) if packages.name in ("site-packages", "dist-packages") else ""


def _packages() -> Path:
    """Return the directory that clusterd itself is imported from."""
    return Path(__file__).parents[2]
