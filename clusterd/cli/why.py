"""`clusterd why`: the last deaths and failed rollouts, put together from journal and log."""

import json
import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from clusterd.cli.here import client, directory
from clusterd.cli.options import which_cluster
from clusterd.cli.steer import group_option
from clusterd.config import runtime_dir
from clusterd.config.resolve import load_place
from clusterd.core.errors import ConfigError, NotRunning
from clusterd.ipc import last_run
from clusterd.ipc.client import Client
from clusterd.observe.tail import last_lines
from clusterd.observe.why import Story, page, stories

TAIL = 2 * 1024 * 1024  # bytes of the log's end that are looked at


@click.command()
@click.argument("slot", type=click.IntRange(min=0), required=False)
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=3, metavar="N", help="How many ends.  [3]"
)
@click.option("--log-file", metavar="FILE", help="Log to look into.  [the cluster's own]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object an end, for programs.")
@group_option
@which_cluster
def why(
    slot: int | None,
    count: int,
    log_file: str | None,
    as_json: bool,
    group: str | None,
    **values: Any,
) -> None:
    """Tell why workers died and rollouts failed, the latest first.

    For each: what ended it, what that usually means, what the cluster did then, what the worker
    was doing where a dump or a traceback is known, what it logged last, and what to do. Workers
    that were asked to leave, and did, are no news.

    Where no cluster runs, it tells of the last run of the one that --name and --runtime-dir say,
    unless its master was killed with -9.

    SLOT is the number of a worker, as 'clusterd status' shows it: only its ends are told. The log
    is looked into where it is a file.
    """
    asked: Client | None = None
    try:
        asked = client(values)
        events = list(asked.events())
    except NotRunning as missing:
        events = of_last_run(values, missing)
    found = stories(events, slot, group or "")[:count]
    log = read_end(log_file) if log_file else own_log(asked)
    found = [with_log(story, log) for story in found]
    if as_json:
        for story in found:
            click.echo(json.dumps(story._asdict()))
    else:
        click.echo(page(found, time.time()))


def with_log(story: Story, log: Sequence[str]) -> Story:
    """The same with the last lines that this very process logged."""
    if story.pid is None or story.generation is None:
        return story
    return story._replace(said=last_lines(log, story.pid, story.generation))


def of_last_run(values: Mapping[str, object], missing: NotRunning) -> list[dict[str, Any]]:
    """Return the last events of the run that has ended, and say that it has.

    Raises NotRunning where no record of it is left, with the advice of `missing`.
    """
    place, remark, told = load_place(values, os.environ, directory())
    directories = runtime_dir.searched(os.environ, os.geteuid())
    if place.runtime_dir:
        directories = [place.runtime_dir]
    events = last_run.read(place.name, directories, os.environ)
    if not events:
        named = f" named {place.name!r}" if "name" in told else ""
        reason = f"no cluster{named} runs, and the last run left no record (was its master killed?)"
        raise NotRunning(reason + (f" ({remark})" if remark else ""), missing.remedy)
    ended = last_run.ended(events)
    click.echo(f"{place.name} does not run; its last run ended at {ended}", err=True)
    return events


def own_log(asked: Client | None) -> list[str]:
    """The end of the log that the master writes, where that is a file that we may read."""
    if asked is None:
        return []  # which file it was is not known any more
    reply = asked.ask("status", detail=True)
    path = f"/proc/{reply['pid']}/fd/{reply.get('log', 2)}"
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return []
        return read_end(path)
    except (OSError, ConfigError):
        return []


def read_end(path: str) -> list[str]:
    """The lines at a file's end. Raises ConfigError."""
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read(TAIL).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise ConfigError(f"why: {path} cannot be read: {error.strerror}") from None
