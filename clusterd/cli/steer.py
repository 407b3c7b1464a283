"""Commands that change what a running cluster does."""

from collections.abc import Mapping
from typing import Any

import click

from clusterd.cli import progress
from clusterd.cli.here import client
from clusterd.cli.options import which_cluster
from clusterd.config.kinds import MAIN
from clusterd.core.errors import ConfigError
from clusterd.core.terminal import clean


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


group_option = click.option(
    "--group", metavar="NAME", help="Only this group, e.g. web.  [all, or the main one]"
)


def meant(group: str | None) -> dict[str, str]:
    """The group that a request names, if it does."""
    return {"group": group} if group else {}


wait_option = click.option(
    "--wait", is_flag=True, help="Return when it is over: 0 if it succeeded, else 1."
)


@click.command()
@wait_option
@click.option("--certs", is_flag=True, help="Only read the TLS certificates again; no rollout.")
@group_option
@which_cluster
def reload(wait: bool, certs: bool, group: str | None, **values: Any) -> None:
    """Roll in new code and settings, losing no request.

    Settings are read again and the application is imported afresh. One new worker is started
    beside the old ones; when it is ready and stays so, the others are replaced one by one. If
    anything fails before the end, the old code serves on and --wait says why.

    With --certs, certificates and keys are read again, from where the settings said at the last
    rollout, and new connections get them once the command returns. Files that cannot be used
    change nothing, and the command says why.
    """
    if certs:
        reply = client(values).ask("certificates", **meant(group))
        names = clean(", ".join(reply["names"])) or "no names"
        click.echo(f"new connections get the certificates for {names}, until {reply['expires']}")
    else:
        _roll("reload", wait, values, meant(group))


@click.command()
@wait_option
@group_option
@which_cluster
def rollback(wait: bool, group: str | None, **values: Any) -> None:
    """Return to the previous code at once.

    Works while the previous generation is kept in memory (rollback_keep, 10 minutes unless set;
    less where memory is short). Nothing is kept of a program, nor of an application that is
    imported in each worker: there, put the old code back and use 'clusterd reload'.
    """
    _roll("rollback", wait, values, meant(group))


def _roll(name: str, wait: bool, values: dict[str, Any], whose: dict[str, str]) -> None:
    """Start a rollout, and wait for its end if asked to."""
    asked = client(values)
    reply = progress.rollout(asked, name, whose) if wait else asked.ask(name, **whose)
    numbers = reply.get("generations", {MAIN: reply.get("generation", "?")})
    for group, generation in numbers.items():
        of = "" if set(numbers) == {MAIN} else f" of {group}"
        if wait:
            click.echo(f"generation {generation}{of} serves")
        elif reply.get("queued"):
            click.echo(f"generation {generation}{of} follows the rollout under way")
        else:
            click.echo(f"{name} to generation {generation}{of} has begun; see 'clusterd status'")
    for group, why in reply.get("no_rollback", {}).items():
        click.echo(f"no rollback of {group} will be possible: {clean(why)}")
    for group, why in reply.get("left", {}).items():
        click.echo(f"{group} is not rolled back: {clean(why)}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("size", metavar="[GROUP=]N|+N|-N|auto")
@click.option("--force", is_flag=True, help="Also beyond four workers per CPU.")
@group_option
@which_cluster
def scale(size: str, force: bool, group: str | None, **values: Any) -> None:
    """Change the number of workers: to N, or by +N or -N.

    \b
      clusterd scale 8
      clusterd scale +1
      clusterd scale worker=4        of the group 'worker'
      clusterd scale auto            between min_workers and max_workers, by load

    The size holds over reloads until the setting 'workers' itself changes, and autoscaling leaves
    it alone until 'clusterd scale auto'.
    """
    named, equals, amount = size.rpartition("=")
    whose = {"group": named} if equals else meant(group)
    if amount == "auto":
        reply = client(values).ask("scale", to=amount, **whose)
        click.echo(f"{reply['size']} workers wanted{_of(reply)}, more or fewer by their load")
        return
    digits = amount.removeprefix("+").removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(amount) - len(digits) > 1:
        raise ConfigError(f"scale: {size!r} is not allowed; allowed: N, +N, -N or auto, or GROUP=N")
    step = amount[0] in "+-"
    how: dict[str, Any] = {"by" if step else "to": int(amount)}
    if force:
        how["force"] = True
    reply = client(values).ask("scale", **how, **whose)
    click.echo(f"{reply.get('size', amount)} workers wanted{_of(reply)}")


def _of(reply: Mapping[str, Any]) -> str:
    """Which group a reply speaks of, where it is not the main one."""
    return f" in {reply['group']}" if reply.get("group", MAIN) != MAIN else ""


@click.command()
@click.argument("slot", type=click.IntRange(min=0))
@group_option
@which_cluster
def restart(slot: int, group: str | None, **values: Any) -> None:
    """Replace one worker, the new one first.

    SLOT is its number, as 'clusterd status' shows it. The new worker is ready when the command
    returns, and then the old one finishes what it has. One that is blocked cannot: where it
    stands is logged, and it is killed a second after its successor is ready.
    """
    reply = client(values).ask("restart", slot=slot, **meant(group))
    click.echo(f"slot {slot} is served by process {reply['pid']}")


@click.command()
@which_cluster
def upgrade(**values: Any) -> None:
    """Become the clusterd that is installed now, in place.

    Today's interpreter and clusterd are tried first, with the real state. Then the master
    executes them in its own process: same pid, same sockets, same workers, and nobody who is
    connected notices. If the trial fails nothing has changed, and the command says why and ends
    with 1. Workers keep the code that they have until the next 'clusterd reload'.
    """
    reply = progress.rollout(client(values), "upgrade", {})
    before = reply.get("previous")
    was = f" (it was {before})" if before != reply.get("version") else ""
    click.echo(f"the master runs clusterd {reply.get('version')} now{was}")


def _plain(name: str, done: str, doc: str, of_group: bool = True) -> click.Command:
    """A command that needs no more than its name."""

    @which_cluster
    def command(group: str | None = None, **values: Any) -> None:
        client(values).ask(name, **meant(group))
        click.echo(done)

    command.__doc__ = doc
    return click.command(name)(group_option(command) if of_group else command)


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
    of_group=False,
)
