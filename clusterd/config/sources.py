"""Where values come from: the command line, the environment, and a file."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusterd.config.settings import TABLE
from clusterd.core.errors import ConfigError

FILE = "clusterd.toml"
PROJECT = "pyproject.toml"
WEB_CONCURRENCY = "WEB_CONCURRENCY"
VARIABLES = {row.variable: row.name for row in TABLE.values()}
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
        if (cwd / name).is_file():
            return cwd / name
    return None


def from_file(path: Path | None) -> dict[str, Given]:
    """The settings in a file; raises ConfigError for what cannot be read or is not known."""
    if path is None:
        return {}
    table, place = _parse(path), path.name
    if path.name == PROJECT:
        table, place = table.get("tool", {}).get("clusterd", {}), f"{PROJECT} [tool.clusterd]"
        if not isinstance(table, dict):
            raise ConfigError(f"{place}: is no table")
    for key, value in table.items():
        if key not in TABLE:
            raise ConfigError(f"{place}: {_unknown(key, value)}")
    return {key: Given(value, f"{place} {key}") for key, value in table.items()}


def _unknown(key: str, value: Any) -> str:
    near = difflib.get_close_matches(key.lower().replace("-", "_"), TABLE, 1, 0.6)
    hint = f"; did you mean {near[0]}?" if near else "; 'clusterd config' lists all"
    if isinstance(value, dict):
        hint = "; settings are plain keys, not in tables of their own"
    return f"{key!r} is no setting{hint}"


def _parse(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text, at byte {error.start}") from None
