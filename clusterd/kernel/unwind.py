"""Stacks of another process, read from its memory, which the process need not run for.

Python 3.15 and newer can (`_remote_debugging`), where the process runs the same Python, and only as
a user that may trace it (ptrace(2): root, or its own user unless the kernel forbids that).

`python -m clusterd.kernel.unwind PID` prints them. It is a process of its own since it reads
foreign memory that may change meanwhile: where that fails, nothing else does.
"""

import importlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

TIMEOUT = 5.0  # seconds; a few milliseconds are usual once Python has started


def stacks_from_outside(pid: int) -> str:
    """Return the stacks of a process's threads, newest frame first; empty where not possible."""
    if sys.version_info < (3, 15):
        return ""
    command = [sys.executable, "-P", "-m", __name__, str(pid)]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def text(interpreters: Sequence[Any], main: int) -> str:
    """Return what a `RemoteUnwinder` found as text; `main` is the flag of the main thread."""
    threads = [thread for interpreter in interpreters for thread in interpreter.threads]
    parts = []
    for thread in sorted(threads, key=lambda thread: not thread.status & main):
        name = "MainThread" if thread.status & main else str(thread.thread_id)
        parts.append(f"thread {name}\n")
        parts += [
            f'  File "{frame.filename}", line {frame.location.lineno} in {frame.funcname}\n'
            for frame in thread.frame_info
            if frame.location is not None
        ]
    return "".join(parts)


def run(pid: int) -> None:
    """Print the stacks of a process; any exception says why that is not possible."""
    module = importlib.import_module("_remote_debugging")
    found = module.RemoteUnwinder(pid, all_threads=True).get_stack_trace()
    print(text(found, module.THREAD_STATUS_MAIN_THREAD), end="")


if __name__ == "__main__":
    run(int(sys.argv[1]))
