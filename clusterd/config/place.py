"""Where the control socket lies, by which commands find the cluster."""

import os
from collections.abc import Mapping
from pathlib import Path

from clusterd.config import runtime_dir
from clusterd.config.address import LONGEST_PATH
from clusterd.config.settings import TABLE, PlaceSettings
from clusterd.core.errors import ConfigError


def directory_of(place: PlaceSettings, environ: Mapping[str, str]) -> str | None:
    """Return the runtime directory that is set, else the first that can be used, else None."""
    return place.runtime_dir or runtime_dir.find(environ, os.geteuid())


def control_path(place: PlaceSettings, environ: Mapping[str, str]) -> str | None:
    """`<runtime dir>/<name>.sock`, or None where there is no runtime directory."""
    directory = directory_of(place, environ)
    if directory is None:
        return None
    path = str(Path(directory) / f"{place.name}.sock")
    if (length := len(path.encode("utf-8", "surrogateescape"))) > LONGEST_PATH:
        raise ConfigError(
            f"runtime_dir: the control socket's path {path} would have {length} bytes, and a "
            f"Unix socket's has at most {LONGEST_PATH}"
        )
    return path


def identity(place: PlaceSettings) -> dict[str, str]:
    """What log lines begin with: the cluster's name, where it was given one."""
    return {} if place.name == TABLE["name"].default else {"name": place.name}
