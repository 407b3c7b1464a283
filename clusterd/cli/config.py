"""`clusterd config`: every setting, its value, and where it came from."""

import json
import os

import click

from clusterd.cli.here import directory
from clusterd.cli.options import Grouped, every_setting
from clusterd.config.convert import show
from clusterd.config.resolve import load
from clusterd.config.settings import SECTIONS, TABLE, Config, title
from clusterd.core.terminal import clean_lines


@click.command(cls=Grouped)
@every_setting
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def config(as_json: bool, **values: object) -> None:
    """Show every setting, its value, and where it came from.

    Takes the same options as 'clusterd run' and decides in the same way: command line, then
    CLUSTERD_* and WEB_CONCURRENCY, then file, then default.
    """
    decided = load(values, os.environ, directory())
    click.echo(as_object(decided) if as_json else clean_lines(as_table(decided)))


def _rows(decided: Config) -> list[tuple[str, str, object, str]]:
    return [
        (row.section, name, getattr(getattr(decided, row.section), name), decided.origins[name])
        for name, row in TABLE.items()
    ]


def as_object(decided: Config) -> str:
    """Values as programs want them: seconds, bytes, lists."""
    return json.dumps(
        {name: {"value": value, "origin": origin} for _, name, value, origin in _rows(decided)},
        indent=2,
    )


def as_table(decided: Config) -> str:
    """Values as people write them, under the headings of the table."""
    lines = []
    name_width = max(len(row.path) for row in TABLE.values())
    rows = [(s, TABLE[n].path, show(TABLE[n], v) or "-", o) for s, n, v, o in _rows(decided)]
    width = min(30, max(len(value) for _, _, value, _ in rows))
    for section in SECTIONS:
        lines += ["", title(section)]
        lines += [
            f"  {name:<{name_width}}  {value:<{width}}  {origin}"
            for under, name, value, origin in rows
            if under == section
        ]
    return "\n".join(lines[1:])
