"""All sources merged: command line over environment over file over default, origins kept."""

import graphlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from clusterd.config import commands, http2, internal, jobs, procfile, scaling, tls, watch
from clusterd.config.address import Unix, parse_bind
from clusterd.config.convert import AUTO, convert
from clusterd.config.cpus import available_cpus
from clusterd.config.kinds import DEFAULT, MAIN, Kind, Scope
from clusterd.config.memory import memory_budget
from clusterd.config.settings import SECTIONS, TABLE, Config, PlaceSettings
from clusterd.config.sources import (
    Given,
    Written,
    find_file,
    from_command_line,
    from_environment,
    from_file,
)
from clusterd.core.errors import ConfigError

EVERYBODY = "user"  # who workers are is said for all groups that do not say otherwise
# What a group has for itself, whatever the top of a file says.
ITS_OWN = ("app", "bind", "workers", "min_workers", "max_workers")
BARE: dict[str, Any] = {"bind": (), "workers": 1}  # what such a group has where it says nothing


def load(
    cli_values: Mapping[str, object], environ: Mapping[str, str], cwd: str | os.PathLike[str]
) -> Config:
    """What was decided; raises ConfigError in one line that says where, what and what instead.

    `cli_values` holds what was given on the command line, by setting, and `config`, the file's
    path. Whether there is an application to run is for the caller to check.
    """
    here = Path(cwd)
    file = from_file(find_file(cli_values, environ, here))
    own = file.groups.get(MAIN, {})
    told = from_environment(environ), from_command_line(cli_values)
    return _whole(here, file.top, own, *told)


def load_groups(
    cli_values: Mapping[str, object], environ: Mapping[str, str], cwd: str | os.PathLike[str]
) -> dict[str, Config]:
    """Every group by its name, those that others wait for first; raises ConfigError.

    The command line and the environment speak of the group `web` and, in settings that are for
    all (and who workers are), of the cluster. Other groups take what stands at the top of the file
    where their own table says nothing, but for `app`, `bind` and the numbers of workers. A user
    on the command line is that of every group, whatever the file says.
    """
    here = Path(cwd)
    main = load(cli_values, environ, cwd)
    file = from_file(find_file(cli_values, environ, here))
    tables = file.groups | procfile.groups(main.place.procfile, file.groups)
    shared = {name: one for name, one in file.top.items() if name not in ITS_OWN}
    typed = from_command_line(cli_values)
    told = from_environment(environ) | typed
    # No file makes another user of a group than the operator has typed.
    last = {name: one for name, one in typed.items() if name == EVERYBODY}
    common = {
        name: one
        for name, one in told.items()
        if TABLE[name].scope is Scope.CLUSTER or name == EVERYBODY
    }
    found: dict[str, Config] = {}
    for name, own in tables.items():
        if name != MAIN:
            found[name] = _whole(here, _for(own, shared) | common, own, last, start=BARE)
            _check_group(name, found[name])
    if MAIN in tables and "command" in tables[MAIN]:
        if main.app.app:
            raise ConfigError(f"the group {MAIN} has an application and a command")
        own = tables[MAIN]
        found[MAIN] = _whole(here, _for(own, shared) | common, own, last, start=BARE)
        _check_group(MAIN, found[MAIN])
    elif not main.app.app and MAIN in tables and found:
        raise ConfigError(
            f"the group {MAIN} needs an app or a command",
            f'write app = "module:attribute" or command = "…" into [{MAIN}]',
        )
    run = _job_groups(here, file, told, last)
    if MAIN not in found and (main.app.app or not (found or run)):
        found = {MAIN: main} | found
    found = jobs.share(found | run, environ, here)
    return in_order(found | internal.groups(main, found, environ))


def _job_groups(
    here: Path, file: Written, told: Mapping[str, Given], last: Mapping[str, Given]
) -> dict[str, Config]:
    """Return the groups that run jobs. What is said of the application counts for them, too, where
    their own table says nothing; what the command line says of jobs is of the group `jobs`."""
    tables = dict(file.jobs)
    # A store in the environment is there for scripts, too, and asks for no job workers.
    typed = [one for name, one in told.items() if TABLE[name].scope is Scope.JOBS]
    if "jobs" in told or any(one.origin.startswith("--") for one in typed):
        tables.setdefault(jobs.GROUP, {})
    shared = {
        name: one
        for name, one in {**file.top, **told}.items()
        if name not in ITS_OWN and TABLE[name].scope is not Scope.JOBS
    }
    found = {}
    for name, own in tables.items():
        said = {
            key: one
            for key, one in told.items()
            if TABLE[key].scope is Scope.JOBS and (name == jobs.GROUP or key == "jobs_store")
        }
        found[name] = jobs.group(_whole(here, shared, own, said, last, start={"bind": ()}))
    return found


def _for(own: Mapping[str, Given], shared: dict[str, Given]) -> dict[str, Given]:
    """What a group takes from the top of the file: for a program, nothing that is said of an
    application."""
    if "command" not in own:
        return shared
    return {
        name: one
        for name, one in shared.items()
        if TABLE[name].scope is not Scope.APP and name not in commands.OF_APPLICATIONS
    }


def _check_group(name: str, config: Config) -> None:
    """Raise ConfigError where a group has nothing to run, or too much, or a name of ours."""
    if name in internal.NAMES:
        raise ConfigError(f"no group can be named {name}: clusterd has one of its own")
    if bool(config.app.app) == bool(config.command.command):
        raise ConfigError(
            f"the group {name} needs an app or a command, and not both",
            f'write app = "module:attribute" or command = "…" into [group.{name}]',
        )
    if config.command.command:
        commands.check(name, config)
    if config.app.app and not config.listen.bind:
        raise ConfigError(f"the group {name} has no address: write bind into [group.{name}]")


