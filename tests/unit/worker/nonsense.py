"""What apps do wrong: messages, and how the client is to see it. Asked of a connection in this
process, and of a real worker."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any

App = Callable[[Any, Any, Any], Awaitable[None]]
REFUSED, CANCELLED, CUT, WHOLE = "500", "503", "cut", "whole"
CLOSED = "whole, and the end of the connection"
SECRET = "the app's own words"
START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b""}
PIECE = {"type": "http.response.body", "body": b"piece", "more_body": True}


def start(status: Any = 200, headers: Any = ()) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: Any, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def sized(length: bytes) -> dict[str, Any]:
    return start(200, [(b"content-length", length)])


def sending(*messages: Any) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def failing(error: BaseException, *messages: Any) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        raise error

    return app


async def exits(scope: Any, receive: Any, send: Any) -> None:
    sys.exit(SECRET)


async def recurs(scope: Any, receive: Any, send: Any) -> None:
    await recurs(scope, receive, send)


async def cancels_itself(scope: Any, receive: Any, send: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def never_waits_for(scope: Any, receive: Any, send: Any) -> None:
    """Calls `send` and leaves what it returned alone; the test sees to the warning."""
    send(START).close()


async def swallows(scope: Any, receive: Any, send: Any) -> None:
    """Goes on after its error as if nothing were."""
    for message in (start(99), START, body("text"), body(b"fine")):
        try:
            await send(message)
        except Exception:
            pass


async def twice_at_once(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.gather(sending(START, body(b"a"))(scope, receive, send), send(START))


async def returns_early(scope: Any, receive: Any, send: Any) -> None:
    return


async def returns_something(scope: Any, receive: Any, send: Any) -> Any:
    await send(START)
    await send(body(b"fine"))
    return {"status": 200}


def not_a_coroutine(scope: Any, receive: Any, send: Any) -> Any:
    return 5


def raises_at_once(scope: Any, receive: Any, send: Any) -> Any:
    raise RuntimeError(SECRET)


class Strange(dict):  # type: ignore[type-arg]
    """A message that cannot even be looked at."""

    def get(self, *args: Any) -> Any:
        raise RuntimeError(SECRET)


STATUSES: tuple[Any, ...] = (
    *(99, 100, 101, 103, 199, 1000, 0, -1, 2**64, None, True, False, "200", "200 OK", b"200"),
    *(200.0, 200.5, float("nan"), 200j, [], {}, (200,), object(), "200\r\nX: y"),
)
HEADERS: tuple[Any, ...] = (
    *(None, 5, "ab", b"ab", object(), [None], [5], ["ab"], ["abc"], [()], [(b"a",)], [[]], [{}]),
    *(
        [(b"a", b"b", b"c")],
        [("a", b"b")],
        [(b"a", "b")],
        [("a", "b")],
        [(b"a", None)],
        [(b"a", 5)],
    ),
    *([(None, b"b")], [([], b"b")], [(b"a", [])], {b"a": b"b"}, [(b"", b"b")], [(b" ", b"b")]),
    *([(b"a b", b"c")], [(b"a:", b"b")], [(b"a\r\nb", b"c")], [(b"a\n", b"b")], [(b"a\0", b"b")]),
    *([(b"\xff", b"b")], [(b"(a)", b"b")], [(b"a", b"b\r\nSet-Cookie: c")], [(b"a", b"b\nc: d")]),
    *(
        [(b"a", b"\r")],
        [(b"a", b"b\0c")],
        [(b"a", b"\x1b[31m")],
        [(b"a", b"\x7f")],
        [(b"a", b"\x0b")],
    ),
    *([(b"content-length", b"x")], [(b"content-length", b"")], [(b"content-length", b"-1")]),
    *([(b"content-length", b"5, 5")], [(b"content-length", b"+5")], [(b"Content-Length", b" 5")]),
    *([(b"content-length", b"5"), (b"Content-Length", b"5")], [(b"content-length", b"9" * 30)]),
    *([(b"date", b"\r\n")], [(b"server", b"a\0")], [(b"Set-Cookie", b"a=b\r\n\r\n<html>")]),
)
BODIES = (None, "text", 5, 5.5, [b"a"], {"a": 1}, object(), (b"a",), True)
MESSAGES: tuple[Any, ...] = (
    *(None, 5, "http.response.start", b"x", [], [START], (), {}, {"status": 200}, object()),
    *({"type": None}, {"type": 5}, {"type": ""}, {"type": []}, {"type": "http.request"}),
    *({"type": "http.response.push"}, {"type": "http.disconnect"}, {"type": "websocket.accept"}),
    *({"type": "lifespan.startup.complete"}, {"type": "http.response.start\r\n"}, END, PIECE),
    *({"type": "http.response.trailers", "headers": []}, {"type": "http.response.start"}),
    *({"type": "http.response.pathsend"}, {"type": "http.response.pathsend", "path": "/\0"}),
    *({"type": "http.response.pathsend", "path": 5.5}, {"type": "http.response.zerocopysend"}),
    *({"type": "http.response.early_hint", "links": 5}, Strange(type="http.response.start")),
    {"type": "http.response.early_hint", "links": [b"a\r\nX: y"]},
)
ERRORS = (
    *(RuntimeError, Exception, BaseException, SystemExit, KeyboardInterrupt, MemoryError, OSError),
    *(asyncio.CancelledError, asyncio.TimeoutError, StopAsyncIteration, GeneratorExit, EOFError),
    *(RecursionError, BrokenPipeError, ConnectionResetError, UnicodeError, Warning, ExceptionGroup),
)


def error(kind: type[BaseException]) -> BaseException:
    return ExceptionGroup(SECRET, [OSError()]) if kind is ExceptionGroup else kind(SECRET)


def told(each: object) -> str:
    """Without its place in memory: names are the same in every process that runs the tests."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(each))


