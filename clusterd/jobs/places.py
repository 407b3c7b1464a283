"""Find the store of an application's jobs where nothing but the environment says it."""

from collections.abc import Mapping
from pathlib import Path

from clusterd.config.jobs import STORE, is_group
from clusterd.config.resolve import load_groups
from clusterd.config.settings import Config
from clusterd.config.sources import FILE, find_file, from_file
from clusterd.jobs.store import StoreError


def find_store(environ: Mapping[str, str], cwd: str | Path) -> str:
    """Return the store's URL. Raises StoreError where there is none, ConfigError for a bad file.

    It is in the variable, which the processes of a cluster have; else the settings are read as
    `clusterd run` would read them, in this directory or the nearest one above it that has a file
    with a table of jobs. So a script finds what its cluster uses.
    """
    if url := environ.get(STORE):
        return url
    if (found := in_settings(environ, cwd)) is not None:
        return found.jobs.jobs_store
    raise StoreError(
        f"no job store: {STORE} is not set, and neither {cwd} nor a directory above it has a "
        f"{FILE} with a table [jobs]",
        f"Set {STORE}=sqlite:/path/to/jobs.sqlite3, or write app and store into [jobs] of {FILE}.",
    )


def in_settings(environ: Mapping[str, str], cwd: str | Path) -> Config | None:
    """Return the settings of the job group in the nearest file that has one. Raises ConfigError."""
    start = Path(cwd).absolute()
    for directory in (start, *start.parents):
        file = find_file({}, environ, directory)
        if file is not None and from_file(file).jobs:
            groups = load_groups({}, environ, directory)
            return next(one for name, one in groups.items() if is_group(name, one))
    return None
