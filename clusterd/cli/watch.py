"""Commands that show what a running cluster does."""

import json
from typing import Any

import click

from clusterd.cli.here import client
from clusterd.cli.memory import measure
from clusterd.cli.options import which_cluster
from clusterd.cli.steer import group_option, meant
from clusterd.core.stacks import NO_STACKS, fold
from clusterd.core.terminal import clean_lines
from clusterd.kernel.unwind import stacks_from_outside
from clusterd.observe.line import event_line
from clusterd.observe.memory import as_object, memory_table
from clusterd.observe.snapshot import Snapshot
from clusterd.observe.table import table


@click.command()
@which_cluster
@click.option("--memory", is_flag=True, help="Measure the memory of every process, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def status(as_json: bool, memory: bool, **values: Any) -> None:
    """Show the workers and what they do.

    CONNS are open connections and BUSY requests in flight; PULSE is how long ago the worker's
    event loop last turned, which grows past a second or two only when something blocks it.
    """
    reply = client(values).ask("status")
    shot = Snapshot.of(reply)
    measured = measure(shot) if memory else []
    if as_json:
        click.echo(json.dumps(reply | (as_object(measured) if memory else {}), indent=2))
    else:
        click.echo(table(shot) + ("\n\n" + memory_table(measured) if memory else ""))


@click.command()
@which_cluster
@click.option("-f", "--follow", is_flag=True, help="Go on showing events as they happen.")
@click.option("--since", type=int, default=0, metavar="N", help="Only events after number N.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
def events(follow: bool, since: int, as_json: bool, **values: Any) -> None:
    """Show what happened, and with --follow what happens.

    Events are numbered and the latest few thousand are kept, so a watcher that comes back with
    --since misses none.
    """
    for event in client(values).events(since, follow):
        click.echo(json.dumps(event) if as_json else event_line(event))


@click.command()
@which_cluster
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.option("--all", "everything", is_flag=True, help="Also frames of clusterd and libraries.")
@group_option
def dump(as_json: bool, everything: bool, group: str | None, **values: Any) -> None:
    """Show where each worker is in the code right now.

    The application's frames are shown; those of clusterd and of libraries are counted, except the
    newest one of each thread or task, which tells what it waits for. --all shows every frame.

    On Python 3.15 and newer the threads of a worker that does not run at all, e.g. one stopped by
    SIGSTOP, are read from its memory, as far as this user may trace it.
    """
    reply = client(values).ask("dump", **meant(group))
    for one in reply.get("dumps", ()):
        if one.get("text") == NO_STACKS and (stacks := stacks_from_outside(one["pid"])):
            one["text"] = f"{NO_STACKS}; this is read from its memory:\n{stacks}"
    if as_json:
        click.echo(json.dumps(reply, indent=2))
        return
    for one in reply.get("dumps", ()):
        click.echo(f"worker={one.get('slot')} gen={one.get('generation')} pid={one.get('pid')}")
        text = str(one.get("text", "")).rstrip()
        shown = text if everything else "\n".join(fold(text, "--all shows them"))
        click.echo(clean_lines(shown) + "\n")
