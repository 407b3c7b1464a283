"""The admin endpoint as a group of its own: a small application of ours, with settings of ours."""

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from clusterd.config.address import Tcp, parse_bind
from clusterd.config.place import control_path
from clusterd.config.running import CommandSettings, VitalsSettings
from clusterd.config.serving import AppSettings, HttpSettings, ListenSettings
from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError

APP = "clusterd.observe.admin:make"
CONTROL = "CLUSTERD_CONTROL"  # the variable by which the application is told the control socket
HOSTS = "CLUSTERD_ADMIN_HOSTS"  # and the names in Host that it accepts, parted by blanks
HOME = str(Path(__file__).parents[2])  # so that nothing of the user's is imported in our place


def is_installed() -> bool:
    """Looks for the package that writes metrics, and does not import it."""
    return importlib.util.find_spec("prometheus_client") is not None


def group(main: Config, environ: Mapping[str, str], has_it: bool | None = None) -> Config:
    """Its settings, beside those of the main group. Raises ConfigError where it cannot work."""
    origin = main.origins.get("admin", "admin")
    if not (is_installed() if has_it is None else has_it):
        raise ConfigError(
            f"{origin}: the admin endpoint is wanted, and the package prometheus_client is not "
            "installed",
            "pip install 'clusterd[metrics]'",
        )
    control = control_path(main.place, environ)
    if control is None:
        raise ConfigError(
            f"{origin}: the admin endpoint needs the control socket, and there is no place for it",
            "say where it may lie: --runtime-dir DIR",
        )
    limits = main.limits
    return Config(
        app=AppSettings(app=APP, app_dir=HOME, interface="asgi", factory=True),
        listen=ListenSettings(bind=(main.place.admin,), backlog=128),
        fleet=replace(
            main.fleet,
            workers=1,
            max_workers=0,
            min_workers=1,
            after=(),
            min_ready=0.0,
            rollback_keep=0.0,  # it is of clusterd's code, which a rollback does not bring back
        ),
        vitals=VitalsSettings(
            hang_dump=main.vitals.hang_dump,
            hang_timeout=main.vitals.hang_timeout,
            stall_timeout=main.vitals.stall_timeout,
        ),
        limits=replace(limits, pin=False, nice=0, limit_as=0, limit_nofile=0),
        http=HttpSettings(http2="off", max_connections=100, server_header=main.http.server_header),
        log=replace(main.log, access_log=False),
        command=CommandSettings(
            environment=(f"{CONTROL}={control}", f"{HOSTS}={' '.join(_hosts(main))}")
        ),
        dev=main.dev,
        place=main.place,
        origins=main.origins,
    )


def _hosts(main: Config) -> tuple[str, ...]:
    """Return the names that Host may have: those that are set, and the one that is bound."""
    bind = parse_bind(main.place.admin)
    bound = (bind.host,) if isinstance(bind, Tcp) and bind.host else ()
    return (*main.place.admin_hosts, *bound)
