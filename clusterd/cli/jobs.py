"""`clusterd jobs`: look at the jobs in a store, and steer them. No cluster need run."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from clusterd.app.importer import load
from clusterd.cli.here import directory
from clusterd.cli.jobs_views import listing, page, statistics
from clusterd.config.convert import convert
from clusterd.config.jobs import STORE
from clusterd.config.settings import TABLE
from clusterd.core.errors import ClusterdError, ConfigError
from clusterd.core.exits import Exit
from clusterd.core.terminal import clean_lines
from clusterd.jobs.api import Jobs
from clusterd.jobs.drive import run as run_plainly
from clusterd.jobs.options import Given, read_seconds
from clusterd.jobs.places import find_store, in_settings
from clusterd.jobs.records import Filter, JobInfo
from clusterd.jobs.states import State
from clusterd.jobs.store import Store
from clusterd.jobs.stores import open_store
from clusterd.jobs.times import now as microseconds

Function = TypeVar("Function", bound=Callable[..., Any])
STATES = [state.label for state in State]
BATCH = 500  # jobs that are changed in one transaction, so that workers do not wait
BAR = 5000  # jobs from which on a bar shows how far it is


class NoSuchJob(ClusterdError):
    """A command names a job that the store does not hold."""

    exit = Exit.FAILED


class Ordered(click.Group):
    """A group whose commands are listed as they are defined."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def which_store(function: Function) -> Function:
    """Add the option that says which store is meant."""
    return click.option(
        "--store",
        metavar="URL",
        help="Store of the jobs.  [CLUSTERD_JOBS_STORE, else [jobs] in clusterd.toml]",
    )(function)


def which_jobs(function: Function) -> Function:
    """Add the options and arguments that say which jobs are meant."""
    for add in (
        click.option("--text", metavar="TEXT", help="Only with this in arguments or error."),
        click.option("--name", metavar="NAME", help="Only of this function."),
        click.option("--queue", metavar="QUEUE", help="Only of this queue."),
        click.option(
            "--state",
            "states",
            multiple=True,
            type=click.Choice(STATES),
            help="Only in this state; may be given more than once.",
        ),
        click.argument("ids", nargs=-1, metavar="[ID]..."),
        which_store,
    ):
        function = add(function)
    return function


def as_json(function: Function) -> Function:
    """Add the option for programs."""
    return click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")(function)


def opened(store: str | None) -> Store:
    """Return the store that is meant, opened. Raises StoreError, StoreUnavailable."""
    found = open_store(store or find_store(os.environ, directory()))
    run_plainly(found, found.open())
    return found


def filter_of(values: dict[str, Any], limit: int) -> Filter:
    """Return the filter that options say."""
    return Filter(
        ids=tuple(values["ids"]),
        states=tuple(State[label.upper()] for label in values["states"]),
        queue=values["queue"] or "",
        name=values["name"] or "",
        text=values["text"] or "",
        limit=limit,
    )


@click.group(cls=Ordered)
def jobs() -> None:
    """Look at background jobs, and steer them.

    Commands work on the store itself, whether a cluster runs or not.

    \b
      clusterd jobs ls --state discarded
      clusterd jobs show 01977f3e5c0a7c3f9d2f6a1b2c3d4e5f
      clusterd jobs retry --queue mail --state discarded
    """


@jobs.command()
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=50, help="How many.  [50]")
@click.option("--before", metavar="ID", help="Only older ones than this: the next page.")
@as_json
@which_jobs
def ls(store: str | None, count: int, before: str | None, as_json: bool, **values: Any) -> None:
    """List jobs, the newest first."""
    filter = dataclasses.replace(filter_of(values, count), before=before or "")
    kept = opened(store)
    found = run_plainly(kept, kept.find(filter))
    if as_json:
        for info in found:
            click.echo(json.dumps(as_object(info)))
    else:
        click.echo(clean_lines(listing(found, microseconds())))


@jobs.command()
@click.argument("id")
@as_json
@which_store
def show(store: str | None, id: str, as_json: bool) -> None:
    """Show a job: its arguments, attempts, log, result or error."""
    kept = opened(store)
    info = run_plainly(kept, kept.get(id))
    if info is None:
        raise NoSuchJob(f"the store holds no job {id}", "'clusterd jobs ls' lists them.")
    if as_json:
        click.echo(json.dumps(as_object(info), indent=2))
    else:
        click.echo(clean_lines(page(info, microseconds())))


@jobs.command()
@as_json
@which_store
def stats(store: str | None, as_json: bool) -> None:
    """Show the queues: how many jobs are in each state, and how long the first one waits."""
    kept = opened(store)
    now, found = microseconds(), run_plainly(kept, kept.stats())
    if not as_json:
        click.echo(clean_lines(statistics(found, now)))
        return
    for queue in found:
        waits = (now - queue.oldest_available) / 1e6 if queue.oldest_available else 0.0
        counts = {state.label: queue.counts.get(state, 0) for state in State}
        told = {"queue": queue.queue, "paused": queue.paused, "waits": waits, **counts}
        click.echo(json.dumps(told))


