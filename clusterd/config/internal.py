"""Groups of our own: what clusterd runs beside what it was asked to run."""

from collections.abc import Mapping

from clusterd.config import admin, jobs, scheduler, watch
from clusterd.config.settings import Config

ADMIN = "admin"
NAMES = (ADMIN, "watch", scheduler.NAME)


def groups(
    main: Config, others: Mapping[str, Config], environ: Mapping[str, str]
) -> dict[str, Config]:
    """Those that the settings ask for, by name. Raises ConfigError for what cannot work."""
    found = {}
    if runs := [config for name, config in others.items() if jobs.is_group(name, config)]:
        found[scheduler.NAME] = scheduler.group(runs[0], environ)
    if main.place.admin:
        found["admin"] = admin.group(main, environ)
    if main.dev.reload:
        found["watch"] = watch.group(main)
    return found
