"""The scheduler of jobs as a group of its own: a small application of ours."""

from collections.abc import Mapping
from dataclasses import replace

from clusterd.config.admin import CONTROL, HOME
from clusterd.config.place import control_path
from clusterd.config.running import VitalsSettings
from clusterd.config.serving import AppSettings, HttpSettings
from clusterd.config.settings import Config

NAME = "@scheduler"  # a name that no group of a user's can have
APP = "clusterd.jobs.scheduler:make"
HANG_TIMEOUT = 8.0  # seconds: leases of 30 s that are renewed each 10 s survive it


def group(jobs: Config, environ: Mapping[str, str]) -> Config:
    """Return its settings, from those of a job group: it needs the same store and the same user."""
    control = control_path(jobs.place, environ)
    told = () if control is None else (f"{CONTROL}={control}",)
    return replace(
        jobs,
        app=AppSettings(app=APP, app_dir=HOME, interface="asgi", factory=True),
        fleet=replace(
            jobs.fleet,
            workers=1,
            after=(),
            min_ready=0.0,
            graceful_timeout=5.0,
            stream_grace=0.0,
            rollback_keep=0.0,  # it is of clusterd's code, which a rollback does not bring back
        ),
        vitals=VitalsSettings(hang_timeout=HANG_TIMEOUT, stall_timeout=0.0),
        limits=replace(jobs.limits, pin=False, nice=0, limit_as=0, limit_nofile=0),
        http=HttpSettings(http2="off", max_connections=100),
        command=replace(jobs.command, environment=(*jobs.command.environment, *told)),
    )
