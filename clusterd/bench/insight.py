"""What only the server itself knows: its workers, what each has answered; and how to reload it."""

import os
import signal
from contextlib import suppress
from typing import Protocol

from clusterd.bench.tree import Tree, leaves


class Insight(Protocol):
    """A look into a running server; asked several times a second while it is under load.

    Any of these may raise ClusterdError or OSError where the server does not tell just now.
    """

    def requests(self) -> dict[int, int]:
        """How many requests each worker has answered since it began, by pid; {} if not known."""

    def workers(self) -> list[int]:
        """The pids of the processes that serve."""

    def reload(self) -> None:
        """Load the code anew, without waiting for the end of it."""


class TreeInsight:
    """What can be seen from outside: workers are the processes without children, and SIGHUP to the
    first process reloads, as most servers have it."""

    def __init__(self, pid: int, tree: Tree) -> None:
        self._pid = pid
        self._tree = tree

    def requests(self) -> dict[int, int]:
        """It does not tell."""
        return {}

    def workers(self) -> list[int]:
        """The leaves of its tree."""
        return leaves(self._tree.alive())

    def reload(self) -> None:
        """SIGHUP; nothing where it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGHUP)
