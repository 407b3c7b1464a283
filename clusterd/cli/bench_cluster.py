"""The clusterd that a benchmark starts: its command line, and what its control socket tells."""

import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clusterd.bench import shim
from clusterd.cli.deciding import decide
from clusterd.cli.here import directory
from clusterd.cli.run import run
from clusterd.config import internal
from clusterd.config.kinds import MAIN
from clusterd.config.settings import TABLE, Config
from clusterd.core.errors import ConfigError
from clusterd.ipc.client import Client
from clusterd.observe.snapshot import Snapshot

NAME = "bench"
READY = "ready"  # the phase of a worker that serves
ENDS = ("rollout_failed", "reload_refused", "rollout_finished")
# What of the user's settings would be in the way: somebody else's address, or a size that changes.
OURS = {
    "--bind": "127.0.0.1:{port}",
    "--workers": "{workers}",
    "--max-workers": "0",
    "--runtime-dir": "{folder}",
    "--name": NAME,
    "--log-format": "text",
    "--log-file": "",
    "--admin": "",
    "--pid-file": "",
}
# The same, as settings: of those that would make them unfit for where it runs.
IN_THE_WAY = {"runtime_dir": tempfile.gettempdir(), "admin": "", "pid_file": "", "log_file": ""}
REFUSED = {
    "bind": "It chooses a free port of 127.0.0.1.",
    "workers": "Give --workers before the --, as 1,4.",
    "runtime_dir": "It has one of its own.",
}
OFF = ("--no-dev", "--no-reload", "--no-proxy-protocol")


@dataclass(frozen=True, slots=True)
class Cluster:
    """How to start it: a command as `bench.server.Server` takes it, and where it then serves."""

    command: str
    config: Config
    env: dict[str, str] = field(default_factory=dict)
    scheme: str = "http"
    notes: tuple[str, ...] = ()


def cluster(app: str, passed: Sequence[str], app_dir: str | None, breakable: bool) -> Cluster:
    """The command that runs an application; raises ConfigError as 'clusterd run' would.

    What its settings come to is asked here, so that a refusal is told before anything is started.
    """
    words = [*passed, *(["--app-dir", app_dir] if app_dir else [])]
    with run.make_context("clusterd run", [app, *words]) as context:
        given = dict(context.params)
    given.pop("ready_fd", None)
    for name in REFUSED:
        if given.get(name):
            raise ConfigError(f"{TABLE[name].flag} is the benchmark's to say", REFUSED[name])
    groups = decide(given | IN_THE_WAY, directory())
    config = groups[MAIN]
    served, env = _shimmed(config) if breakable else (app, dict[str, str]())
    bind = OURS["--bind"]
    notes = _notes(groups)
    scheme = "https" if config.tls.tls_cert else "http"
    if config.tls.tls_cert and config.tls.tls_client_cert == "required":
        bind, scheme = f"{bind},tls=off", "http"
        notes.append("TLS was off: its clients must show a certificate, and the generator has none")
    parts = ["{python}", "-m", "clusterd.cli.main", "run", served, *words]
    for flag, value in (OURS | {"--bind": bind}).items():
        parts += [flag, value]
    command = " ".join(word if word.startswith("{") else shlex.quote(word) for word in parts)
    return Cluster(" ".join([command, *OFF]), config, env, scheme, tuple(notes))


def _shimmed(config: Config) -> tuple[str, dict[str, str]]:
    """The application by way of the shim. Its factory is called by whoever imports the shim."""
    call = "()" if config.app.factory else ""
    return f"{shim.__name__}:app{call}", {shim.APP: config.app.app}


def _notes(groups: dict[str, Config]) -> list[str]:
    config = groups[MAIN]
    others = [name for name in groups if name != MAIN and name not in internal.NAMES]
    notes = []
    if others:
        notes.append(f"the settings' other groups ran beside it: {', '.join(others)}")
    if config.log.access_log:
        notes.append("the access log was on, as the settings say")
    if config.dev.dev or config.dev.reload:
        notes.append("dev and reload were turned off")
    if config.fleet.max_workers:
        notes.append("autoscaling was turned off: each side has its number of workers")
    return notes


class Insight:
    """What `bench.insight` wants to know, and `bench.chaos` to do: over the control socket."""

    def __init__(self, folder: str) -> None:
        self._client = Client(os.path.join(folder, f"{NAME}.sock"))
        self._breaks = Path(folder) / shim.BREAKS
        self._since = 0  # the latest event before the broken deploy

    def requests(self) -> dict[int, int]:
        """Answered so far, by the pid of those workers that live."""
        return {one.pid: one.requests for one in self._snapshot().workers if one.group == MAIN}

    def workers(self) -> list[int]:
        """Pids of those that serve; [] while the master does not answer."""
        return [
            one.pid for one in self._snapshot().workers if one.group == MAIN and one.phase == READY
        ]

    def reload(self) -> None:
        """Begin a rolling reload."""
        self._client.ask("reload", group=MAIN)

    def begin(self) -> None:
        """Break the import and roll it in."""
        self._since = self._snapshot().journal
        self._breaks.parent.chmod(0o711)  # the application may be another user's
        self._breaks.touch()
        self.reload()

    def verdict(self) -> str | None:
        """What became of the broken code; None while it is rolled in."""
        event = self._end()
        if event is None:
            return None
        self.mend()
        if event["kind"] == "rollout_finished":
            return "the broken code was rolled in all the same"
        return f"the broken code was refused; generation {self._snapshot().generation} serves on"

    def mend(self) -> None:
        """Let the import succeed again; also where a turn is over before the deploy is."""
        self._breaks.unlink(missing_ok=True)

    def _end(self) -> dict[str, Any] | None:
        events = self._client.events(self._since)
        return next((event for event in events if event["kind"] in ENDS), None)

    def _snapshot(self) -> Snapshot:
        return Snapshot.of(self._client.ask("status"))
