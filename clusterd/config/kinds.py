"""What a setting can be, and what is known of one: the vocabulary of the table in `settings`."""

import enum
from dataclasses import dataclass, field
from typing import Any


class Kind(enum.StrEnum):
    """How a setting's value is written and read."""

    TEXT = "text"
    CHOICE = "choice"
    SWITCH = "switch"
    COUNT = "count"
    BYTES = "bytes"
    SECONDS = "seconds"
    WORKERS = "workers"
    ADDRESSES = "addresses"
    APP = "app"
    PATH = "path"
    PATHS = "paths"
    PEERS = "peers"
    WORDS = "words"
    WHOLE = "whole"  # a whole number that may be negative
    OCTAL = "octal"
    NAMES = "names"
    HOSTS = "hosts"
    MODULES = "modules"
    ARGV = "argv"
    PAIRS = "pairs"
    ADDRESS = "address"


DEFAULT = "default"  # where a value comes from that nobody gave
MAIN = "web"  # the group that the command line, the environment and top-level keys speak of
PLURAL = frozenset({Kind.ADDRESSES, Kind.PATHS, Kind.PEERS, Kind.NAMES, Kind.HOSTS, Kind.MODULES})


class Scope(enum.StrEnum):
    """Whose a section of settings is."""

    CLUSTER = "cluster"  # one for all
    GROUP = "group"  # each group's, whatever it runs
    APP = "app"  # of groups that serve an application
    COMMAND = "command"  # of groups that run a program
    JOBS = "jobs"  # of jobs; written in tables of their own


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a setting beside its name, type and default."""

    help: str
    kind: Kind
    short: str = ""  # the one-letter option
    metavar: str = ""
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = 0  # 0: no upper limit
    shown: str = ""  # the default, where the field's own says little
    key: str = ""  # in a file, where that is not the name: in a table of its own


def setting(default: Any, help: str, kind: Kind, **more: Any) -> Any:
    """A field of the table."""
    return field(default=default, metadata={"about": About(help, kind, **more)})


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    section: str
    default: Any
    about: About
    scope: Scope = Scope.APP

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def path(self) -> str:
        """Return how a file names it: `workers`, or `jobs.workers` in a table of its own."""
        return f"{self.section}.{self.about.key}" if self.about.key else self.name

    @property
    def is_option(self) -> bool:
        """Whether the command line and the environment know it: a program stands in a file."""
        return self.scope is not Scope.COMMAND

    @property
    def is_plural(self) -> bool:
        """Whether it may be given more than once."""
        return self.about.kind in PLURAL

    @property
    def is_on_or_off(self) -> bool:
        """Whether it is a choice that may be made as a switch is: with true, false or the option
        alone."""
        return {"on", "off"}.issubset(self.about.choices)

    @property
    def variable(self) -> str:
        return "CLUSTERD_" + self.name.upper()
