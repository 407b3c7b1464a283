"""Where values come from: the command line, the environment, and a file."""

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusterd.config.jobs import GROUP as JOBS
from clusterd.config.jobs import OF_IMPORTS
from clusterd.config.kinds import MAIN, Scope, Setting
from clusterd.config.settings import TABLE
from clusterd.core.errors import ConfigError

FILE = "clusterd.toml"
PROJECT = "pyproject.toml"
WEB_CONCURRENCY = "WEB_CONCURRENCY"
VARIABLES = {row.variable: row.name for row in TABLE.values() if row.is_option}
GROUP = "group"  # the table whose tables are the other groups
PROCESSES = "processes"  # what a program's workers are called in its table
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", re.ASCII)
NOT_IN_A_FILE = ("insecure_paths",)  # it says whether files are trusted at all
LONGEST = 1024 * 1024  # bytes of a file: the master reads it at each reload, whatever it became
CONFIG_VARIABLE = "CLUSTERD_CONFIG"  # names the file, so it is no setting in it


@dataclass(frozen=True, slots=True)
class Given:
    """A value somebody gave, and where."""

    value: Any
    origin: str


def from_command_line(values: Mapping[str, object]) -> dict[str, Given]:
    """Options that were given; the application is an argument, not an option."""
    return {
        name: Given(values[name], "APP" if name == "app" else row.flag)
        for name, row in TABLE.items()
        if values.get(name) not in (None, ())
    }


def from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """`CLUSTERD_*` and `WEB_CONCURRENCY`. An empty variable counts as not set.

    A variable that resembles a setting's is a slip and refused; any other is not ours to judge,
    since Kubernetes puts CLUSTERD_PORT and its like in every container beside a service of our
    name.
    """
    found: dict[str, Given] = {}
    if environ.get(WEB_CONCURRENCY):
        found["workers"] = Given(environ[WEB_CONCURRENCY], WEB_CONCURRENCY)
    for variable, value in environ.items():
        if variable in VARIABLES and value:
            found[VARIABLES[variable]] = Given(value, variable)
        elif variable.startswith("CLUSTERD_") and variable not in VARIABLES:
            near = difflib.get_close_matches(variable[9:].lower(), TABLE, 1, 0.8)
            if near and variable != CONFIG_VARIABLE:
                raise ConfigError(
                    f"{variable}: no setting has this name; did you mean {TABLE[near[0]].variable}?"
                )
    return found


