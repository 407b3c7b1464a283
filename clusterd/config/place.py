"""Where the control socket lies, by which commands find the cluster."""

from collections.abc import Mapping
from pathlib import Path

from clusterd.config.address import LONGEST_PATH
from clusterd.config.settings import TABLE, PlaceSettings
from clusterd.core.errors import ConfigError


def runtime_dir(place: PlaceSettings, environ: Mapping[str, str]) -> str | None:
    """The directory told, else systemd's, else the session's; None: there is none."""
    if place.runtime_dir:
        return place.runtime_dir
    # systemd.exec(5): with several RuntimeDirectory= entries the paths are joined by colons.
    if told := environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return told
    if session := environ.get("XDG_RUNTIME_DIR"):
        return str(Path(session) / "clusterd")
    return None


def control_path(place: PlaceSettings, environ: Mapping[str, str]) -> str | None:
    """`<runtime dir>/<name>.sock`, or None where there is no runtime directory."""
    directory = runtime_dir(place, environ)
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
