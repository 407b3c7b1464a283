"""Errors that say whose fault it is. Each carries its exit code and, where one helps, a remedy."""

from clusterd.core.exits import Exit


class ClusterdError(Exception):
    """Base of all errors that clusterd raises on purpose: a sentence, and what to do about it."""

    exit: Exit = Exit.BUG

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class ConfigError(ClusterdError):
    """The operator's fault: an option, a file or a key that cannot be used."""

    exit = Exit.CONFIG


class BindError(ClusterdError):
    """The address cannot be had: in use, not ours, or not allowed."""

    exit = Exit.BIND


class AppError(ClusterdError):
    """The application's fault: it cannot be imported, started, or it breaks its contract."""

    exit = Exit.NEVER_READY


class PeerError(ClusterdError):
    """The client's fault; `status` is what to answer before the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotRunning(ClusterdError):
    """A command found no cluster to talk to."""

    exit = Exit.FAILED


class SeveralRun(ClusterdError):
    """A command found several clusters, and was not told which of them is meant."""

    exit = Exit.FAILED


class Bug(ClusterdError):
    """Our fault: something that cannot be has happened."""

    exit = Exit.BUG
