"""All that a command started, however it hid: in sessions of their own, their parents gone."""

import contextlib
import ctypes
import os
import select
import signal
import time
from typing import Self

import psutil

from tests.support.server import LIMIT

PR_SET_CHILD_SUBREAPER = 36  # prctl(2): who loses his parent becomes a child of ours


class Offspring:
    """While this is entered, no descendant of this process gets lost; at the end none is left."""

    def __enter__(self) -> Self:
        self._before = self._all()
        self._adopt(True)
        return self

    def __exit__(self, *_: object) -> None:
        left = self._all() - self._before
        while left:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            left = self._all() - self._before
        self._adopt(False)

    @staticmethod
    def _adopt(on: bool) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)

    @staticmethod
    def _all() -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True)}

    def living(self) -> dict[int, str]:
        """By pid, what they run; without those that have ended and were not waited for."""
        found = {}
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if child.pid not in self._before and child.status() != psutil.STATUS_ZOMBIE:
                    found[child.pid] = " ".join(child.cmdline())
        return found

    def _reap(self) -> None:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess, ChildProcessError):
                if child.pid not in self._before and child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)

    def until_gone(self) -> None:
        """Wait until all have ended."""
        deadline = time.monotonic() + LIMIT
        while living := self.living():
            for pid in living:
                with contextlib.suppress(ProcessLookupError):
                    end_of = os.pidfd_open(pid)
                    ended, _, _ = select.select([end_of], [], [], deadline - time.monotonic())
                    os.close(end_of)
                    assert ended, living
