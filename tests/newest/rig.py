"""A root of Debian forky with the newest Pythons and systemd, made once by debootstrap and kept.

A command runs in it by systemd-nspawn without a boot, in the network of this machine, as root, with
this tree as /src; `boot` runs one under its systemd (262), as tests.box does. What a command
changes in the root is thrown away. Needs root, debootstrap and systemd-nspawn (of
systemd-container).
"""

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

from tests.box import rig as box

ROOT = Path(__file__).parents[2]
SUITE = "forky"
VERSIONS = ("3.14", "3.15")
BOOTED = VERSIONS[0]  # the Python of services under its systemd
MIRROR = "http://deb.debian.org/debian"
# A compiler and headers for packages that have no wheels for a Python this new.
PACKAGES = "ca-certificates,gcc,libc6-dev,procps,systemd,systemd-sysv,zlib1g-dev"
LIMIT = 1500  # seconds
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def root() -> Path:
    """Return the root, made if it is not there yet (some minutes). Raises box.Unavailable."""
    box.check()
    made = box.cache() / SUITE
    if not made.is_dir():
        fresh = box.cache() / f"{SUITE}.{os.getpid()}"
        hasty = fresh / "etc/dpkg/dpkg.cfg.d/hasty"
        hasty.parent.mkdir(parents=True)
        hasty.write_text("force-unsafe-io\n")  # half of the time is waiting for the disk
        pythons = [f"python{version}{part}" for version in VERSIONS for part in ("-venv", "-dev")]
        include = f"--include={','.join([PACKAGES, *pythons])}"
        # A debootstrap older than the release has no script of its name: all are as sid's.
        script = Path("/usr/share/debootstrap/scripts", SUITE)
        more = [] if script.exists() else [MIRROR, str(script.with_name("sid"))]
        command = ["debootstrap", "--variant=minbase", include, SUITE, str(fresh), *more]
        fill(command, fresh)
        fresh.rename(made)
    return made


def environment(version: str) -> Path:
    """Return a virtual environment of the root with all that the tests need, made if missing.

    It is bound to /venv, which it was made as.
    """
    made = box.cache() / f"{SUITE}-{version}"
    if not made.is_dir():
        fresh = box.cache() / f"{SUITE}-{version}.{os.getpid()}"
        fresh.mkdir(parents=True)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
        install = ["/venv/bin/python", "-m", "pip", "install", "--quiet", "--prefer-binary"]
        for command in ([f"python{version}", "-m", "venv", "/venv"], [*install, *wanted]):
            fill([*nspawn(), f"--bind={fresh}:/venv", *command], fresh)
        fresh.rename(made)
    return made


def nspawn() -> list[str]:
    """Return the command that runs another in the root."""
    command = ["systemd-nspawn", "--quiet", "-D", str(root()), "--volatile=overlay"]
    command += ["--register=no", "--keep-unit", "--as-pid2", "--resolv-conf=copy-host"]
    # What tests write beside the code (bytecode, examples of hypothesis) is thrown away, too.
    command += ["--console=pipe", f"--overlay={ROOT}::/src", "--chdir=/src"]
    variables = {name: text for name, text in os.environ.items() if name.startswith("PIP_")}
    if Path(CERTIFICATES).exists():  # of a proxy, say
        command.append(f"--bind-ro={CERTIFICATES}")
        variables |= {"PIP_CERT": CERTIFICATES, "SSL_CERT_FILE": CERTIFICATES}
    variables |= {"PYTHONPATH": "/src", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
    return command + [f"--setenv={name}={text}" for name, text in variables.items()]


def fill(command: list[str], fresh: Path) -> None:
    """Run what fills a directory; half a one is removed. Raises box.Unavailable."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise box.Unavailable(f"{' '.join(command[:4])} … failed: {done.stdout[-800:]}")


def run(version: str, command: list[str], keep: Path | None = None) -> box.Outcome:
    """Run a command with this version of Python first in its PATH. Raises box.Unavailable.

    `keep` is a directory of ours that the command finds as /keep.
    """
    where = environment(version)
    inside = [*nspawn(), f"--bind-ro={where}:/venv"]
    if keep is not None:
        inside.append(f"--bind={keep.resolve()}:/keep")
    inside.append("--setenv=PATH=/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    done = subprocess.run(
        [*inside, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return box.Outcome(done.returncode, done.stdout)


def boot(command: list[str]) -> box.Outcome:
    """Run a command under the root's systemd, where BOOTED has our packages; raises Unavailable."""
    packages = environment(BOOTED) / f"lib/python{BOOTED}/site-packages"
    return box.boot(root(), packages, command)
