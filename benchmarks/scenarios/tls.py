"""CPU time that a plain "hello" request costs over TLS, on kept connections.

TLS 1.3 with what both sides prefer, a throw-away P-256 certificate (made by `openssl`, whose
command must be installed). Handshakes are not measured. Over one connection and over 16 ("busy"),
measured as `hello` is (see `turns`).
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks import load, servers
from benchmarks.clients import Ask
from benchmarks.outcome import Outcome
from benchmarks.session import Session
from benchmarks.turns import Contest, Measure

TARGET = 0.6
MAKE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    " -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    " -keyout {key} -out {cert}"
)


def run(session: Session) -> Outcome:
    """Measure every server, turn by turn."""
    measures = ("hello", "hello busy")
    outcome = Outcome(dict.fromkeys(measures, "µs"))
    wanted = session.among(
        servers.CLUSTERD_TLS,
        servers.UVICORN_TLS,
        servers.GRANIAN_TLS,
        servers.GUNICORN_TLS,
    )
    if shutil.which("openssl") is None:
        outcome.notes.append("not measured: there is no `openssl` to make a certificate with")
        return outcome
    with tempfile.TemporaryDirectory(prefix="bench-tls-") as folder:
        files = {"cert": str(Path(folder, "cert.pem")), "key": str(Path(folder, "key.pem"))}
        argv = [word.format(**files) for word in MAKE.split()]
        subprocess.run(argv, check=True, capture_output=True)
        ask = Ask(load.request("/"), tls=load.trusting())
        taken = {"hello": Measure(ask), "hello busy": Measure(ask, clients=16)}
        Contest(session, outcome, [(server, "plain") for server in wanted], taken, files).hold(5, 5)
    for measure in measures:
        for peer, target in ((servers.UVICORN_TLS, TARGET), (servers.GRANIAN_TLS, None)):
            ratio = outcome.ratio(measure, servers.CLUSTERD_TLS.name, peer.name)
            outcome.figure(f"TLS {measure}, of {peer.kind}", ratio, target)
    return outcome
