"""What `clusterd check` looks at, gathered: settings, machine, addresses, and a trial import."""

import contextlib
import dataclasses
import errno
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from clusterd.cli.checks import Bind, Facts
from clusterd.config import http2, runtime_dir, watch
from clusterd.config.address import Tcp, Unix, parse_bind
from clusterd.config.cpus import available_cpus
from clusterd.config.internal import NAMES as INTERNAL
from clusterd.config.memory import memory_limit
from clusterd.config.place import control_path
from clusterd.config.resolve import load_groups
from clusterd.config.settings import Config
from clusterd.core.errors import BindError, ClusterdError, ConfigError
from clusterd.core.units import parse_seconds
from clusterd.ipc.client import Client
from clusterd.kernel import own_files, privileges
from clusterd.master import trusted_paths
from clusterd.master.holder import owner_of
from clusterd.master.listener import attempt
from clusterd.master.socket_file import owners_of
from clusterd.master.sockets import somaxconn

PATIENCE = 5.0  # seconds for what other programs are asked
TEXT = 2000  # characters of what a broken child wrote


def gather(values: Mapping[str, object], home: Path, unit: str = "") -> Facts:
    """Everything. What is wrong with the settings is a fact too."""
    facts = _machine(unit)
    try:
        groups = {name: one for name, one in load_groups(values, os.environ, home).items()
                  if one.app.app or one.command.command}  # fmt: skip
    except ConfigError as error:
        return dataclasses.replace(facts, settings_error=(error.message, error.remedy))
    facts = dataclasses.replace(facts, groups=groups, source=source(groups))
    if groups:
        facts = _place(facts)
    ours = _listeners(facts.control) if facts.running else set()
    users = {name: wrong for name, one in groups.items()
             if name not in INTERNAL and (wrong := _user(one))}  # fmt: skip
    return dataclasses.replace(
        facts,
        probes={name: probe(one, home) for name, one in groups.items() if one.app.app},
        programs={name: program(one) for name, one in groups.items() if one.command.command},
        binds={
            name: tuple(tried(b, ours) for b in one.listen.bind) for name, one in groups.items()
        },
        user_errors=users,
        writable=() if users else _writable(groups, values, home),
        log_error=_log(groups),
        has_h2=http2.is_installed(),
        remark=next((text for one in groups.values() if (text := watch.remark(one))), ""),
    )


def source(groups: Mapping[str, Config]) -> str:
    """Where settings come from, in a few words."""
    places = {place.partition(" ")[0] for one in groups.values() for place in one.origins.values()}
    return f"from {', '.join(sorted(places - {'default'})) or 'defaults alone'}"


def _machine(unit: str) -> Facts:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    name = unit or _unit()
    return Facts(
        superuser=os.geteuid() == 0,
        somaxconn=somaxconn(),
        descriptors=soft if soft != resource.RLIM_INFINITY else 2**31,
        cpus=available_cpus(),
        memory_limit=memory_limit(),
        unit=name,
        stop_timeout=stop_timeout(name) if name else 0.0,
        kubernetes="KUBERNETES_SERVICE_HOST" in os.environ,
        now=time.time(),
    )


def _place(facts: Facts) -> Facts:
    """The control socket's directory: there, or can it be made?"""
    place = next(iter(facts.groups.values())).place
    try:
        path = control_path(place, os.environ)
    except ConfigError as wrong:
        return dataclasses.replace(facts, control_error=wrong.message)
    if path is None:
        tried_all = "; ".join(runtime_dir.faults(os.environ, os.geteuid()))
        return dataclasses.replace(facts, no_control=tried_all)
    running = _answers(path)
    directory = os.path.dirname(path)
    error = "" if running else writable(directory)
    if reason := runtime_dir.foreign(directory, os.geteuid()):
        error = f"{directory}: {reason}"
    return dataclasses.replace(facts, control=path, control_error=error, running=running)


def writable(directory: str) -> str:
    """Why no file can be made there, or ''. It may itself still have to be made."""
    there = Path(directory)
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return f"{there} is no directory"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} may not be written to"
    return ""


def _answers(path: str) -> bool:
    with contextlib.suppress(ClusterdError, OSError):
        return bool(Client(path).ask("status"))
    return False


def _listeners(path: str) -> set[str]:
    """The addresses of the cluster that runs there."""
    with contextlib.suppress(ClusterdError, OSError):
        return {str(name).partition("#")[0] for name in Client(path).ask("status")["listeners"]}
    return set()


