"""A throw-away machine with systemd as process 1, for one command.

A root of Debian trixie (systemd 257, Python 3.13) is made once by debootstrap and kept; each boot
gets it with an overlay that is thrown away, and a network of its own that is only the loopback.
Needs root, debootstrap and systemd-nspawn (of systemd-container).
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITE, PYTHON = "trixie", (3, 13)
PACKAGES = "systemd,systemd-sysv,python3"
NEEDED = ["click", "psutil", "setproctitle", "uvloop", "websockets"]
NEEDED += ["pytest", "pytest-timeout", "pytest-xdist"]
LIMIT = 300  # seconds from power on to power off
POWER_OFF = 30  # seconds beyond that in which it may be slow to go

UNIT = f"""\
[Unit]
Description=what the box is for
After=basic.target systemd-user-sessions.service

[Service]
Type=oneshot
WorkingDirectory=/src
Environment=PYTHONPATH=/src:/site PYTHONDONTWRITEBYTECODE=1 HOME=/root LANG=C.UTF-8
ExecStart=/bin/sh /box/command
StandardOutput=append:/box/output
StandardError=append:/box/output
TimeoutStartSec={LIMIT}
ExecStopPost=/bin/sh -c 'echo $EXIT_CODE $EXIT_STATUS >/box/status'
ExecStopPost=/bin/sh -c 'systemctl --no-block poweroff 2>/dev/null'
"""


class Unavailable(Exception):
    """There can be no box on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command in the box ended: its exit status (None: it had none), and what it wrote."""

    status: int | None
    output: str


def cache() -> Path:
    """Where the root is kept, with its packages for Python: $CLUSTERD_BOX, else in /var/cache."""
    return Path(os.environ.get("CLUSTERD_BOX") or "/var/cache/clusterd-box")


def check() -> None:
    """Raise Unavailable where something is missing."""
    if os.geteuid() != 0:
        raise Unavailable("only root can boot a systemd")
    missing = [tool for tool in ("debootstrap", "systemd-nspawn") if not shutil.which(tool)]
    if missing:
        raise Unavailable(f"{' and '.join(missing)} cannot be found")


def root() -> Path:
    """The root of the box, made if it is not there yet (about a minute). Raises Unavailable."""
    check()
    made = cache() / SUITE
    if not made.is_dir():
        fresh = cache() / f"{SUITE}.{os.getpid()}"
        hasty = fresh / "etc/dpkg/dpkg.cfg.d/hasty"
        hasty.parent.mkdir(parents=True)
        hasty.write_text("force-unsafe-io\n")  # half of the time is waiting for the disk
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(fresh)]
        _have(command, fresh)
        fresh.rename(made)
    return made


def site() -> Path:
    """A directory with what we need, built for the Python of the box. Raises Unavailable."""
    if sys.version_info[:2] == PYTHON:
        return Path(sysconfig.get_path("platlib"))
    made = cache() / "site"
    if not made.is_dir():
        fresh = cache() / f"site.{os.getpid()}"
        version = ".".join(map(str, PYTHON))
        options = ["--quiet", "--only-binary=:all:", f"--python-version={version}"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(fresh)]
        _have([*command, *NEEDED], fresh)
        fresh.rename(made)
    return made


def _have(command: list[str], fresh: Path) -> None:
    """Run what fills a directory; half a one is removed."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise Unavailable(f"{shlex.join(command)} failed: {done.stdout[-500:]}")


def run(command: list[str], keep: Path | None = None) -> Outcome:
    """Boot, run one command as root in /src, which is this tree, and power off.

    `keep` is a directory of ours that the command finds as /box. Raises Unavailable.
    """
    return boot(root(), site(), command, keep)


def boot(made: Path, packages: Path, command: list[str], keep: Path | None = None) -> Outcome:
    """Do what `run` does, in a root and with packages for its Python that are there already."""
    with tempfile.TemporaryDirectory(prefix="clusterd-box-") as place:
        box = Path(keep or place)
        (box / "command").write_text(f"exec {shlex.join(command)}\n")
        unit = Path(place, "box.service")
        unit.write_text(UNIT)
        nspawn = ["systemd-nspawn", "--quiet", "-D", str(made), "--volatile=overlay"]
        nspawn += ["--register=no", "--keep-unit", "--private-network", f"--bind={box}:/box"]
        nspawn += [f"--bind-ro={ROOT}:/src", f"--bind-ro={packages}:/site"]
        nspawn += [f"--bind-ro={unit}:/etc/systemd/system/box.service"]
        nspawn += ["--boot", "systemd.wants=box.service", "systemd.show_status=0"]
        console = _boot(nspawn, Path(place, "console"))
        return _outcome(box, console)


def _boot(nspawn: list[str], console: Path) -> str:
    """Wait until the machine is off; what it showed at its console."""
    environ = dict(os.environ)
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        # systemd from 258 on does not boot with cgroups of version 1, which the host has.
        environ["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    with console.open("wb") as written:
        machine = subprocess.Popen(
            nspawn,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        machine.wait(LIMIT + POWER_OFF)
    except subprocess.TimeoutExpired:
        machine.terminate()
        machine.wait(POWER_OFF)
    finally:
        if machine.poll() is None:
            machine.kill()
            machine.wait()
    return console.read_text(errors="replace")


def _outcome(box: Path, console: str) -> Outcome:
    output = box / "output"
    text = output.read_text(errors="replace") if output.exists() else ""
    try:
        how, status = (box / "status").read_text().split()
    except (OSError, ValueError):
        return Outcome(None, f"{text}\nit never ran; the console shows\n{console[-3000:]}")
    return Outcome(int(status) if how == "exited" else None, text)
