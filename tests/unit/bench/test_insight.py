"""What can be seen of a server from outside."""

import subprocess
import sys

from clusterd.bench.insight import TreeInsight
from clusterd.bench.tree import Tree

# A guard, its server, and the server's worker.
GUARD = """
import os, signal
if os.fork() == 0:
    signal.signal(signal.SIGHUP, lambda *_: os.write(1, b"reloads\\n"))
    worker = os.fork()
    if worker == 0:
        while True:
            signal.pause()
    os.write(1, b"%d %d\\n" % (os.getpid(), worker))
    os.read(0, 1)
    os.kill(worker, signal.SIGKILL)
    os._exit(0)
os.wait()
"""


def test_workers_are_leaves_and_sighup_reloads() -> None:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", GUARD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as guard:
        assert guard.stdin is not None
        assert guard.stdout is not None
        root, worker = map(int, guard.stdout.readline().split())
        insight = TreeInsight(root, Tree(guard.pid))
        assert insight.workers() == [worker]
        assert insight.requests() == {}
        insight.reload()
        assert guard.stdout.readline() == "reloads\n"
        guard.stdin.write("\n")
    insight.reload()  # it is gone, and nothing is wrong
