"""A Procfile: a group in each line, as `name: command`.

A command of plain words runs as it is; one in which a shell would see more is given to `sh -c`,
behind `exec` where it is a single command, so that no shell stays between. Every process finds a
`PORT` of its own: the groups begin at 5000, or at the `PORT` that clusterd was started with, 100
apart, and each slot has one more than the one before. So the next one of a slot starts when the
one before has ended.
"""

import os
import re
import shlex
from collections.abc import Mapping

from clusterd.config.kinds import MAIN
from clusterd.config.sources import GROUP, NAME, Given, read_text
from clusterd.core.errors import ConfigError

LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(.+)", re.ASCII)
SPECIAL = re.compile(r"""[$`*?\[\]{}~#<>|&;()!\n]""")  # read by a shell beyond words and quotes
STRUCTURE = re.compile(r"[<>|&;()`\n!{}#]|\$\(")  # more than one plain command, or a redirection
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
SHELL = "/bin/sh"
FIRST_PORT = 5000
APART = 100


def groups(path: str, known: Mapping[str, object]) -> dict[str, dict[str, Given]]:
    """The settings of each line's group; none where there is no file. `known`: groups that the
    settings have from elsewhere. Raises ConfigError."""
    if not path:
        return {}
    port = first_port()
    found: dict[str, dict[str, Given]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        origin = f"{os.path.basename(path)} line {number}"
        name, argv = parse(line, origin)
        if name in found:
            raise ConfigError(f"{origin}: {name} stands here twice")
        if name in known:
            table = name if name == MAIN else f"{GROUP}.{name}"
            raise ConfigError(f"{origin}: {name} is a group already, by [{table}]")
        variables = [f"PORT={port + APART * len(found)}"]
        found[name] = {
            "command": Given(argv, origin),
            "environment": Given(variables, origin),
            "overlap": Given(False, origin),  # the next one in a slot has the same port
        }
    return found


def parse(line: str, origin: str) -> tuple[str, list[str]]:
    """The group's name and the arguments of its program. Raises ConfigError."""
    match = LINE.fullmatch(line.strip())
    if match is None:
        raise ConfigError(f"{origin}: {line.strip()!r} is not NAME: COMMAND")
    name, command = match.groups()
    if not NAME.fullmatch(name):
        raise ConfigError(f"{origin}: {name!r} is no name of a group: letters, digits, - and _")
    if not SPECIAL.search(command) and not ASSIGNMENT.match(command):
        try:
            return name, shlex.split(command)
        except ValueError as error:
            raise ConfigError(f"{origin}: {command!r} is no command: {error}") from None
    if STRUCTURE.search(command) or ASSIGNMENT.match(command):
        return name, [SHELL, "-c", command]
    return name, [SHELL, "-c", f"exec {command}"]


def first_port() -> int:
    """Where the ports of the groups begin."""
    told = os.environ.get("PORT", "")
    return int(told) if told.isascii() and told.isdecimal() else FIRST_PORT
