"""The one table of settings: frozen dataclasses whose fields say everything about a setting.

The name of a field is the key in the file; `--its-name` is the option and `CLUSTERD_ITS_NAME` the
environment variable. Durations are seconds, sizes bytes.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from clusterd.config.jobs import JobsSettings
from clusterd.config.kinds import Kind, Scope, Setting, setting
from clusterd.config.running import CommandSettings, FleetSettings, LimitSettings, VitalsSettings
from clusterd.config.serving import (
    AppSettings,
    HttpSettings,
    ListenSettings,
    ProxySettings,
    TlsSettings,
    WebsocketSettings,
    WsgiSettings,
)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Logs"""

    access_log: bool = setting(False, "Log one line a request.", Kind.SWITCH)
    access_log_format: str = setting(
        "auto",
        "common and combined as other servers write them, with the time taken and the request's "
        "id at the end; json is one object per line; auto is json where the log is JSON, else "
        "common.",
        Kind.CHOICE,
        choices=("auto", "common", "combined", "json"),
    )

    log_file: str = setting(
        "",
        "File that log lines are appended to; reopened on USR1. It is no link, FIFO or device, but "
        "/dev/stdout, /dev/stderr and /dev/fd/N are descriptors that clusterd was started with.",
        Kind.PATH,
        metavar="FILE",
        shown="standard error",
    )
    log_format: str = setting(
        "auto",
        "text for people, json for machines; auto is text at a terminal and json elsewhere.",
        Kind.CHOICE,
        choices=("auto", "text", "json"),
    )
    log_level: str = setting(
        "info",
        "Least grave lines to log.",
        Kind.CHOICE,
        choices=("debug", "info", "warning", "error"),
    )


@dataclass(frozen=True, slots=True)
class DevSettings:
    """Development"""

    dev: bool = setting(
        False,
        "One worker, the access log, --reload, and no waiting at a reload: for min_ready, or for "
        "what is open.",
        Kind.SWITCH,
    )
    reload: bool = setting(
        False,
        "Reload when Python files, templates or settings of the application change; needs the "
        "extra clusterd[watch].",
        Kind.SWITCH,
    )
    reload_dir: tuple[str, ...] = setting(
        (),
        "Directory to watch.",
        Kind.PATHS,
        metavar="DIR",
        shown="app_dir",
    )
    reload_delay: float = setting(
        0.05, "Time without another change after which a reload begins.", Kind.SECONDS
    )


@dataclass(frozen=True, slots=True)
class PlaceSettings:
    """Control"""

    name: str = setting(
        "clusterd",
        "Name of this cluster: of its control socket and in process titles.",
        Kind.TEXT,
        metavar="NAME",
    )
    runtime_dir: str = setting(
        "",
        "Directory of the control socket, which commands find the cluster by.",
        Kind.PATH,
        metavar="DIR",
        shown="$RUNTIME_DIRECTORY, else /run/clusterd for root, else $XDG_RUNTIME_DIR/clusterd, "
        "else clusterd-UID in $TMPDIR or /tmp",
    )
    admin: str = setting(
        "",
        "Address of the admin endpoint, HOST:PORT or unix:PATH: /metrics, /healthz, /readyz and "
        "/status.json.",
        Kind.ADDRESS,
        metavar="ADDRESS",
        shown="none",
    )
    admin_hosts: tuple[str, ...] = setting(
        (),
        "Names by which the admin endpoint may be called, in Host, beside addresses, localhost, "
        "the host that it binds, the machine's own name and, from the network, names without a "
        "dot; * for any.",
        Kind.HOSTS,
        metavar="NAME",
        shown="none",
    )
    procfile: str = setting(
        "",
        "File with a group in each line, as NAME: COMMAND.",
        Kind.PATH,
        metavar="FILE",
        shown="none",
    )
    pid_file: str = setting(
        "",
        "File that the master's pid is written to, and that is gone after it.",
        Kind.PATH,
        metavar="FILE",
        shown="none",
    )


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """Trust"""

    insecure_paths: bool = setting(
        False,
        "Start also where users other than root may write on the way to settings, code, "
        "certificates, the log or the pid file, and so become root; each start warns of it. Files "
        "of settings cannot say it.",
        Kind.SWITCH,
    )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that was decided, and for each setting where its value came from."""

    app: AppSettings = AppSettings()
    listen: ListenSettings = ListenSettings()
    fleet: FleetSettings = FleetSettings(workers=1)
    vitals: VitalsSettings = VitalsSettings()
    limits: LimitSettings = LimitSettings()
    http: HttpSettings = HttpSettings()
    websocket: WebsocketSettings = WebsocketSettings()
    wsgi: WsgiSettings = WsgiSettings()
    tls: TlsSettings = TlsSettings()
    proxy: ProxySettings = ProxySettings()
    log: LogSettings = LogSettings()
    command: CommandSettings = CommandSettings()
    jobs: JobsSettings = JobsSettings()
    dev: DevSettings = DevSettings()
    place: PlaceSettings = PlaceSettings()
    trust: TrustSettings = TrustSettings()
    origins: dict[str, str] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """As JSON can carry it, for `Boot`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Self:
        """The inverse of `to_wire`, also after a trip through JSON (tuples became lists)."""
        sections = {
            section: make(
                **{
                    name: tuple(value) if isinstance(value, list) else value
                    for name, value in wire[section].items()
                }
            )
            for section, make in SECTIONS.items()
        }
        return cls(**sections, origins=dict(wire["origins"]))


SECTIONS: dict[str, type[Any]] = {
    "app": AppSettings,
    "listen": ListenSettings,
    "fleet": FleetSettings,
    "vitals": VitalsSettings,
    "limits": LimitSettings,
    "http": HttpSettings,
    "websocket": WebsocketSettings,
    "wsgi": WsgiSettings,
    "tls": TlsSettings,
    "proxy": ProxySettings,
    "log": LogSettings,
    "command": CommandSettings,
    "jobs": JobsSettings,
    "dev": DevSettings,
    "place": PlaceSettings,
    "trust": TrustSettings,
}

# Whose the settings of a section are; those not named here are an application's.
SCOPES: dict[str, Scope] = {
    "fleet": Scope.GROUP,
    "vitals": Scope.GROUP,
    "limits": Scope.GROUP,
    "command": Scope.COMMAND,
    "jobs": Scope.JOBS,
    "log": Scope.CLUSTER,
    "dev": Scope.CLUSTER,
    "place": Scope.CLUSTER,
    "trust": Scope.CLUSTER,
}


def settings() -> Iterator[Setting]:
    """The rows of the table, in the order in which they are shown."""
    for section, make in SECTIONS.items():
        for entry in dataclasses.fields(make):
            scope = SCOPES.get(section, Scope.APP)
            yield Setting(entry.name, section, entry.default, entry.metadata["about"], scope)


TABLE: dict[str, Setting] = {row.name: row for row in settings()}


def title(section: str) -> str:
    """The heading that a section is shown under."""
    return str(SECTIONS[section].__doc__)
