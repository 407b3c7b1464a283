"""What is decided at the start, at each reload, and after an upgrade: without click, which takes
longer to import than all of it."""

import os
from collections.abc import Mapping
from pathlib import Path

from clusterd.config import internal
from clusterd.config.place import control_path
from clusterd.config.resolve import load_groups
from clusterd.config.settings import TABLE, Config
from clusterd.core.errors import ConfigError
from clusterd.kernel import privileges


def decide(values: Mapping[str, object], home: Path) -> dict[str, Config]:
    """Every source read, now and again at each reload; there must be something to run."""
    groups = load_groups(values, os.environ, home)
    several = len(groups) > 1
    for name, config in groups.items():
        if not (config.app.app or config.command.command):
            raise ConfigError(
                "run: no application is named; allowed: module:attribute, e.g. shop.main:app",
                "Try 'clusterd run clusterd.demo:app' to see it work.",
            )
        control_path(config.place, os.environ)  # raises where it is too long for a socket
        if name not in internal.NAMES:
            privileges.check(config.limits.user, name if several else "")
    return groups


def identity(config: Config) -> dict[str, str]:
    """What the master's lines begin with: the cluster's name, where it was given one."""
    name = config.place.name
    return {} if name == TABLE["name"].default else {"name": name}
