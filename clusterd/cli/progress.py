"""Long waits at a terminal show what happens meanwhile; elsewhere they are silent."""

import sys
import threading
from typing import Any

import click

from clusterd.core.errors import ClusterdError
from clusterd.core.stacks import fold
from clusterd.ipc.client import Client, Refused
from clusterd.observe.line import event_line
from clusterd.observe.snapshot import Snapshot

CATCH_UP = 1.0  # seconds that the last lines may take, should the master be gone meanwhile


def rollout(client: Client, command: str, whose: dict[str, str]) -> dict[str, Any]:
    """Start a rollout and wait for its end; raises Refused with the traceback if it failed."""
    watcher = Watcher(client) if sys.stderr.isatty() else None
    try:
        return client.ask(command, wait=True, **whose)
    except Refused as error:
        traceback = "\n".join(fold(str(error.reply.get("traceback") or "")))
        remedy = "\n".join(filter(None, (traceback, error.remedy)))
        raise Refused(error.message, remedy, error.reply) from None
    finally:
        if watcher is not None:
            watcher.catch_up()


def until_gone(client: Client, quick: bool = False) -> None:
    """Ask a cluster to stop and wait until it has: its journal's stream ends when it does."""
    events = client.events(_latest(client), follow=True)
    client.ask("stop", quick=quick)
    for event in events:
        if sys.stderr.isatty():
            click.echo(event_line(event), err=True)


class Watcher(threading.Thread):
    """Shows events from now on. A daemon: it ends with the command."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._events = client.events(_latest(client), follow=True)
        self._shown = 0
        self._news = threading.Condition()
        self.start()

    def run(self) -> None:
        try:
            for event in self._events:
                click.echo(event_line(event), err=True)
                with self._news:
                    self._shown = event["n"]
                    self._news.notify_all()
        except ClusterdError:
            pass  # the command itself reports what went wrong

    def catch_up(self) -> None:
        """Until all that has happened so far is shown."""
        try:
            latest = _latest(self._client)
        except ClusterdError:
            return
        with self._news:
            self._news.wait_for(lambda: self._shown >= latest, CATCH_UP)


def _latest(client: Client) -> int:
    """The number of the latest event."""
    return Snapshot.of(client.ask("status")).journal
