"""The parent of a server that was started for the benchmark: with it goes the whole server.

A program of its own, run by path and with the standard library only, so that it is there in 20 ms
and nothing of the user's shadows it. It is told on stdin, as a line of JSON, what to start; says
`{"started": pid}` or `{"failed": text}`, and `{"ended": wait status}` when that ended by itself.
`stop`, or the end of stdin, which comes also when whoever started us was killed, sends it SIGTERM
and kills after a while whatever is left; `kill` does so at once. It adopts orphans, so nothing can
hide by becoming a daemon. Should the guard itself be killed, the kernel sends the server SIGTERM.
"""

import ctypes
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
KILL_LIMIT = 5.0  # seconds until what SIGKILL does not end (state D) is left alone
_FILES = 65_536  # open files that a server may have, if the machine lets it: thousands of clients

_LIBC = ctypes.CDLL(None, use_errno=True)


class Guard:
    """One server, from its start until nothing is left of it."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order = order
        self._pid = 0  # of the command; 0 once it has ended
        self._deadline: float | None = None  # set: we are stopping
        self._kill = False
        self._listening = True  # to stdin

    def start(self) -> bool:
        """Run the command; whether that went well."""
        us = os.getpid()
        cpus = self._order["cpus"]

        def prepare() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != us:
                os._exit(1)
            if cpus:
                os.sched_setaffinity(0, cpus)

        try:
            process = subprocess.Popen(
                self._order["command"],
                cwd=self._order["cwd"] or None,
                env=self._order["env"],
                stdin=subprocess.DEVNULL,
                stdout=2,  # our stderr is where its output goes
                preexec_fn=prepare,  # we have no threads
                start_new_session=True,  # a server that signals its group must not mean us
            )
        except OSError as error:
            tell(failed=f"{error.strerror}: {error.filename}")
            return False
        except subprocess.SubprocessError as error:
            tell(failed=str(error))
            return False
        self._pid = process.pid
        process.returncode = 0  # reaped by us, together with orphans
        tell(started=self._pid)
        return True

    def run(self, wake: int) -> None:
        """Until all is gone."""
        while self._reap():
            timeout = None
            if self._deadline is not None:
                timeout = max(0.0, self._deadline - time.monotonic())
            ready, _, _ = select.select([wake, *([0] if self._listening else [])], [], [], timeout)
            if wake in ready:
                with suppress(BlockingIOError):
                    os.read(wake, 4096)
            if 0 in ready:
                self._told(os.read(0, 4096))
            if self._deadline is not None and time.monotonic() >= self._deadline:
                if self._kill:
                    return  # not even SIGKILL helps
                self._end_it_all()

    def _told(self, data: bytes) -> None:
        self._listening = bool(data)
        if b"kill" in data:
            self._end_it_all()
        else:  # "stop", or the end
            self.stop()

    def stop(self) -> None:
        """In order: SIGTERM to the first process, and then to whoever outlives it SIGKILL."""
        if self._deadline is not None:
            return
        self._deadline = time.monotonic() + self._order["stop_limit"]
        if self._pid:
            os.kill(self._pid, signal.SIGTERM)
        else:
            self._end_it_all()

    def _end_it_all(self) -> None:
        self._kill = True
        self._deadline = time.monotonic() + KILL_LIMIT
        for pid in descendants():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> bool:
        """Collect the dead. Whether there is a reason to go on: children, or nobody said stop."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return self._deadline is None
            if pid == 0:
                break
            if pid == self._pid:
                self._pid = 0
                if self._deadline is None:
                    tell(ended=status)
        if self._deadline is not None and not self._pid:
            self._end_it_all()  # again for every death: a dying process's children come to us
        return True


def descendants() -> list[int]:
    """Whoever descends from us, by the parents that /proc names."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found = list(children.get(os.getpid(), ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def tell(**what: Any) -> None:
    """A line to whoever started us; nobody may be there any more."""
    with suppress(OSError):
        os.write(1, json.dumps(what).encode() + b"\n")


def _be_guard() -> int:
    """Adopt orphans, be woken by deaths, survive what is meant for others. What wakes us."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    # Handled and not ignored: what is ignored would be so in the server too.
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, lambda *_: None)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return wake


def _line() -> bytes:
    """The order: stdin up to the end of the line, and no byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 65_536)):
            break
        line += byte
    return bytes(line)


def main() -> None:
    """Guard one server."""
    wake = _be_guard()
    line = _line()
    if not line.endswith(b"\n"):
        return  # whoever wanted one died before saying which
    order = json.loads(line)
    guard = Guard(order)
    signal.signal(signal.SIGTERM, lambda *_: guard.stop())
    try:
        if guard.start():
            guard.run(wake)
    finally:
        shutil.rmtree(order["folder"], ignore_errors=True)


if __name__ == "__main__":
    main()
