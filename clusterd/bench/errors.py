"""What can go wrong with a benchmark, and is not the clusterd's that is measured."""

from clusterd.core.errors import ClusterdError
from clusterd.core.exits import Exit


class Unreachable(ClusterdError):
    """Nobody answers there, or not in a way that could be measured: DNS, connect, TLS, HTTP."""

    exit = Exit.FAILED


class ServerFailed(ClusterdError):
    """A server that was started for the benchmark did not come up, or ended by itself."""

    exit = Exit.FAILED


class CannotWrite(ClusterdError):
    """The report cannot be stored where it was asked for: a full disk, no such directory."""

    exit = Exit.FAILED


class GeneratorFailed(ClusterdError):
    """A process that was to drive the load ended before it began."""

    exit = Exit.FAILED
