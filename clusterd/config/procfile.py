"""A Procfile: a group in each line, as `name: command`."""

from collections.abc import Mapping

from clusterd.config.sources import Given


def groups(path: str, known: Mapping[str, object]) -> dict[str, dict[str, Given]]:
    """The settings of each line's group. Raises ConfigError."""
    return {}
