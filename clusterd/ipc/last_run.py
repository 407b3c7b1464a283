"""The end of a cluster's last run, kept on disk for `clusterd why`: its last events.

Written once, when the master leaves, and removed when the next one starts: a master that is killed
with -9 leaves none, and no older run is taken for its own. Kept outside the runtime directory,
which is empty after a stop and gone after a boot.
"""

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clusterd.core.events import Event
from clusterd.kernel import own_files

EVENTS = 200  # of the journal's end
TEXT = 16 * 1024  # characters of a traceback, its end
SIZE = 8 * 1024 * 1024  # bytes that are read of a file at most
KEPT = 20  # runs, of all clusters of a user
SUFFIX = ".last.json"
FIELDS = {"name": str, "runtime_dir": str, "pid": int, "events": list}  # of each record


def directory(environ: Mapping[str, str]) -> Path | None:
    """Return where runs are kept: systemd's state directory, else the user's; None: nowhere."""
    # systemd.exec(5): with several StateDirectory= entries the paths are joined by colons.
    if service := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(service)
    if base := environ.get("XDG_STATE_HOME") or "":
        return Path(base) / "clusterd"
    home = environ.get("HOME", "")
    return Path(home) / ".local" / "state" / "clusterd" if home.startswith("/") else None


def write(events: Iterable[Event], name: str, runtime_dir: str, environ: Mapping[str, str]) -> None:
    """Keep the end of a run. Best effort: what cannot be written is not kept."""
    path = _path(name, runtime_dir, environ)
    if path is None:
        return
    flat = [_cut(event.flat()) for event in list(events)[-EVENTS:]]
    record = {"name": name, "runtime_dir": runtime_dir, "pid": os.getpid(), "events": flat}
    place, fresh = path.parent, path.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(fd, "w") as file:
                json.dump(record, file, default=str)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        _prune(place)


def forget(name: str, runtime_dir: str, environ: Mapping[str, str]) -> None:
    """Remove what is kept of the run before, if there is anything."""
    if path := _path(name, runtime_dir, environ):
        with contextlib.suppress(OSError):
            path.unlink()


def _path(name: str, runtime_dir: str, environ: Mapping[str, str]) -> Path | None:
    """Return the file of a cluster, one for each name and runtime directory.

    None where nothing is kept: a cluster without a runtime directory is not found by any command.
    """
    place = directory(environ)
    if place is None or not runtime_dir:
        return None
    key = "".join(c if c.isalnum() else "-" for c in f"{name}-{runtime_dir}")[-120:]
    return place / f"{key}{SUFFIX}"


def _cut(event: dict[str, Any]) -> dict[str, Any]:
    text = event.get("traceback")
    return {**event, "traceback": text[-TEXT:]} if isinstance(text, str) else event


def _prune(place: Path) -> None:
    """Remove the oldest runs. Another program may keep files of such names in the directory."""
    files = _newest_first(place)
    if len(files) > KEPT:
        for old in [path for path in files if _parsed(path)][KEPT:]:
            old.unlink()


def _newest_first(place: Path) -> list[Path]:
    """Return the regular files with our suffix: to open a FIFO would wait for its writer."""
    found = [(path.stat(), path) for path in place.glob(f"*{SUFFIX}")]
    files = [(status.st_mtime, path) for status, path in found if stat.S_ISREG(status.st_mode)]
    return [path for _, path in sorted(files, reverse=True)]


def read(name: str, directories: Iterable[str], environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the events of the last run of that name in one of these directories; [] for none."""
    wanted, places = set(directories), [directory(environ)]
    # A service's own state directory has the name of its runtime directory.
    places += [Path("/var/lib") / Path(one).name for one in wanted if one.startswith("/run/")]
    for place in filter(None, places):
        with contextlib.suppress(OSError):
            for path in _newest_first(place):
                record = _parsed(path)
                if record.get("runtime_dir") in wanted and record.get("name") == name:
                    return list(record["events"])
    return []


def _parsed(path: Path) -> dict[str, Any]:
    """Return the record in a file, or {} where it is not one of ours."""
    try:
        # It may have been exchanged since it was found: no link is followed, no FIFO waited for.
        with open(os.open(path, os.O_RDONLY | own_files.SAFELY)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return {}
            record = json.loads(file.read(SIZE))
        is_ours = (
            isinstance(record, dict)
            and FIELDS.items() <= {key: type(value) for key, value in record.items()}.items()
        )
        return record if is_ours else {}
    except (OSError, ValueError):
        return {}


def ended(events: list[dict[str, Any]]) -> str:
    """Return when a run ended, for people."""
    last = float(events[-1].get("time", 0.0))
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last))
