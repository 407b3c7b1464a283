"""What the access log adds to the CPU time of a plain "hello" request.

The same server with its access log and without, in turns; the ratio is taken within a turn. Logs
go to a file, in each server's own form. Over 16 connections ("busy"), where a loop turn answers
several requests, and over one, where each request is a turn of its own.
"""

from benchmarks import load, servers
from benchmarks.clients import Ask
from benchmarks.outcome import Outcome
from benchmarks.session import Session
from benchmarks.turns import Contest, Measure

HELLO = Ask(load.request("/"))
MEASURES = {"hello": Measure(HELLO), "hello busy": Measure(HELLO, clients=16)}
PAIRS = {
    servers.CLUSTERD_LOGGING: servers.CLUSTERD,
    servers.UVICORN_LOGGING: servers.UVICORN,
    servers.GRANIAN_LOGGING: servers.GRANIAN,
}
TARGET = 1.15


def run(session: Session) -> Outcome:
    """Measure every pair, turn by turn."""
    outcome = Outcome(dict.fromkeys(MEASURES, "µs"))
    both = [server for pair in PAIRS.items() for server in pair]
    wanted = [(server, "plain") for server in session.among(*both)]
    Contest(session, outcome, wanted, MEASURES).hold(5, 5)
    for logging, without in PAIRS.items():
        for measure in MEASURES:
            ratio = outcome.ratio(measure, logging.name, without.name)
            what = f"access log on by off, {without.name}, {measure}"
            judged = logging.is_ours and measure == "hello busy"
            outcome.figure(what, ratio, TARGET if judged else None)
    return outcome
