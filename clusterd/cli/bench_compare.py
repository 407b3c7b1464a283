"""`clusterd bench compare`: what changed between two reports."""

from pathlib import Path

import click

from clusterd.bench import compare as comparing
from clusterd.bench import store
from clusterd.core.terminal import clean


def compare(before: str, after: str) -> bool:
    """Print it; whether anything is worse by more than the noise. Raises ConfigError for files
    that hold no report."""
    found = comparing.compare(store.load(Path(before)), store.load(Path(after)))
    for line in comparing.text(found).splitlines():
        click.echo(clean(line))  # a report may be another's
    return bool(found.worse)
