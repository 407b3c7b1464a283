"""The scenarios, one a file: each has `run(session) -> Outcome` and says in its docstring what it
measures and how. The first line of the docstring is what `--help` shows."""

from benchmarks.scenarios import (
    accept,
    balance,
    blocked,
    hello,
    idle,
    kill,
    memory,
    reload,
    startup,
)

ALL = {
    "hello": hello,
    "startup": startup,
    "kill": kill,
    "memory": memory,
    "reload": reload,
    "balance": balance,
    "blocked": blocked,
    "accept": accept,
    "idle": idle,
}