def in_order(groups: dict[str, Config]) -> dict[str, Config]:
    """Those that others name in `after` first. Raises ConfigError for a name that is not there,
    and for groups that wait for each other."""
    for name, config in groups.items():
        unknown = [other for other in config.fleet.after if other not in groups]
        if unknown:
            raise ConfigError(
                f"{name} is to start after {unknown[0]!r}, and there is no such group"
            )
    waits = {name: config.fleet.after for name, config in groups.items()}
    try:
        return {name: groups[name] for name in graphlib.TopologicalSorter(waits).static_order()}
    except graphlib.CycleError as error:
        circle = " after ".join(error.args[1])
        raise ConfigError(f"these groups wait for each other: {circle}") from None


def _whole(
    here: Path, *sources: Mapping[str, Given], start: Mapping[str, Any] = MappingProxyType({})
) -> Config:
    """The settings of one group. `start` is what counts where no source says anything."""
    values, origins = _settle(*sources)
    values |= {name: value for name, value in start.items() if origins[name] == DEFAULT}
    _finish(values, origins, here)
    sections = {
        section: make(
            **{row.name: values[row.name] for row in TABLE.values() if row.section == section}
        )
        for section, make in SECTIONS.items()
    }
    return Config(**sections, origins=origins)


def load_place(
    cli_values: Mapping[str, object], environ: Mapping[str, str], cwd: str | os.PathLike[str]
) -> tuple[PlaceSettings, str, frozenset[str]]:
    """Return where to look for a running cluster, a remark, and which of its settings are set.

    A file that cannot be read must not keep anybody from stopping what runs: it is left out,
    and the remark says so.
    """
    here, remark, file = Path(cwd), "", dict[str, Given]()
    try:
        file = from_file(find_file(cli_values, environ, here)).top
    except ConfigError as error:
        remark = error.message
    given = file | from_environment(environ) | from_command_line(cli_values)
    names = [row.name for row in TABLE.values() if row.section == "place"]
    values, _ = _settle({name: given[name] for name in names if name in given})
    place = PlaceSettings(**{name: values[name] for name in names})
    if place.runtime_dir:
        place = replace(place, runtime_dir=_absolute(here, place.runtime_dir))
    return place, remark, frozenset(given)


def _settle(*sources: Mapping[str, Given]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values and origins of all settings; a later source wins.

    What is overruled must be right too: it counts on the day when nothing overrules it.
    """
    values = {name: row.default for name, row in TABLE.items()}
    origins = dict.fromkeys(TABLE, DEFAULT)
    for name, one in (pair for source in sources for pair in source.items()):
        try:
            values[name] = convert(TABLE[name], one.value)
        except ConfigError as error:
            raise ConfigError(f"{one.origin}: {error.message}") from None
        origins[name] = one.origin
    return values, origins


def _finish(values: dict[str, Any], origins: dict[str, str], cwd: Path) -> None:
    """What depends on the machine, on the directory, or on another setting."""
    if values["dev"]:
        _for_development(values, origins)
    if values["workers"] == AUTO:
        cpus = available_cpus()
        values["workers"] = min(cpus, int(TABLE["workers"].about.high))
        origins["workers"] += f" (auto: {cpus} CPU{'s' * (cpus > 1)})"
    if not values["memory_budget"]:
        values["memory_budget"] = memory_budget(max(values["workers"], values["max_workers"]))
    if values["app"].endswith("()"):
        values["app"] = values["app"].removesuffix("()")
        values["factory"], origins["factory"] = True, origins["app"]
    if values["log_file"] == "-":  # the name that standard error has in gunicorn
        values["log_file"] = ""
    for name, row in TABLE.items():
        if row.about.kind is Kind.PATH and values[name]:
            values[name] = _absolute(cwd, values[name])
        elif row.about.kind is Kind.PATHS:
            values[name] = tuple(_absolute(cwd, path) for path in values[name])
    try:
        values["bind"] = tuple(_anchor(text, cwd) for text in values["bind"])
        values["admin"] = _anchor(values["admin"], cwd) if values["admin"] else ""
    except ConfigError as error:
        raise ConfigError(f"{origins['bind']}: {error.message}") from None
    tls.check(values, origins)
    http2.check(values, origins)
    scaling.check(values, origins)


def _for_development(values: dict[str, Any], origins: dict[str, str]) -> None:
    """What `--dev` means where nobody said otherwise. A reload waits for nothing that is open, and
    who sits at a debugger's prompt is not replaced."""
    wanted = {
        "workers": 1,
        "access_log": True,
        "min_ready": 0.0,
        "graceful_timeout": 2.0,
        "stream_grace": 0.0,
        "hang_timeout": 0.0,
        "stall_timeout": 0.0,
        "reload": watch.is_installed(),
    }
    for name, value in wanted.items():
        if origins[name] == DEFAULT:
            values[name], origins[name] = value, "--dev"
    if origins["reload"] == "--dev" and not values["reload"]:
        origins["reload"] = watch.MISSING


def _anchor(text: str, cwd: Path) -> str:
    """A socket file's path made absolute, since whoever unlinks it may be elsewhere by then."""
    address = parse_bind(text)
    if isinstance(address, Unix):
        anchored = replace(address, path=_absolute(cwd, address.path))
        return str(parse_bind(str(anchored)))
    return str(address)


def _absolute(cwd: Path, path: str) -> str:
    """Absolute, but links stay links: deployments switch them and reload."""
    return os.path.normpath(cwd / Path(path).expanduser())
