"""Where we are: the directory as the shell names it, and the cluster that commands speak to."""

import os
from collections.abc import Mapping
from pathlib import Path

from clusterd.config.place import control_path
from clusterd.config.resolve import load_place
from clusterd.core.errors import NotRunning
from clusterd.ipc.client import Client


def directory() -> Path:
    """The current directory, through the links it was reached by.

    A deployment that switches `current -> releases/42` is followed at the next reload only if
    we remember `current`, so $PWD is believed where it names the directory we are in.
    """
    told = os.environ.get("PWD", "")
    try:
        if told.startswith("/") and os.path.samefile(told, "."):
            return Path(told)
    except OSError:
        pass
    return Path.cwd()


def client(values: Mapping[str, object]) -> Client:
    """The client of the cluster that runs here; raises NotRunning and says where it looked."""
    place, remark = load_place(values, os.environ, directory())
    path = control_path(place, os.environ)
    remarked = f" ({remark})" if remark else ""
    if path is None:
        raise NotRunning(
            f"no cluster can be found: there is no runtime directory{remarked}",
            "Give --runtime-dir, the same as to 'clusterd run'.",
        )
    if not os.path.exists(path):
        raise NotRunning(
            f"no cluster named {place.name!r} runs: there is no {path}{remarked}",
            _others(path) or "Start one with 'clusterd run', or say --name or --runtime-dir.",
        )
    return Client(path)


def _others(path: str) -> str:
    """A hint at clusters of other names in the same directory."""
    names = sorted(found.stem for found in Path(path).parent.glob("*.sock"))
    if not names:
        return ""
    return f"There is {', '.join(names)}: say --name {names[0]}."
