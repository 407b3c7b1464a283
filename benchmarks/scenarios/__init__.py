"""The scenarios, one a file: each has `run(session) -> Outcome` and says in its docstring what it
measures and how. The first line of the docstring is what `--help` shows."""

from benchmarks.scenarios import (
    accept,
    access_log,
    balance,
    blocked,
    connections,
    hello,
    idle,
    idle_connections,
    kill,
    master,
    memory,
    reload,
    shapes,
    startup,
    status,
    tls,
    websocket,
    wsgi,
)

ALL = {
    "hello": hello,
    "shapes": shapes,
    "wsgi": wsgi,
    "websocket": websocket,
    "access_log": access_log,
    "tls": tls,
    "connections": connections,
    "idle_connections": idle_connections,
    "startup": startup,
    "kill": kill,
    "memory": memory,
    "master": master,
    "status": status,
    "reload": reload,
    "balance": balance,
    "blocked": blocked,
    "accept": accept,
    "idle": idle,
}
