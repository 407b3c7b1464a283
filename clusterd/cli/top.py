"""`clusterd top`: a live page at a terminal, or one page of text."""

import os
import sys
import time
from typing import Any

import click

from clusterd.cli.feed import Feed, memory
from clusterd.cli.here import client
from clusterd.cli.options import which_cluster
from clusterd.observe.snapshot import Snapshot
from clusterd.observe.top import Page, plain

WIDTH = 80  # columns, where nobody says how many there are


@click.command()
@which_cluster
@click.option("--once", is_flag=True, help="Print one page, with the rates of one interval.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 60.0),
    default=1.0,
    metavar="SECONDS",
    help="Time between two looks.  [1]",
)
def top(once: bool, interval: float, **values: Any) -> None:
    """Watch the workers live, at a terminal.

    \b
      up, down   choose a worker      s   sort        d   where workers are in the code
      + and -    scale                r   reload      h   what the columns mean
      tab        choose a group       R   restart     q   leave

    Colours are left out where NO_COLOR is set. Without a terminal, one page is printed.
    """
    first = Snapshot.of(client(values).ask("status", detail=True))  # or says that none runs
    if once or not is_terminal():
        time.sleep(interval)
        shot = Snapshot.of(client(values).ask("status", detail=True))
        click.echo(plain(Page((first, shot), memory(shot)), width()))
        return
    from clusterd.cli import screen  # curses, which not everybody has

    feed = Feed(lambda: client(values), interval)
    screen.show(feed, Page((first,)), has_colours=not os.environ.get("NO_COLOR"))


def is_terminal() -> bool:
    """Can a page be drawn there?"""
    drawable = os.environ.get("TERM", "dumb") not in ("", "dumb")
    return drawable and sys.stdin.isatty() and sys.stdout.isatty()


def width() -> int:
    """Columns of the page that is printed: those of the terminal, or COLUMNS, or 80."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(1).columns or WIDTH
    except OSError:
        return WIDTH
