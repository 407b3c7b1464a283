"""What the settings of a group that runs a program must say, beyond what each says for itself."""

import re

from clusterd.config.kinds import DEFAULT
from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError

# Settings of any group that a program has no part in: nobody counts what it serves, and it has no
# event loop. At the top of a file they are meant for applications.
OF_APPLICATIONS = (
    "parallel_start",
    "min_workers",
    "max_workers",
    "max_requests",
    "max_requests_jitter",
    "hang_dump",
    "hang_timeout",
    "stall_timeout",
)
LINE = "line:"  # before the pattern of a line that tells of readiness


def check(name: str, config: Config) -> None:
    """Raises ConfigError for settings that contradict each other, or cannot be used."""
    command = config.command
    for key in OF_APPLICATIONS:
        if config.origins.get(key, DEFAULT) != DEFAULT:
            raise ConfigError(
                f"{config.origins[key]}: is for groups that serve an application, and this one "
                "runs a command"
            )
    try:
        pattern(command.readiness)
    except ConfigError as error:
        raise ConfigError(f"the group {name}: {error.message}", error.remedy) from None
    check_size(name, config, config.fleet.workers)


def check_size(name: str, config: Config, size: int) -> None:
    """Raises ConfigError where a group may not have so many processes."""
    if config.command.singleton and size > 1:
        raise ConfigError(
            f"the group {name} is a singleton and cannot have {size} processes",
            "write processes = 1, or leave singleton out",
        )


def pattern(readiness: str) -> re.Pattern[str] | None:
    """What a line must match that tells of readiness; None: no line is waited for."""
    if readiness in ("up", "notify"):
        return None
    if not readiness.startswith(LINE) or readiness == LINE:
        raise ConfigError(
            f"{readiness!r} is no readiness", "write up, notify or line: with a regular expression"
        )
    try:
        return re.compile(readiness.removeprefix(LINE))
    except re.error as error:
        raise ConfigError(f"{readiness!r}: not a regular expression: {error}") from None
