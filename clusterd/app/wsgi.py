"""WSGI's side of an exchange (PEP 3333): the app is called with an environ and `start_response`.

Where the app is called, in a thread or in the loop itself, is up to the gateway: `app.threaded` or
`app.inline`. The exchange is its own task, as far as the connection and the drain ask.
"""

import asyncio
import contextvars
import errno
import io
import re
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from clusterd.app.environ import Environ, Environs
from clusterd.app.exchange import ENDED, WAITING, Exchange
from clusterd.app.http1 import EVENTS, Http1
from clusterd.app.peer import ClientGone, ContractError, has_client_gone
from clusterd.app.scope import describe
from clusterd.app.spool import MEMORY, Budget, NoRoomOnDiskError, Spool
from clusterd.core.log import get_logger
from clusterd.wire.heads import LONGEST, MOST, Pair
from clusterd.wire.response import FICKLE

logger = get_logger("clusterd.app")

# A class with slots cannot have two bases with slots: whoever derives from Wsgi has these.
SLOTS = ("call", "code", "committed", "headers", "is_iterated", "spool")
STATUS = re.compile(r"([2-9][0-9][0-9])(?: [^\x00-\x1f\x7f]*)?")
# The server's business, which PEP 3333 forbids to apps; the other hop-by-hop headers, Connection
# and its kin, are taken out by `wire.response` itself.
HOP_BY_HOP = frozenset({"te", "trailer", "trailers", "upgrade"})
NOTHING = (b"keep-alive", b"")  # a header that is always taken out
# A disk that is full, for all, for this user, or for a file of this size: another try may do later,
# at another server sooner.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]


class Pool(Protocol):
    """Threads to call the app in."""

    size: int

    def submit(self, job: Any) -> None: ...
    def done(self) -> None: ...


class Call(Protocol):
    """One call of the app, while it goes on."""

    def write(self, data: bytes) -> None:
        """A piece of the answer, from the app."""

    def show_head(self) -> None:
        """Send the head before the body has begun."""

    def news(self) -> AbstractContextManager[object]:
        """To change what the call may be waiting for."""