# name → app, and how its client sees it
TABLE: dict[str, tuple[App, str]] = {
    **{f"status {told(each):.40}": (sending(start(each), END), REFUSED) for each in STATUSES},
    **{f"headers {told(each):.60}": (sending(start(200, each), END), REFUSED) for each in HEADERS},
    **{f"body {told(each):.40}": (sending(START, body(each)), REFUSED) for each in BODIES},
    **{f"later body {told(each):.40}": (sending(START, PIECE, body(each)), CUT) for each in BODIES},
    **{f"message {told(each):.60}": (sending(each), REFUSED) for each in MESSAGES},
    **{
        f"message {told(each):.60} after the start": (sending(START, each), REFUSED)
        for each in MESSAGES
        if each is not END and each is not PIECE
    },
    **{
        f"message {told(each):.60} in mid-stream": (sending(START, PIECE, each), CUT)
        for each in MESSAGES
        if each is not END and not (isinstance(each, dict) and "early_hint" in str(each))
    },
    **{f"{kind.__name__} before the start": (failing(error(kind)), REFUSED) for kind in ERRORS},
    **{f"{kind.__name__} after it": (failing(error(kind), START), REFUSED) for kind in ERRORS},
    **{
        f"{kind.__name__} in mid-stream": (failing(error(kind), START, PIECE), CUT)
        for kind in ERRORS
    },
    **{f"{kind.__name__} at the end": (failing(error(kind), START, END), WHOLE) for kind in ERRORS},
    "start twice": (sending(START, START), REFUSED),
    "start again in mid-stream": (sending(START, PIECE, START), CUT),
    "start after the end": (sending(START, END, START), WHOLE),
    "body after the end": (sending(START, END, body(b"more")), WHOLE),
    "many bodies after the end": (sending(START, END, *[body(b"more", True)] * 9), WHOLE),
    "trailers unannounced": (
        sending(START, PIECE, {"type": "http.response.trailers", "headers": []}),
        CUT,
    ),
    "too long": (sending(sized(b"3"), body(b"four")), REFUSED),
    "too short": (sending(sized(b"3"), body(b"2")), REFUSED),
    "too long, in pieces": (sending(sized(b"3"), body(b"12", True), body(b"34")), CUT),
    "too short, in pieces": (sending(sized(b"3"), body(b"1", True), body(b"2")), CUT),
    "too long at the end": (sending(sized(b"3"), body(b"123", True), body(b"4", True)), CLOSED),
    "short, and a return": (sending(sized(b"3"), body(b"1", True)), CUT),
    "no end": (sending(START, PIECE), CUT),
    "a start alone": (sending(START), REFUSED),
    "nothing at all": (returns_early, REFUSED),
    "a value returned": (returns_something, WHOLE),
    "no coroutine": (not_a_coroutine, REFUSED),
    "an error instead of a coroutine": (raises_at_once, REFUSED),
    "sys.exit": (exits, REFUSED),
    "recursion": (recurs, REFUSED),
    "cancels itself": (cancels_itself, CANCELLED),
    "never awaits": (never_waits_for, REFUSED),
    "swallows its errors": (swallows, WHOLE),
    "two answers at once": (twice_at_once, WHOLE),
    "a generator of headers": (sending(start(200, iter([(b"a", b"b")])), body(b"x")), WHOLE),
    "a bytearray": (sending(START, body(bytearray(b"x"))), WHOLE),
    "a memoryview": (sending(START, body(memoryview(b"x"))), WHOLE),
    "a body of 204": (sending(start(204), body(b"nothing")), WHOLE),
    "a body of 304": (sending(start(304), body(b"nothing")), WHOLE),
    "a streamed body of 204": (sending(start(204), PIECE, body(b"nothing")), WHOLE),
    "a length of 204": (sending(start(204, [(b"content-length", b"7")]), body(b"nothing")), WHOLE),
    "framing of its own": (
        sending(start(200, [(b"transfer-encoding", b"gzip"), (b"connection", b"x")]), body(b"x")),
        WHOLE,
    ),
    "ten thousand headers": (sending(start(200, [(b"a", b"b")] * 10_000), body(b"x")), WHOLE),
}