@jobs.command()
@click.argument("name")
@click.argument("arguments", metavar="[JSON]", default="{}")
@click.option("--jobs", "app", metavar="MODULE:JOBS", help="The jobs.  [app in [jobs]]")
@click.option("--app-dir", metavar="DIR", help="Directory to import from.  [app_dir in settings]")
@click.option("--queue", metavar="QUEUE", help="Queue.  [the job's]")
@click.option("--priority", metavar="N|NAME", help="Priority.  [the job's]")
@click.option("--delay", metavar="TIME", help="Run it after this time: 30, 10m, 2h.")
@click.option("--unique", metavar="KEY", help="Not while an unfinished one has this key.")
@which_store
def enqueue(
    store: str | None, name: str, arguments: str, app: str | None, app_dir: str | None, **given: Any
) -> None:
    """Enqueue a job by its name, with its arguments as a JSON object.

    The application is imported, so that the arguments are checked as in a call.

    \b
      clusterd jobs enqueue shop.jobs.welcome '{"email": "x@example.com"}'
    """
    if store:
        os.environ[STORE] = store
    found = imported(app, app_dir)
    job = found.registry.get(name)
    if job is None:
        known = ", ".join(sorted(found.registry)) or "none"
        raise NoSuchJob(f"the application has no job {name}", f"It has: {known}.")
    try:
        args, kwargs = job.signature.decode(arguments.encode())
        handle = job.options(**options_of(given)).enqueue(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from None
    click.echo(handle.id if handle.created else f"{handle.id} (it was there)")


def options_of(given: dict[str, Any]) -> Given:
    """Return the options of one enqueue. Raises ValueError."""
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if "delay" in options:
        options["delay"] = read_seconds("delay", options["delay"])
    priority = options.get("priority", "")
    if priority.lstrip("-").isdigit():
        options["priority"] = int(priority)
    result: Given = options  # type: ignore[assignment]  # `job.options` checks each
    return result


def imported(app: str | None, app_dir: str | None) -> Jobs:
    """Return the application's jobs. Raises ConfigError or AppError."""
    app = convert(TABLE["jobs"], app) if app else None
    settings = in_settings(os.environ, directory())
    if app is None and settings is None:
        raise ConfigError(
            "no jobs are named",
            "Say --jobs MODULE:JOBS, or write app into [jobs] of clusterd.toml.",
        )
    name, home, factory = app, app_dir, False
    if settings is not None:
        name = app or settings.app.app
        home = app_dir or settings.app.app_dir
        factory = settings.app.factory
    found = load(name or "", home or ".", factory, "asgi")
    if not isinstance(found, Jobs):
        raise ConfigError(f"{name} is a {type(found).__name__}, and no clusterd.jobs.Jobs")
    return found


# --- what changes many

Change = Callable[[Store, Filter], int]


def change(store: str | None, values: dict[str, Any], done: str, act: Change) -> None:
    """Change the jobs that are meant, in batches, and say how many they were."""
    if not any(values[key] for key in ("ids", "states", "queue", "name", "text")):
        raise click.UsageError("say which jobs: by ID, --state, --queue, --name or --text")
    kept, filter, total = opened(store), filter_of(values, BATCH), 0
    shows = sys.stderr.isatty()
    while True:
        changed = act(kept, filter)
        total += changed
        if shows and total >= BAR:
            click.echo(f"\r{total} {done}", nl=False, err=True)
        if not changed:  # a batch may be cut short by those that must be left out
            break
    if shows and total >= BAR:
        click.echo(err=True)
    click.echo(f"{total} {done}")


@jobs.command()
@which_jobs
def retry(store: str | None, **values: Any) -> None:
    """Run jobs again that have ended, with fresh attempts."""
    change(store, values, "run again", lambda kept, filter: run_plainly(kept, kept.retry(filter)))


@jobs.command()
@which_jobs
def cancel(store: str | None, **values: Any) -> None:
    """Cancel jobs that have not ended; running ones are asked to stop."""
    change(store, values, "cancelled", lambda kept, filter: run_plainly(kept, kept.cancel(filter)))


@jobs.command("run-now")
@which_jobs
def run_now(store: str | None, **values: Any) -> None:
    """Run jobs now that wait for their time."""
    change(store, values, "run now", lambda kept, filter: run_plainly(kept, kept.run_now(filter)))


@jobs.command()
@which_jobs
def purge(store: str | None, **values: Any) -> None:
    """Delete jobs that have ended; also waiting ones, where --state names their state."""
    change(store, values, "deleted", lambda kept, filter: run_plainly(kept, kept.purge(filter)))


@jobs.command()
@click.argument("queue")
@which_store
def pause(store: str | None, queue: str) -> None:
    """Hand out no more jobs of a queue. Those that run go on."""
    kept = opened(store)
    run_plainly(kept, kept.pause(queue, True))
    click.echo(f"{queue} is paused")


@jobs.command()
@click.argument("queue")
@which_store
def resume(store: str | None, queue: str) -> None:
    """Hand out the jobs of a queue again."""
    kept = opened(store)
    run_plainly(kept, kept.pause(queue, False))
    click.echo(f"{queue} goes on")


def as_object(info: JobInfo) -> dict[str, Any]:
    """Return a job as programs want it: times in seconds since the epoch, JSON as it is."""
    told = dataclasses.asdict(info)
    for key in ("payload", "progress_data", "result"):
        told[key] = readable(told[key])
    for key in ("run_at", "expires_at", "lease_until", "created", "started", "finished"):
        told[key] = told[key] / 1e6 or None
    told["state"] = info.state.label
    told["history"] = [
        {**dataclasses.asdict(one), "at": one.at / 1e6, "started": one.started / 1e6 or None}
        for one in info.history
    ]
    return told


def readable(data: bytes) -> Any:
    """Return JSON as it is; of what a codec made, a remark."""
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError:
        return f"<{len(data)} bytes, encoded by the application>"
