"""What an exchange and its connection say to each other, and the errors that cross between them."""

from collections.abc import Set
from typing import TYPE_CHECKING, Any, Protocol

from clusterd.core.errors import AppError

if TYPE_CHECKING:
    from clusterd.app.exchange import Exchange


class ContractError(AppError):
    """The app broke the ASGI contract; the message names the rule."""


class ClientGone(OSError):
    """Raised by `send` once the client has left (ASGI HTTP 2.4)."""


class Peer(Protocol):
    """What an exchange needs of its connection, whatever is spoken there."""

    app: Any

    @property
    def is_paused(self) -> bool:
        """The client reads slower than we write."""

    async def drain(self) -> None: ...
    def refresh(self) -> None: ...
    def begins(self, exchange: "Exchange") -> None:
        """A head was made. If no body follows in this turn of the loop, send it alone."""

    def body_taken(self) -> None: ...
    def answered(self, exchange: "Exchange", size: int) -> None: ...
    def abandoned(self, exchange: "Exchange", fresh: bool) -> None: ...
    def blame(self) -> None: ...
    def finished(self, exchange: "Exchange") -> None: ...
    def head_of(self, status: int, without: Set[bytes]) -> bytes: ...


class Http1Peer(Peer, Protocol):
    """What an answer in HTTP/1 needs of it."""

    heads: dict[tuple[Any, ...], tuple[bytes, int]]  # (status, *headers) → head, Content-Length

    def write(self, data: bytes) -> None: ...
    def write_all(self, pieces: list[bytes]) -> None: ...
    async def send_file(self, file: int, offset: int, count: int) -> None: ...
    def can_drain(self, exchange: "Exchange") -> bool: ...
    def has_room(self, size: int) -> bool:
        """Return whether a large response may be taken, and wait for its client."""


def has_client_gone(error: BaseException | None) -> bool:
    """Whether an error comes from the client's leaving."""
    for _ in range(20):
        if error is None or isinstance(error, ClientGone):
            return error is not None
        error = error.__cause__ or error.__context__
    return False
