"""Commands that change what a running cluster does."""

from typing import Any

import click

from clusterd.cli import progress
from clusterd.cli.here import client
from clusterd.cli.options import which_cluster
from clusterd.core.errors import ConfigError


@click.command()
@which_cluster
@click.option("--no-wait", is_flag=True, help="Return at once instead of when it has ended.")
@click.option("--quick", is_flag=True, help="Drop what is in hand and say where it was, as QUIT.")
def stop(no_wait: bool, quick: bool, **values: Any) -> None:
    """Finish what is in hand, then end.

    Requests that have begun, and connections that wait in the queue, are answered first, for as
    long as graceful_timeout allows.
    """
    asked = client(values)
    if no_wait:
        asked.ask("stop", quick=quick)
        click.echo("stopping")
        return
    progress.until_gone(asked, quick)
    click.echo("stopped")


wait_option = click.option(
    "--wait", is_flag=True, help="Return when it is over: 0 if it succeeded, else 1."
)


@click.command()
@wait_option
@click.option("--certs", is_flag=True, help="Only read the TLS certificates again; no rollout.")
@which_cluster
def reload(wait: bool, certs: bool, **values: Any) -> None:
    """Roll in new code and settings, losing no request.

    Settings are read again and the application is imported afresh. One new worker is started
    beside the old ones; when it is ready and stays so, the others are replaced one by one. If
    anything fails before the end, the old code serves on and --wait says why.

    With --certs, certificates and keys are read again, from where the settings said at the last
    rollout, and new connections get them once the command returns. Files that cannot be used
    change nothing, and the command says why.
    """
    if certs:
        reply = client(values).ask("certificates")
        names = ", ".join(reply["names"]) or "no names"
        click.echo(f"new connections get the certificates for {names}, until {reply['expires']}")
    else:
        _roll("reload", wait, values)


@click.command()
@wait_option
@which_cluster
def rollback(wait: bool, **values: Any) -> None:
    """Return to the previous code at once.

    Works while the previous generation is kept in memory (rollback_keep, 10 minutes unless set).
    """
    _roll("rollback", wait, values)


def _roll(name: str, wait: bool, values: dict[str, Any]) -> None:
    """Start a rollout, and wait for its end if asked to."""
    reply = progress.rollout(client(values), name) if wait else client(values).ask(name)
    generation = reply.get("generation", "?")
    if wait:
        click.echo(f"generation {generation} serves")
    elif reply.get("queued"):
        click.echo(f"generation {generation} follows the rollout under way")
    else:
        click.echo(f"{name} to generation {generation} has begun; 'clusterd status' follows it")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("size", metavar="N|+N|-N")
@which_cluster
def scale(size: str, **values: Any) -> None:
    """Change the number of workers: to N, or by +N or -N.

    The size holds over reloads until the setting 'workers' itself changes.
    """
    digits = size.removeprefix("+").removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(size) - len(digits) > 1:
        raise ConfigError(f"scale: {size!r} is not allowed; allowed: N, +N or -N")
    step = size[0] in "+-"
    reply = client(values).ask("scale", **{"by" if step else "to": int(size)})
    click.echo(f"{reply.get('size', size)} workers wanted")


def _plain(name: str, done: str, doc: str) -> click.Command:
    """A command that needs no more than its name."""

    @which_cluster
    def command(**values: Any) -> None:
        client(values).ask(name)
        click.echo(done)

    command.__doc__ = doc
    return click.command(name)(command)


pause = _plain(
    "pause",
    "paused: workers leave, and new connections wait in the queue",
    """Let all workers leave; new connections wait.

    The sockets stay open, so clients queue instead of being refused, until 'clusterd resume'.
    """,
)
resume = _plain(
    "resume",
    "resumed",
    """Start the workers again after a pause.""",
)
reopen = _plain(
    "reopen",
    "log file reopened",
    """Reopen the log file, after rotating it.""",
)
