"""Long waits at a terminal show what happens meanwhile; elsewhere they are silent."""

import sys
import threading
from typing import Any

import click

from clusterd.core.errors import ClusterdError
from clusterd.ipc.client import Client, Refused
from clusterd.observe.line import event_line
from clusterd.observe.snapshot import Snapshot


def rollout(client: Client, command: str) -> dict[str, Any]:
    """Start a rollout and wait for its end; raises Refused with the traceback if it failed."""
    if sys.stderr.isatty():
        latest = Snapshot.of(client.ask("status")).journal
        # A daemon thread: it ends with us, and its last lines matter no more than that.
        threading.Thread(target=_show, args=(client, latest), daemon=True).start()
    try:
        return client.ask(command, wait=True)
    except Refused as error:
        traceback = str(error.reply.get("traceback") or "").rstrip()
        raise Refused(
            error.message, "\n".join(filter(None, (traceback, error.remedy))), error.reply
        ) from None


def until_gone(client: Client) -> None:
    """Ask a cluster to stop and wait until it has: its journal's stream ends when it does."""
    latest = Snapshot.of(client.ask("status")).journal
    events = client.events(latest, follow=True)
    client.ask("stop")
    for event in events:
        if sys.stderr.isatty():
            click.echo(event_line(event), err=True)


def _show(client: Client, since: int) -> None:
    try:
        for event in client.events(since, follow=True):
            click.echo(event_line(event), err=True)
    except ClusterdError:
        pass  # the command itself reports what went wrong
