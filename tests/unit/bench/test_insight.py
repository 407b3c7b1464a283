"""What can be seen of a server from outside."""

import subprocess
import sys

from clusterd.bench.insight import TreeInsight
from clusterd.bench.tree import Tree

SERVER = """
import os, signal, sys
signal.signal(signal.SIGHUP, lambda *_: print("reloads", flush=True))
worker = os.fork()
if worker:
    print(worker, flush=True)
sys.stdin.readline()
"""


def test_workers_are_leaves_and_sighup_reloads() -> None:
    """The tree's guard stands outside: here it is a shell that waits."""
    shell = ["sh", "-c", '"$@" <&3 & echo $!; wait', "sh", sys.executable, "-I", "-S", "-c"]
    command = [*shell[:-4], *shell[-4:], SERVER]
    with subprocess.Popen(
        ["sh", "-c", 'exec 3<&0; exec "$@"', "sh", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as guard:
        assert guard.stdin is not None
        assert guard.stdout is not None
        root, worker = (int(guard.stdout.readline()) for _ in range(2))
        insight = TreeInsight(root, Tree(guard.pid))
        assert insight.workers() == [worker]
        assert insight.requests() == {}
        insight.reload()
        assert guard.stdout.readline() == "reloads\n"
        guard.stdin.write("\n\n")
    insight.reload()  # it is gone, and nothing is wrong
