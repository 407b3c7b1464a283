"""PSS of 4 workers of an app with lazy imports of numpy and pyplot; needs Python 3.15 or newer.

The app says `lazy import` (PEP 810), and each request uses both modules. PSS is read when each
worker has served, of the workers and of the whole tree. Beside it the same app with these imports
inside the function that serves, which is when lazy imports load where nothing loads them before
the fork. On an older Python, or without numpy and matplotlib, nothing is measured.
"""

import tempfile
from pathlib import Path

from benchmarks import clients, load, probe, proc, servers
from benchmarks.environment import Environment
from benchmarks.outcome import Outcome
from benchmarks.session import Session

LEAST = (3, 15)
WORKERS = 4
REQUESTS = 400
AT_IMPORT = "lazy import numpy\nlazy import matplotlib.pyplot\n"
IN_FUNCTION = "    import numpy, matplotlib.pyplot\n"
# Each request uses the modules and says which worker serves, in a body that has always one length.
APP = """\
import os
{above}
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError(scope["type"])
{inside}\
    assert numpy.arange(4).sum() == 6 and matplotlib.pyplot.rcParams
    body = f"{{os.getpid():07}}".encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""


def run(session: Session) -> Outcome:
    """Measure both forms of the app, round by round."""
    outcome = Outcome({"PSS of workers": "MB", "PSS of the tree": "MB"})
    if missing := lacks(session.environment):
        outcome.notes.append(f"not measured: {missing}")
        return outcome
    ours = servers.CLUSTERD_FOLDER
    forms = {
        ours.name: APP.format(above=AT_IMPORT, inside=""),
        f"{ours.name}-import-in-function": APP.format(above="", inside=IN_FUNCTION),
    }
    for _ in range(session.times(3)):
        for name, text in forms.items():
            _measure(session, outcome, name, text)
    workers = outcome.median(ours.name, "PSS of workers")
    outcome.figure("PSS of 4 workers with lazy imports, after requests", workers, 80, "MB")
    return outcome


def lacks(environment: Environment) -> str:
    """Return what of the environment is missing; empty: nothing."""
    words = environment.versions.get("python", "0.0").split()[0].split(".")
    if (int(words[0]), int(words[1])) < LEAST:
        return f"lazy imports need Python 3.15 or newer, and this is {'.'.join(words)}"
    missing = [name for name in ("numpy", "matplotlib") if name not in environment.versions]
    return f"{' and '.join(missing)} not installed" if missing else ""


def _measure(session: Session, outcome: Outcome, name: str, text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-lazy-") as folder:
        Path(folder, "shop.py").write_text(text)
        env = {"MPLBACKEND": "agg"}
        with session.start(
            servers.CLUSTERD_FOLDER, "shop", WORKERS, env, {"folder": folder}
        ) as running:
            workers = list(probe.meet(running.port, WORKERS))
            clients.saturate(running.port, load.request("/"), 32, REQUESTS)
            of_workers = _megabytes(workers)
            outcome.add(name, "PSS of workers", of_workers)
            outcome.add(name, "PSS of the tree", _megabytes(proc.tree(running.root)))
            session.say(f"{name} {of_workers:.0f} MB")


def _megabytes(pids: list[int]) -> float:
    return sum(proc.pss_kib(pid) for pid in pids) * 1024 / 1e6
