"""Groups of our own: what clusterd runs beside what it was asked to run."""

from clusterd.config.settings import Config

NAMES = ("admin", "watch")


def groups(main: Config) -> dict[str, Config]:
    """Those that the settings ask for, by name."""
    return {}