def tried(text: str, ours: set[str]) -> Bind:
    """Whether an address can be had. Nothing is left of the try."""
    address = parse_bind(text)
    if text in ours:
        return Bind(text, by_us=True)
    if isinstance(address, Unix):
        try:
            owners_of(address)
        except ConfigError as error:
            return Bind(text, error.message)
        wrong = _unix(address.path)
        return Bind(text, f"{text}: {wrong}" if wrong else "")
    if not isinstance(address, Tcp):
        return Bind(text)  # it is there when clusterd is started with it
    try:
        attempt(address)
    except BindError as error:
        return Bind(text, error.message, remedy=" ".join(error.remedy.split()))
    return Bind(text)


def _unix(path: str) -> str:
    """Why no socket can be made there, or ''."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(PATIENCE)
        try:
            sock.connect(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
                return error.strerror or str(error)
        else:
            return f"in use by {owner_of(path)}"
    return writable(os.path.dirname(path))


def program(config: Config) -> str:
    """The path of a group's program, or ''."""
    environ = dict(pair.partition("=")[::2] for pair in config.command.environment)
    first = config.command.command[0]
    if "/" in first:
        first = os.path.join(config.command.directory, first)
    return shutil.which(first, path=environ.get("PATH", os.environ.get("PATH"))) or ""


def _user(config: Config) -> tuple[str, str] | None:
    try:
        privileges.check(config.limits.user)
    except ConfigError as error:
        return error.message, " ".join(error.remedy.split())
    return None


def _writable(
    groups: Mapping[str, Config], values: Mapping[str, object], home: Path
) -> tuple[tuple[str, str], ...]:
    """Return what others than root may change that a start as root would rely on."""
    found = trusted_paths.all_faults(groups, values, os.environ, home)
    return tuple(trusted_paths.described(*one) for one in found)


def _log(groups: Mapping[str, Config]) -> str:
    """Return why the log could not be opened, or ''."""
    path = next((one.log.log_file for one in groups.values()), "")
    if not path or own_files.descriptor_of(path) is not None:
        return ""
    owners = privileges.users(config.limits.user for config in groups.values())
    try:
        if reason := own_files.fault(path, owners):
            return f"{path} would not be opened: {reason}"
    except OSError:
        return writable(os.path.dirname(path))
    return "" if os.access(path, os.W_OK) else f"{path} may not be written to"


def probe(config: Config, home: Path) -> dict[str, Any]:
    """What came of it when a child read the certificates and imported the application.

    It speaks through files in memory: a pipe would stay open in what the import left running.
    """
    given, told, said = (os.memfd_create(name) for name in ("settings", "outcome", "stderr"))
    with open(given, "w+b") as into, open(told, "rb") as out, open(said, "rb") as errors:
        into.write(json.dumps(config.to_wire()).encode())
        into.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "clusterd.cli.probe", str(told)],
            cwd=home,
            env={**os.environ, "PYTHONPATH": _with_us()},
            stdin=into,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            pass_fds=(told,),
            start_new_session=True,
        )
        limit = config.fleet.startup_timeout
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            return {"app": {"error": f"the import did not end within {limit:g} s"}}
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # it, and what it left running
            child.wait()
        return _outcome(_content(out), _content(errors), status)


def _content(file: BinaryIO) -> bytes:
    """All of it: the child shares our offset."""
    file.seek(0)
    return file.read()


def _outcome(told: bytes, said: bytes, status: int) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(told)
    except ValueError:
        text = said.decode("utf-8", "replace")[-TEXT:]
        ended = f"the import ended the process with status {status}"
        return {"app": {"error": ended, "traceback": text}}
    return found


def _with_us() -> str:
    """PYTHONPATH by which a child finds this very clusterd."""
    own = str(Path(__file__).parents[2])
    return os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH", ""), own)))


def _unit() -> str:
    """The systemd service that we run in, or ''."""
    if "INVOCATION_ID" not in os.environ:
        return ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            name = PurePosixPath(line.rpartition(":")[2]).name
            if name.endswith(".service"):
                return name
    return ""


def stop_timeout(unit: str) -> float:
    """A unit's TimeoutStopSec in seconds, as `systemctl show` tells it; 0 where it cannot."""
    user = [] if os.geteuid() == 0 else ["--user"]
    for more in ([], user):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(
                ["systemctl", *more, "show", "--property=TimeoutStopUSec", "--value", unit],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=True,
            )
            if found := timespan(done.stdout):
                return found
    return 0.0


def timespan(text: str) -> float:
    """Seconds of what systemd writes, e.g. `1min 30s` (systemd.time(7)); `infinity` is a day."""
    if text.strip() == "infinity":
        return 86400.0
    total = 0.0
    for part in text.replace("min", "m").split():
        with contextlib.suppress(ValueError):
            total += parse_seconds(part)
    return total