class Gateway:
    """The app as a worker calls it: `peer.app` of WSGI exchanges.

    `begin` calls the app for an exchange. Without `pool` that is in the loop's own thread, which
    wants the whole body first. `disk` bounds what bodies take there.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        environs: Environs,
        loop: asyncio.AbstractEventLoop,
        begin: Callable[["Wsgi"], None],
        disk: Budget,
        pool: Pool | None = None,
        most: int = 0,
    ) -> None:
        self.app = app
        self.environs = environs
        self.loop = loop
        self.begin = begin
        self.disk = disk
        self.pool = pool
        self.most = most  # bytes of a body that are gathered before the app begins; 0 for any
        self.context = contextvars.copy_context()
        self.slow = 0  # calls that began before the body of their request was complete

    @property
    def may_stream(self) -> bool:
        """Whether an app may begin before its body is complete.

        Clients that are slow to send can thus hold half of the threads, and never all.
        """
        return self.pool is not None and self.slow < self.pool.size // 2


class Wsgi(Exchange):
    """To be mixed with `Http1` or `Http2`, which make the answer's bytes.

    Its `task`, given by the connection where `run` did not end it, is itself, until `finish`. Until
    `call` is set as well, the body is gathered in `spool`.
    """

    if not TYPE_CHECKING:  # mypy would have the slots here, where they cannot be
        __slots__ = ()
    interface = "WSGI"

    call: Call | None  # while it goes on; what is answered at once has none
    code: int  # the status that the app has told, 0 for none
    headers: list[Pair]
    committed: bool  # something of the body is on its way: the head can no longer be changed
    is_iterated: bool  # the app has returned, and its result is asked for pieces
    spool: Spool | None  # the body, while the app waits for it

    def run(self) -> "Wsgi":  # type: ignore[override]  # not a coroutine: it costs no task
        """Call the app, now or once its body is here. Never raises what the app raises."""
        self.call = self.spool = None
        self.code = 0
        self.committed = self.is_iterated = False
        gateway: Gateway = self.peer.app
        if self.complete:
            gateway.begin(self)
            return self
        body, self.body = self.body, b""
        self.spool = Spool(body, gateway.disk, self)
        if body:
            self.peer.body_taken()
        if self.expects:
            if self._may_stream(gateway):
                gateway.begin(self)  # it asks for the body when it wants it
            else:
                self.go_on()
        return self

    def _may_stream(self, gateway: Gateway) -> bool:
        """Whether the app may begin before its body is complete.

        Not where the body's length is unknown: few apps read one of which CONTENT_LENGTH says
        nothing (Django takes it for empty).
        """
        return self._has_length and gateway.may_stream

    @property
    def _has_length(self) -> bool:
        return any(name == b"content-length" for name, _ in self.scope["headers"])

    def done(self) -> bool:
        """For whoever would have a task here: the app's call was over before `run` returned."""
        return self.stage is ENDED and self.call is None

    def cancel(self) -> bool:
        """Out of time: end the answer as it is. A thread that is stuck in the app stays there."""
        self._abandon(503)
        self.leave(gone=True)
        return True

    # --- the connection's side

    @property
    def waiting(self) -> int:
        # Before `run` there is no spool.
        spool = self.spool if self.task is not None else None
        return super().waiting + (spool.in_memory if spool is not None else 0)

    @property
    def awaits_body(self) -> bool:
        """Return whether the client has still to send something before the app is called."""
        return self.call is None and not self.complete

    def give_up_body(self) -> None:
        """Refuse the request, since its body takes room that others need."""
        self._abandon(413)
        self.finish()

    def add_body(self, data: bytes) -> None:
        if self.task is None:
            super().add_body(data)
        elif self.call is not None:
            with self.call.news():
                super().add_body(data)
        elif self.spool is not None:
            self.expects = False
            self._gather(self.spool, data)

    def _gather(self, spool: Spool, data: bytes) -> None:
        gateway: Gateway = self.peer.app
        try:
            spool.write(data)
            begins = spool.size > MEMORY and self._may_stream(gateway)
            if begins:
                spool.flush()
        except NoRoomOnDiskError:
            # By itself it would never have room; else another try will do later.
            self._abandon(413 if spool.size + len(data) > gateway.disk.limit else 503)
            self.finish()
            return
        except OSError as error:
            self._cannot_spool(error)
            return
        if begins:
            gateway.begin(self)
        elif spool.size > gateway.most > 0:
            # With a thread to spare the app could read it as it comes: to try again will do then.
            self._abandon(503 if gateway.pool is not None and self._has_length else 413)
            self.finish()
            return
        if self.task is not None:
            self.peer.body_taken()  # the client may go on sending

    def _cannot_spool(self, error: OSError) -> None:
        """Refuse the request, since the disk or its directory does not take the body."""
        logger.error(
            "a request's body could not be put on disk, in %s: %s; TMPDIR names another directory, "
            "and the setting spool_budget bounds what bodies take there",
            tempfile.tempdir or "the temporary directory",
            error,
            extra=describe(self.scope),
        )
        self._abandon(507 if error.errno in FULL else 503)
        self.finish()

    def end_body(self) -> None:
        if self.task is None:
            super().end_body()
        elif self.call is not None:
            with self.call.news():
                super().end_body()
        elif self.spool is not None:
            super().end_body()
            # Not from within the parser, whose caller goes on with what follows.
            self.peer.app.loop.call_soon(self._begin_late)

    def _begin_late(self) -> None:
        if self.spool is not None:
            try:
                self.spool.flush()
            except OSError as error:
                self._cannot_spool(error)
                return
            self.peer.app.begin(self)

    def leave(self, gone: bool) -> None:
        if self.task is None:
            super().leave(gone)
        elif self.call is not None:
            with self.call.news():
                super().leave(gone)
        else:
            super().leave(gone)
            if not self.complete:
                self._abandon(400)  # half a body is nothing to call the app with
            if gone or not self.complete:
                self.finish()

    # --- the call's side

    def environ(self, more: Callable[[], bytes | bytearray] | None = None) -> Environ:
        """For the app; `more` brings what has not come yet of the body."""
        environs: Environs = self.peer.app.environs
        if self.spool is None:
            body, self.body = self.body, b""
            size = len(body)
            environ = environs.make(self.scope, io.BytesIO(body))
        else:
            size = self.spool.size
            environ = environs.make(self.scope, self.spool.take(more))
        if size and "CONTENT_LENGTH" not in environ:
            environ["CONTENT_LENGTH"] = str(size)  # it came in chunks, and here it is in one
            environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """Take the status and headers; they are sent with the first piece of the body."""
        if self.code:
            if exc_info is None:
                raise ContractError("start_response was called twice, without exc_info")
            try:
                if self.committed:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # the traceback holds this frame
        code = _codes.get(status)
        if code is None:
            code = _judge_status(status)
        try:
            self.headers = list(map(_encode, headers))
        except TypeError:  # pairs that are lists, or no pairs at all
            self.headers = [_encode(_as_pair(pair)) for pair in _as_list(headers)]
        self.code = code
        if self.is_iterated:
            self.show_events()
        return self.write

    def show_events(self) -> None:
        """Send the head of an event stream before its first event.

        PEP 3333 wants a server to wait for the first piece of the body, so that `start_response`
        may be called again. An event stream is the exception: a browser reports the connection
        when the head arrives, and must not wait for an event that may be minutes away.
        """
        if self.code and not self.committed and self._has_events() and self.call is not None:
            self.committed = True
            self.call.show_head()

    def _has_events(self) -> bool:
        """Return whether the response is an event stream."""
        return any(
            name.lower() == b"content-type" and EVENTS in value.lower()
            for name, value in self.headers
        )

    def write(self, data: bytes) -> None:
        """What `start_response` returns: the old way to send a body.

        Its first call sends the head, also where it brings no data (PEP 3333).
        """
        check_piece(data)
        if self.call is not None:
            self.call.write(data)
        else:  # in the loop's own thread, where there is no waiting until it is sent
            self.send(data, more=True)

    def begin_answer(self) -> None:
        """Have the head made: it can no longer be changed."""
        if not self.code:
            raise ContractError("start_response was not called before the body began")
        self.committed = True
        self.start(self.code, self.headers)

    def told_length(self) -> int | None:
        """The Content-Length that the app has told."""
        for name, value in self.headers if self.code else ():
            if name.lower() == b"content-length" and value.isdigit():
                return int(value)
        return None

    def whole(self, body: bytes) -> None:
        """The answer is complete."""
        if not self.code:
            raise ContractError("start_response was not called")
        self.start(self.code, self.headers)
        self.answer(body)

    def send(self, data: bytes, more: bool) -> None:
        """A piece of the answer. Raises ClientGone."""
        if self.gone or self.stage is ENDED:
            raise ClientGone("the client has left, or was sent away")
        if self.stage is WAITING:
            self.begin_answer()
        self.stream(data, more)

    def failed(self, error: BaseException) -> None:
        """The app raised. It is not its fault where the client sent half a body, or where it was
        only told that its answer is over."""
        if has_client_gone(error):
            self._abandon(400 if self.left else 500)
        else:
            self._failed(error)

    def finish(self) -> None:
        """Nothing more is to come from the app, or it will not be called at all."""
        self.call = None
        if self.spool is not None:
            self.spool.close()
            self.spool = None
        if self.task is not None:
            self.peer.finished(self)
            self.task = None  # it is this object


