"""Where we are: the directory as the shell names it, and the cluster that commands speak to."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from clusterd.config import runtime_dir
from clusterd.config.resolve import load_place
from clusterd.config.settings import PlaceSettings
from clusterd.core.errors import NotRunning, SeveralRun
from clusterd.ipc.client import Client
from clusterd.master.holder import (
    NAMELESS,
    Master,
    control_of,
    masters,
    may_be_control,
    owner_of,
    user_name,
)

MOST_TOLD = 5  # clusters in a message


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
    """Return the client of the cluster that runs here.

    Without a name it is the only cluster that runs. Raises NotRunning where there is none,
    and SeveralRun, which names them, where it may be one of several.
    """
    place, remark, told = load_place(values, os.environ, directory())
    name = place.name if "name" in told else ""
    found = runtime_dir.running(place.runtime_dir, name, os.environ, os.geteuid())
    if len(found) > 1:
        found = [p for p in found if may_be_control(p)] or found[:1]
    if len(found) > 1:
        raise SeveralRun("several clusters run here: say which of them is meant", _choices(found))
    if found:
        return Client(found[0])
    raise NotRunning(*missing(place, name, remark))


def _choices(paths: Sequence[str]) -> str:
    """Return a line for each of several clusters: the options that mean it, and what it runs."""
    directories = {os.path.dirname(path) for path in paths}
    names = [Path(path).stem for path in paths]
    lines = []
    for path, name in zip(paths, names, strict=True):
        words = f"--name {name}"
        if len(directories) > 1 and names.count(name) > 1:
            words += f" --runtime-dir {os.path.dirname(path)}"
        owner = owner_of(path) or "a cluster of another user"
        lines.append(f"  {words}: {owner}")
    return "\n".join(lines)


def missing(place: PlaceSettings, name: str, remark: str) -> tuple[str, str]:
    """Return the sentence that no cluster was found where it was looked for, and what to do."""
    uid = os.geteuid()
    looked = [place.runtime_dir] if place.runtime_dir else runtime_dir.searched(os.environ, uid)
    where = " or ".join(looked)
    what = f"no cluster named {name!r}" if name else "no cluster"
    message = f"{what} runs: there is no control socket in {where}"
    if remark:
        message += f" ({remark})"
    hints = [hint for path in looked if (hint := _closed(path))]
    hints += _names(place, name)
    hints += hints_at(masters(), uid) if not hints else []
    return message, "\n".join(hints) or "Start one with 'clusterd run', or say --runtime-dir."


def _closed(path: str) -> str:
    """Say whose a directory is that we may not look into; '' of any other."""
    try:
        os.listdir(path)
    except PermissionError:
        path = _seen(path)
        whose = user_name(os.stat(path).st_uid)
        return f"{path} belongs to {whose}: run the command as {whose}."
    except OSError:
        pass
    return ""


def _seen(path: str) -> str:
    """Return the path, or the nearest directory above it whose owner we may ask for."""
    while path != os.path.dirname(path):
        try:
            os.stat(path)
        except OSError:
            path = os.path.dirname(path)
        else:
            break
    return path


def _names(place: PlaceSettings, name: str) -> list[str]:
    """Tell the clusters of other names in the same directories."""
    found = runtime_dir.running(place.runtime_dir, "", os.environ, os.geteuid())
    found = [path for path in found if may_be_control(path)]
    names = sorted({Path(path).stem for path in found} - {name})
    return [f"There is {', '.join(names)}: say --name {names[0]}."] if names else []


def hints_at(found: Sequence[Master], uid: int) -> list[str]:
    """Tell the clusters that run on this machine, and how they are reached."""
    lines = []
    for one in found[:MOST_TOLD]:
        if path := control_of(one):
            named = "" if one.name == NAMELESS else f" --name {one.name}"
            lines.append(f"There is {one}: say --runtime-dir {os.path.dirname(path)}{named}.")
        elif one.uid != uid:
            whose = user_name(one.uid)
            lines.append(f"There is {one}, and it is {whose}'s: run the command as {whose}.")
        else:
            lines.append(
                f"There is {one}, which was started with another --runtime-dir: say the same one."
            )
    return lines