def find_file(values: Mapping[str, object], environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file to read: the one named, else clusterd.toml, else pyproject.toml, else none."""
    named = values.get("config") or environ.get(CONFIG_VARIABLE)
    if named:
        return cwd / str(named)
    for name in (FILE, PROJECT):
        try:
            if stat.S_ISREG(os.stat(cwd / name).st_mode):
                return cwd / name
        except PermissionError:
            raise ConfigError(
                f"{cwd} may not be entered, so it is not known whether it has a {name}",
                "Go to another directory first (cd /), or name a file with --config.",
            ) from None
        except OSError:
            pass  # there is no such file
    return None


@dataclass(frozen=True, slots=True)
class Written:
    """What a file says: keys at its top, and those in the tables of groups and of jobs."""

    top: dict[str, Given] = field(default_factory=dict)
    groups: dict[str, dict[str, Given]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Given]] = field(default_factory=dict)  # by the group's name


def from_file(path: Path | None) -> Written:
    """The settings in a file; raises ConfigError for what cannot be read or is not known."""
    if path is None:
        return Written()
    table, place = _parse(path), path.name
    if path.name == PROJECT:
        table, place = table.get("tool", {}).get("clusterd", {}), f"{PROJECT} [tool.clusterd]"
        if not isinstance(table, dict):
            raise ConfigError(f"{place}: is no table")
    tables = _tables(table, place)
    top = {key: value for key, value in table.items() if key not in (MAIN, GROUP, JOBS)}
    groups = {
        name: _known(found, f"{place} [{_heading(name)}]", _in_a_group(found))
        for name, found in tables.items()
    }
    known = _known(top, place, lambda row: row.is_option and not row.about.key)
    return Written(known, groups, _jobs(table, place, tables))


def _tables(table: Mapping[str, Any], place: str) -> dict[str, dict[str, Any]]:
    """`[web]`, and `[group.NAME]` of any other group."""
    tables = table.get(GROUP, {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{place}: group is no table: groups are written as [group.NAME]")
    if MAIN in table and MAIN in tables:
        raise ConfigError(f"{place}: [{MAIN}] and [{GROUP}.{MAIN}] are the same group")
    found = {MAIN: table[MAIN]} if MAIN in table else {}
    for name, one in (found | tables).items():
        if not isinstance(one, dict):
            raise ConfigError(f"{place} [{_heading(name)}]: is no table")
        if not NAME.fullmatch(name):
            raise ConfigError(f"{place}: {name!r} is no name of a group: letters, digits, - and _")
    return found | tables


def _jobs(
    table: Mapping[str, Any], place: str, groups: Mapping[str, object]
) -> dict[str, dict[str, Given]]:
    """Return what `[jobs]` says, and `[jobs.NAME]` of further groups, which have it as well."""
    own = table.get(JOBS, {})
    if not isinstance(own, dict):
        raise ConfigError(f"{place}: {JOBS} is no table: settings of jobs are written in [{JOBS}]")
    inner = {name: one for name, one in own.items() if isinstance(one, dict)}
    inner.pop("environment", None)
    first = {key: value for key, value in own.items() if key not in inner}
    found = {JOBS: _job_settings(first, f"{place} [{JOBS}]")} if JOBS in table else {}
    for name, one in inner.items():
        if not NAME.fullmatch(name):
            raise ConfigError(f"{place}: {name!r} is no name of a group: letters, digits, - and _")
        for key in one.keys() & {"store", "namespace"}:
            raise ConfigError(
                f"{place} [{JOBS}.{name}]: {key} is for all jobs: write it in [{JOBS}]"
            )
        found[f"{JOBS}-{name}"] = found[JOBS] | _job_settings(one, f"{place} [{JOBS}.{name}]")
    for name in found.keys() & groups.keys():
        raise ConfigError(f"{place}: the group {name} runs jobs, and [{GROUP}.{name}] is another")
    return found


def _job_settings(table: Mapping[str, Any], place: str) -> dict[str, Given]:
    """Return the settings of a table of jobs: its own keys, and those of any group."""
    short = {row.about.key: row.name for row in TABLE.values() if row.scope is Scope.JOBS}
    found = {
        short[key]: Given(value, f"{place} {key}") for key, value in table.items() if key in short
    }
    rest = {key: value for key, value in table.items() if key not in short}
    for key in rest:
        if key not in TABLE:
            near = difflib.get_close_matches(
                key.lower().replace("-", "_"), [*short, *TABLE], 1, 0.6
            )
            hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(short)}"
            raise ConfigError(f"{place}: {key!r} is no setting of jobs{hint}")
    return found | _known(rest, place, _fits_jobs)


def _fits_jobs(row: Setting) -> bool:
    """Return whether a setting that is not of jobs may stand in their table."""
    autoscales = row.name in ("min_workers", "max_workers")
    environment = row.name == "environment"
    return row.name in OF_IMPORTS or environment or (row.scope is Scope.GROUP and not autoscales)


def _heading(name: str) -> str:
    return name if name == MAIN else f"{GROUP}.{name}"


def _in_a_group(table: Mapping[str, Any]) -> Callable[[Setting], bool]:
    """What may stand in the table of a group depends on what it runs."""
    other = Scope.APP if "command" in table else Scope.COMMAND
    both = ("bind", "backlog")  # of sockets that are handed to a program
    return lambda row: row.scope not in (Scope.CLUSTER, other) or row.name in both


def _known(
    table: Mapping[str, Any], place: str, fits: Callable[[Setting], bool]
) -> dict[str, Given]:
    """The settings of one table, each with the place it came from."""
    found: dict[str, Given] = {}
    for key, value in table.items():
        name = "workers" if key == PROCESSES and "command" in table else key
        if name not in TABLE:
            raise ConfigError(f"{place}: {_unknown(key, value)}")
        if name in NOT_IN_A_FILE:
            raise ConfigError(f"{place}: {key} counts only as {TABLE[name].flag} or in a variable")
        if not fits(TABLE[name]):
            runs = "jobs" if fits is _fits_jobs else "a command"
            raise ConfigError(f"{place}: {key} {_belongs(TABLE[name], runs)}")
        found[name] = Given(value, f"{place} {key}")
    return found


def _belongs(row: Setting, runs: str) -> str:
    where = {
        Scope.CLUSTER: "is for all groups: write it at the top of the file",
        Scope.APP: f"is for groups that serve an application, and this one runs {runs}",
        Scope.COMMAND: "is for groups that run a command: write it beside the command",
        Scope.GROUP: "does not belong here",
        Scope.JOBS: f"is written as {row.about.key} in [{JOBS}]",
    }
    return where[row.scope]


def _unknown(key: str, value: Any) -> str:
    near = difflib.get_close_matches(key.lower().replace("-", "_"), TABLE, 1, 0.6)
    hint = f"; did you mean {near[0]}?" if near else "; 'clusterd config' lists all"
    if isinstance(value, dict):
        hint = f"; tables are [{MAIN}], [{GROUP}.NAME] and [{JOBS}], and settings are plain keys"
    return f"{key!r} is no setting{hint}"


def read_text(path: str | Path) -> str:
    """Return the text of a file of settings. Raises ConfigError for any other kind of file.

    The master reads it at each reload and must not wait, as it would for a FIFO that another
    process has put there (O_NONBLOCK).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            about = os.fstat(fd)
            if not stat.S_ISREG(about.st_mode):
                raise ConfigError(f"{path}: is not a regular file")
            if about.st_size > LONGEST:
                raise ConfigError(f"{path}: is larger than {LONGEST} bytes")
            with open(fd, encoding="utf-8", newline="", closefd=False) as file:
                return file.read(LONGEST)  # it may grow meanwhile
        finally:
            os.close(fd)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text, at byte {error.start}") from None


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: its values are nested too deeply") from None
