"""CPU time that a plain "hello" request costs a worker that serves a WSGI app.

clusterd with its default, a pool of 8 threads, against gunicorn's gthread with as many; and inline
(`--threads 1`, the app runs in the event loop) against granian as it comes. Over one connection
and over 16 ("busy"), measured as `hello` is (see `turns`).
"""

from benchmarks import load, servers
from benchmarks.clients import Ask
from benchmarks.outcome import Outcome
from benchmarks.session import Session
from benchmarks.turns import Contest, Measure

HELLO = Ask(load.request("/"))
MEASURES = {"hello": Measure(HELLO, 1, 1800), "hello busy": Measure(HELLO, 16, 1800)}
POOL, INLINE = servers.CLUSTERD.name, servers.CLUSTERD_INLINE.name
JUDGED = (
    (POOL, servers.GUNICORN_THREADS.name, 0.5),
    (POOL, servers.GRANIAN_WSGI.name, None),
    (INLINE, servers.GRANIAN_WSGI.name, 1.0),
    (INLINE, servers.GUNICORN_THREADS.name, None),
    (INLINE, servers.FREASTAL_WSGI.name, None),
)


def run(session: Session) -> Outcome:
    """Measure every server, turn by turn."""
    outcome = Outcome(dict.fromkeys(MEASURES, "µs"))
    wanted = session.among(
        servers.CLUSTERD,
        servers.CLUSTERD_INLINE,
        servers.GUNICORN_THREADS,
        servers.GRANIAN_WSGI,
        servers.FREASTAL_WSGI,
    )
    Contest(session, outcome, [(server, "plain_wsgi") for server in wanted], MEASURES).hold(5, 5)
    for measure in MEASURES:
        for ours, peer, target in JUDGED:
            mode = "inline" if ours == INLINE else "threads"
            what = f"WSGI {measure}, {mode}, of {peer}"
            outcome.figure(what, outcome.ratio(measure, ours, peer), target)
    return outcome
