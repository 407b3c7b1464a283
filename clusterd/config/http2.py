"""Whether HTTP/2 is spoken, which takes a package that not everybody has."""

import importlib.util
from typing import Any

from clusterd.core.errors import ConfigError


def is_installed() -> bool:
    """Looks for the package, and does not import it."""
    return importlib.util.find_spec("h2") is not None


def is_spoken(http2: str) -> bool:
    """What the setting comes to here."""
    return http2 != "off" and is_installed()


def check(values: dict[str, Any], origins: dict[str, str], has_it: bool | None = None) -> None:
    """Raises ConfigError where it is asked for and cannot be had."""
    if values["http2"] == "on" and not (is_installed() if has_it is None else has_it):
        raise ConfigError(
            f"{origins['http2']}: http2 is on, and the package h2 is not installed",
            "pip install 'clusterd[h2]', or let http2 be auto",
        )
