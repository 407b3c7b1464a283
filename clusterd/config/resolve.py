"""All sources merged: command line over environment over file over default, origins kept."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from clusterd.config import http2, tls
from clusterd.config.address import Unix, parse_bind
from clusterd.config.convert import AUTO, convert
from clusterd.config.cpus import available_cpus
from clusterd.config.kinds import Kind
from clusterd.config.settings import SECTIONS, TABLE, Config, PlaceSettings
from clusterd.config.sources import (
    Given,
    find_file,
    from_command_line,
    from_environment,
    from_file,
)
from clusterd.core.errors import ConfigError

DEFAULT = "default"


def load(
    cli_values: Mapping[str, object], environ: Mapping[str, str], cwd: str | os.PathLike[str]
) -> Config:
    """What was decided; raises ConfigError in one line that says where, what and what instead.

    `cli_values` holds what was given on the command line, by setting, and `config`, the file's
    path. Whether there is an application to run is for the caller to check.
    """
    here = Path(cwd)
    values, origins = _settle(
        from_file(find_file(cli_values, environ, here)),
        from_environment(environ),
        from_command_line(cli_values),
    )
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
) -> tuple[PlaceSettings, str]:
    """Where to look for a running cluster, and a remark.

    A file that cannot be read must not keep anybody from stopping what runs: it is left out,
    and the remark says so.
    """
    here, remark, file = Path(cwd), "", dict[str, Given]()
    try:
        file = from_file(find_file(cli_values, environ, here))
    except ConfigError as error:
        remark = error.message
    given = file | from_environment(environ) | from_command_line(cli_values)
    names = [row.name for row in TABLE.values() if row.section == "place"]
    values, _ = _settle({name: given[name] for name in names if name in given})
    place = PlaceSettings(**{name: values[name] for name in names})
    if place.runtime_dir:
        place = replace(place, runtime_dir=_absolute(here, place.runtime_dir))
    return place, remark


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
    if values["workers"] == AUTO:
        cpus = available_cpus()
        values["workers"] = min(cpus, int(TABLE["workers"].about.high))
        origins["workers"] += f" (auto: {cpus} CPU{'s' * (cpus > 1)})"
    if values["app"].endswith("()"):
        values["app"] = values["app"].removesuffix("()")
        values["factory"], origins["factory"] = True, origins["app"]
    for name, row in TABLE.items():
        if row.about.kind is Kind.PATH and values[name]:
            values[name] = _absolute(cwd, values[name])
        elif row.about.kind is Kind.PATHS:
            values[name] = tuple(_absolute(cwd, path) for path in values[name])
    try:
        values["bind"] = tuple(_anchor(text, cwd) for text in values["bind"])
    except ConfigError as error:
        raise ConfigError(f"{origins['bind']}: {error.message}") from None
    tls.check(values, origins)
    http2.check(values, origins)


def _anchor(text: str, cwd: Path) -> str:
    """A socket file's path made absolute, since whoever unlinks it may be elsewhere by then."""
    address = parse_bind(text)
    if isinstance(address, Unix):
        anchored = Unix(_absolute(cwd, address.path), address.mode)
        return str(parse_bind(str(anchored)))
    return str(address)


def _absolute(cwd: Path, path: str) -> str:
    """Absolute, but links stay links: deployments switch them and reload."""
    return os.path.normpath(cwd / Path(path).expanduser())
