"""Settings of jobs, and the groups that run them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from clusterd.config.kinds import DEFAULT, Kind, setting
from clusterd.core.errors import ConfigError
from clusterd.core.urls import absolute_file

if TYPE_CHECKING:
    from clusterd.config.settings import Config

GROUP = "jobs"  # the group of [jobs]; that of [jobs.NAME] is jobs-NAME
STORE = "CLUSTERD_JOBS_STORE"  # the variables by which processes are told
QUEUES = "CLUSTERD_JOBS_QUEUES"
CONCURRENCY = "CLUSTERD_JOBS_CONCURRENCY"
SQLITE = "sqlite:"
REDIS = ("redis", "rediss", "unix")  # schemes: plain, with TLS, and a Unix socket
FILE = "jobs.sqlite3"
# Beside settings of any group, what a table of jobs may say of how its application is imported.
OF_IMPORTS = ("app_dir", "factory", "preload", "preload_modules")


@dataclass(frozen=True, slots=True)
class JobsSettings:
    """Jobs"""

    jobs: str = setting(
        "",
        "The application's jobs, as module:attribute: an object of clusterd.jobs.Jobs, which job "
        "workers run.",
        Kind.APP,
        metavar="MODULE:JOBS",
        shown="none",
        key="app",
    )
    jobs_workers: int = setting(
        1, "Number of job workers.", Kind.COUNT, low=1, high=480, key="workers"
    )
    jobs_concurrency: int = setting(
        10,
        "Jobs that one job worker runs at the same time.",
        Kind.COUNT,
        low=1,
        high=1000,
        key="concurrency",
    )
    jobs_queues: tuple[str, ...] = setting(
        (),
        "Queues that job workers serve: a queue is served while those before it are empty.",
        Kind.NAMES,
        metavar="QUEUE",
        shown="all that the application's jobs name",
        key="queues",
    )
    jobs_store: str = setting(
        "",
        "Where jobs are stored: sqlite:PATH, a file on a disk of this machine; or redis://HOST/DB, "
        "for workers on many machines (rediss: with TLS, unix: a socket). All processes of the "
        "application find it in CLUSTERD_JOBS_STORE.",
        Kind.WORDS,
        metavar="URL",
        shown=f"sqlite:{FILE} in $STATE_DIRECTORY, else in clusterd/NAME in $XDG_STATE_HOME or "
        "~/.local/state; without a name, the module of jobs.app is in its place",
        key="store",
    )
    jobs_namespace: str = setting(
        "",
        "Which jobs of a Redis server are meant: applications with different namespaces never see "
        "each other's. Needed there unless the cluster has a name.",
        Kind.WORDS,
        metavar="NAME",
        shown="the cluster's name",
        key="namespace",
    )


def group(config: "Config") -> "Config":
    """Return the settings of a job group: an application that serves no address.

    `config` is what its table and the sources before it say. Raises ConfigError.
    """
    jobs = config.jobs
    if not jobs.jobs:
        raise ConfigError(
            "there are settings of jobs, and no jobs are named",
            'write app = "module:attribute" into [jobs], or say --jobs MODULE:JOBS',
        )
    name, called = jobs.jobs.removesuffix("()"), jobs.jobs.endswith("()")
    origins = config.origins | {
        "app": config.origins["jobs"],
        "workers": config.origins["jobs_workers"],
    }
    return replace(
        config,
        app=replace(config.app, app=name, interface="asgi", factory=called or config.app.factory),
        listen=replace(config.listen, bind=()),
        fleet=replace(config.fleet, workers=jobs.jobs_workers, max_workers=0, min_workers=1),
        http=replace(config.http, http2="off"),
        tls=type(config.tls)(),
        log=replace(config.log, access_log=False),
        origins=origins,
    )


def share(
    groups: "Mapping[str, Config]", environ: Mapping[str, str], here: Path
) -> "dict[str, Config]":
    """Return all groups, those that run jobs made whole, and the store told to all.

    Raises ConfigError for a store that cannot be, or that is not the same for all.
    """
    runs = {name: config for name, config in groups.items() if is_group(name, config)}
    if not runs:
        return dict(groups)
    stores = {config.jobs.jobs_store for config in runs.values()}
    if len(stores) > 1:
        raise ConfigError(f"jobs have one store, and these are named: {', '.join(sorted(stores))}")
    first = next(iter(runs.values()))
    url = _store(first, environ, here)
    return {name: _told(config, url, is_job_group=name in runs) for name, config in groups.items()}


def is_group(name: str, config: "Config") -> bool:
    """Return whether a group runs jobs."""
    return bool(config.jobs.jobs) and (name == GROUP or name.startswith(f"{GROUP}-"))


def _told(config: "Config", url: str, is_job_group: bool) -> "Config":
    """Have the processes of a group find the store, and job workers what else they need."""
    jobs = replace(config.jobs, jobs_store=url)
    pairs = [f"{STORE}={url}"]
    if is_job_group:
        pairs += [
            f"{QUEUES}={','.join(jobs.jobs_queues)}",
            f"{CONCURRENCY}={jobs.jobs_concurrency}",
        ]
    # What the group itself sets comes last, and so counts.
    environment = (*pairs, *config.command.environment)
    return replace(config, jobs=jobs, command=replace(config.command, environment=environment))


def _store(config: "Config", environ: Mapping[str, str], here: Path) -> str:
    """Return the store's URL, its path absolute. Raises ConfigError."""
    given = config.jobs.jobs_store
    origin = config.origins["jobs_store"]
    if not given:
        return SQLITE + str(_default_path(config, environ))
    scheme, colon, path = given.partition(":")
    if colon and scheme in REDIS:
        return _redis(config, given)
    if not colon or scheme != "sqlite" or not path.strip("/"):
        raise ConfigError(
            f"{origin}: {scheme + ':…' if colon else repr(given)} is no store of jobs",
            "write sqlite:PATH, a file on a disk of this machine, or redis://HOST/DB",
        )
    return absolute_file(given, str(here))


def _redis(config: "Config", given: str) -> str:
    """Return the URL of a store in Redis, with its namespace. Raises ConfigError."""
    name = config.place.name if config.origins.get("name", DEFAULT) != DEFAULT else ""
    namespace = config.jobs.jobs_namespace or name
    server, _, query = given.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not options.setdefault("namespace", namespace):
        raise ConfigError(
            f"{config.origins['jobs_store']}: jobs on a server need a namespace, which keeps the "
            "jobs of applications apart",
            'write namespace = "…" into [jobs], or give the cluster a name (--name)',
        )
    if name:
        options.setdefault("application", name)
    return f"{server}?{urlencode(options)}"


def _default_path(config: "Config", environ: Mapping[str, str]) -> Path:
    if state := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(state) / FILE
    if config.limits.user and config.origins.get("user", DEFAULT) != DEFAULT:
        raise ConfigError(
            f"jobs need a place where {config.limits.user} may write, and none is named",
            "say --jobs-store sqlite:PATH, in a directory of that user; or StateDirectory= in a "
            "unit of systemd",
        )
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "/") / ".local/state")
    name = config.place.name
    if config.origins.get("name", DEFAULT) == DEFAULT:
        # All applications without a name have the same one: they would run each other's jobs.
        name = config.jobs.jobs.partition(":")[0]
    return Path(base) / "clusterd" / name / FILE
