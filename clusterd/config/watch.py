"""The watcher of `--reload` as a group of its own: a command of ours, with settings of ours."""

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import replace

from clusterd.config.running import CommandSettings
from clusterd.config.serving import ListenSettings
from clusterd.config.settings import Config
from clusterd.core.errors import ConfigError

MISSING = "--dev, without the package watchfiles"  # where the value of reload came from
REMEDY = "pip install 'clusterd[watch]'"


def is_installed() -> bool:
    """Looks for the package that sees files change, and does not import it."""
    return importlib.util.find_spec("watchfiles") is not None


def remark(main: Config) -> str:
    """What to tell who wants to develop, and has not got what reloads need; or ''."""
    if main.origins.get("reload") != MISSING:
        return ""
    return f"--dev does not reload: the package watchfiles is not installed; {REMEDY}"


def group(main: Config, has_it: Callable[[], bool] = is_installed) -> Config:
    """Its settings, beside those of the main group. Raises ConfigError where it cannot work."""
    if not has_it():
        origin = main.origins.get("reload", "reload")
        raise ConfigError(
            f"{origin}: reloads when files change are wanted, and the package watchfiles is not "
            "installed",
            REMEDY,
        )
    # This process reads the settings, now and at each reload, and is the master.
    speak_to = str(os.getpid())
    delay = str(round(main.dev.reload_delay * 1000))
    watched = main.dev.reload_dir or (main.app.app_dir,)
    return Config(
        listen=ListenSettings(bind=()),
        fleet=replace(
            main.fleet,
            workers=1,
            max_workers=0,
            min_workers=1,
            after=(),
            min_ready=0.0,
            graceful_timeout=1.0,
        ),
        log=replace(main.log, access_log=False),
        command=CommandSettings(
            command=(sys.executable, "-P", "-m", "clusterd.watch", speak_to, delay, *watched),
            directory=main.command.directory,
            readiness="line:^watching ",
        ),
        dev=main.dev,
        place=main.place,
        origins=main.origins,
    )