class WsgiHttp1(Wsgi, Http1):
    """A WSGI app's exchange over HTTP/1."""

    __slots__ = SLOTS


# --- what apps say again and again, translated once

_codes: dict[str, int] = {}


def _judge_status(status: object) -> int:
    match = STATUS.fullmatch(status) if isinstance(status, str) else None
    if match is None:
        raise ContractError(f"the status {status!r} is not a number from 200 to 999 and a reason")
    if len(_codes) < MOST:
        _codes[match[0]] = int(match[1])
    return int(match[1])


class _Encodings(dict[tuple[str, str], Pair]):
    """Headers as apps write them → as they are sent."""

    def __missing__(self, pair: tuple[str, str]) -> Pair:
        try:
            name, value = pair
            encoded = (name.encode("latin-1"), value.encode("latin-1"))
        except (ValueError, AttributeError):
            raise ContractError(
                f"the header {pair!r:.80} is not a pair of latin-1 strings"
            ) from None
        lower = name.lower()
        if lower in HOP_BY_HOP:
            encoded = NOTHING
        if encoded[0].lower() not in FICKLE and len(name) + len(value) <= LONGEST:
            if len(self) >= MOST:
                self.clear()
            self[name, value] = encoded
        return encoded


_encode = _Encodings().__getitem__


def _as_list(headers: Any) -> list[Any]:
    try:
        return list(headers)
    except TypeError:
        raise ContractError(f"headers are a {type(headers).__name__}, not a list") from None


def _as_pair(pair: Any) -> tuple[Any, Any]:
    try:
        name, value = pair
    except (TypeError, ValueError):
        raise ContractError("a header is not a pair of name and value") from None
    if not isinstance(name, str) or not isinstance(value, str):
        raise ContractError(f"the header {pair!r:.80} is not a pair of strings")
    return name, value


def check_piece(data: object) -> None:
    if not isinstance(data, bytes):
        raise ContractError(f"a piece of the body is a {type(data).__name__}, not bytes")


def gather(result: Any) -> bytes | None:
    """The body of an answer that is known to be whole, since it is a list."""
    if result.__class__ is not list and result.__class__ is not tuple:
        return None
    if len(result) == 1 and result[0].__class__ is bytes:
        return result[0]
    for piece in result:
        check_piece(piece)
    return b"".join(result)
