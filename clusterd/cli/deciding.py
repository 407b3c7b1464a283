"""What is decided at the start, at each reload, and after an upgrade: without click, which takes
longer to import than all of it."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from clusterd.config import internal
from clusterd.config.kinds import DEFAULT, MAIN
from clusterd.config.place import control_path
from clusterd.config.resolve import load_groups
from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError
from clusterd.kernel import privileges
from clusterd.master import trusted_paths

FOUND = "found"  # beside what the command line says: the runtime directory that was chosen
ACTIVATED = "activated"  # beside what the command line says: the sockets that we were started with


def decide(values: Mapping[str, object], home: Path) -> dict[str, Config]:
    """Read every source, now and again at each reload. There must be something to run, and as
    root nothing to read that workers could write."""
    found = str(values.get(FOUND) or "")
    # The directory that was chosen at the start comes first at each reload, too.
    environ = {**os.environ, **({"RUNTIME_DIRECTORY": found} if found else {})}
    groups = activated(load_groups(values, environ, home), values.get(ACTIVATED))
    if found:
        groups = {name: _placed(config, found) for name, config in groups.items()}
    for name, config in groups.items():
        if not (config.app.app or config.command.command):
            raise ConfigError(
                "run: no application is named; allowed: module:attribute, e.g. shop.main:app",
                "Try 'clusterd run clusterd.demo:app' to see it work.",
            )
        control_path(config.place, environ)  # raises where it is too long for a socket
        if name not in internal.NAMES:
            privileges.check(config.limits.user)
    faults = trusted_paths.faults_of_settings(groups, values, environ, home)
    trusted_paths.refuse(trusted_paths.SETTINGS, faults, groups)
    return groups


def _placed(config: Config, directory: str) -> Config:
    """Return the settings with a runtime directory, if they name none."""
    if config.place.runtime_dir:
        return config
    place = replace(config.place, runtime_dir=directory)
    return replace(config, place=place, origins=config.origins | {"runtime_dir": DEFAULT})


def activated(groups: dict[str, Config], passed: object) -> dict[str, Config]:
    """Where nobody said what to listen on, the main group listens on what systemd passed to us,
    but for what other groups name."""
    main = groups.get(MAIN)
    if main is None or not main.app.app or main.origins["bind"] != "default":
        return groups
    named = {text.partition(",")[0] for one in groups.values() for text in one.listen.bind}
    assert isinstance(passed, list | tuple | None)
    left = tuple(text for text in passed or () if text not in named)
    if not left:
        return groups
    listen = replace(main.listen, bind=left)
    origins = main.origins | {"bind": "LISTEN_FDNAMES"}
    return groups | {MAIN: replace(main, listen=listen, origins=origins)}
