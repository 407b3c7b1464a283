"""The interpreter and the packages that servers run on, and what is written down about them."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.servers import REPOSITORY

PEERS = (
    "uvicorn",
    "httptools",
    "uvloop",
    "websockets",
    "gunicorn",
    "granian",
    "setproctitle",
    "watchfiles",
    "jinja2",  # the workloads' template
)
# Not for every interpreter: without it the run goes on.
RARE = ("freastal==0.0.3",)
HOME = REPOSITORY / ".bench"
VERSION = re.compile(r"3\.(\d+)")
ASK_VERSIONS = """
import importlib.metadata as metadata, json, platform, sysconfig
options = sysconfig.get_config_var("CONFIG_ARGS") or ""
kind = " (optimised build)" if "--enable-optimizations" in options else " (plain build)"
found = {"python": platform.python_version() + kind}
for name in (
    "clusterd", "uvicorn", "gunicorn", "gunicorn_h1c", "granian", "freastal", "uvloop", "httptools",
    "websockets", "watchfiles", "jinja2", "hdrhistogram", "numpy", "matplotlib", "h2",
):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Environment:
    """What servers are started with, and the versions found there."""

    python: str
    versions: dict[str, str]


def prepare(python: str | None, peers: bool) -> Environment:
    """An environment with clusterd and its peers, made once per interpreter under `.bench/`.

    Without peers (the smoke run, --as-installed) nothing is installed: the interpreter is used with
    what it has.
    """
    if python is not None:
        # Absolute, for servers run elsewhere; not resolved, or a venv's python loses its packages.
        python = os.path.abspath(shutil.which(python) or python)
    chosen = str(_install(python or newest())) if peers else python or sys.executable
    # As an installer does, also where bytecode is not kept: a zygote that compiles from source has
    # gaps all over its heap, and PSS of 4 workers was 1.5 MB more.
    command = [chosen, "-m", "compileall", "-q", str(REPOSITORY / "clusterd")]
    subprocess.run(command, check=False)
    return Environment(chosen, versions(chosen))


def newest() -> str:
    """The newest Python from 3.12 on that is found, else the one that runs this."""
    found: dict[int, str] = {sys.version_info.minor: sys.executable}
    candidates = [shutil.which(f"python3.{minor}") for minor in range(12, 20)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates += [str(folder / "bin" / "python") for folder in sorted(pyenv.glob("3.*"))]
    for path in candidates:
        if path is None or not Path(path).exists():
            continue
        asked = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        match = VERSION.search(asked.stdout)
        if asked.returncode == 0 and match and 12 <= int(match[1]) < 20:
            found[int(match[1])] = path
    return found[max(found)]


def _install(python: str) -> Path:
    asked = subprocess.run([python, "--version"], capture_output=True, text=True, check=True)
    folder = HOME / f"py{asked.stdout.split()[1]}"
    inside = folder / "bin" / "python"
    wanted = [*PEERS, *RARE]
    if (REPOSITORY / "pyproject.toml").exists():
        wanted += ["-e", f"{REPOSITORY}[bench,metrics]"]
    stamp = folder / "installed.json"
    if not (stamp.exists() and json.loads(stamp.read_text()) == wanted):
        print(f"making {folder} with {python}", file=sys.stderr)
        # From nothing: what an earlier list has left there must not be measured.
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(inside), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, *(name for name in wanted if name not in RARE)], check=True)
        subprocess.run([*pip, "--only-binary", ":all:", *RARE], check=False)
        stamp.write_text(json.dumps(wanted))
    return inside


def versions(python: str) -> dict[str, str]:
    """Versions of the interpreter, clusterd (with its commit), the peers and Node."""
    asked = subprocess.run([python, "-c", ASK_VERSIONS], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(asked.stdout)
    commit = _output("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty")
    if commit:
        found["commit"] = commit
    node = _output("node", "--version")
    if node:
        found["node"] = node.lstrip("v")
    return found


def machine() -> dict[str, str | int | float]:
    """What ran it: processor, cores, memory, kernel, and how busy it was."""
    cpu = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": memory,
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
