"""The number of workers, where autoscaling may change it."""

from typing import Any

from clusterd.core.errors import ConfigError


def check(values: dict[str, Any], origins: dict[str, str]) -> None:
    """Begin within the bounds. Raises ConfigError for bounds that leave no room."""
    lowest, highest = values["min_workers"], values["max_workers"]
    if not highest:
        return
    if values["command"]:
        raise ConfigError(
            f"{origins['max_workers']}: autoscaling goes by what fills an application's workers, "
            "and a command does not say",
            "set workers, and change it with 'clusterd scale'",
        )
    if lowest > highest:
        raise ConfigError(
            f"{origins['min_workers']}: min_workers is {lowest}, more than max_workers, {highest}"
        )
    begin = min(max(values["workers"], lowest), highest)
    if begin != values["workers"]:
        values["workers"] = begin
        origins["workers"] += f" (within {lowest} to {highest})"
