"""ASGI's extensions to HTTP, rule by rule as asgiref's docs/extensions.rst has them."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from clusterd.app.extensions import over_http1, over_websocket, without_zero_copy
from clusterd.app.notice import Notice
from clusterd.config.serving import HttpSettings
from tests.unit.worker.fakes import Bench, get, hello, run, statuses

TRAILED = get("/", "TE: trailers", "Connection: TE")
FILE = bytes(range(256)) * 16


def start(*headers: tuple[bytes, bytes], status: int = 200, **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def trailers(*headers: tuple[bytes, bytes], more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


def hint(*links: bytes) -> dict[str, Any]:
    return {"type": "http.response.early_hint", "links": links}


def pathsend(path: Path | str) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": str(path)}


async def answer_to(request: bytes, *messages: dict[str, Any]) -> bytes:
    """What a client gets, with the date and our name cut out."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    answer = await Bench(app).talk(request)
    lines = [b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", b"server: clusterd\r\n"]
    for line in lines:
        answer = answer.replace(line, b"")
    return answer


def test_each_request_has_a_dictionary_of_its_own() -> None:
    """And nothing in it can be changed, so that no request sees what another wrote."""

    async def test() -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["extensions"])
            await hello(scope, receive, send)

        bench = Bench(app)
        await bench.talk(get(), get())
        assert seen[0] == seen[1] == bench.server.extensions
        seen[0]["mine"] = {}
        assert "mine" not in seen[1]
        assert "mine" not in bench.server.extensions
        for value in seen[0].values():
            if value is not seen[0]["mine"]:
                with pytest.raises(TypeError):
                    value["x"] = 1

    run(test)


def test_what_is_offered_where() -> None:
    """Zero copy only where the kernel does it; a WebSocket has nothing of HTTP's."""
    plain = over_http1(Notice(), files=True)
    assert set(plain) == {
        "http.response.pathsend",
        "http.response.zerocopysend",
        "http.response.early_hint",
        "http.response.trailers",
        "clusterd.drain",
    }
    assert set(over_http1(Notice(), files=False)) == {
        "http.response.early_hint",
        "http.response.trailers",
        "clusterd.drain",
    }
    assert set(plain) - set(without_zero_copy(plain)) == {"http.response.zerocopysend"}
    assert over_websocket({**plain, "tls": {"a": 1}}) == {
        "websocket.http.response": {},
        "clusterd.drain": plain["clusterd.drain"],
        "tls": {"a": 1},
    }


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("offered", [False, True])
def test_a_file_that_a_middleware_dropped_is_explained(
    begins: bool, offered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """brotli-asgi and others hold the start back until a body comes that they know."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begins:
            await send(start())

    async def test() -> None:
        bench = Bench(app, HttpSettings(file_extensions=offered))
        assert statuses(await bench.talk(get())) == [500]
        assert ("a middleware has dropped the message http.response.pathsend" in caplog.text) is (
            offered
        )

    run(test)


# --- early hints


def test_early_hints_go_before_the_head() -> None:
    """Before and after http.response.start, as long as no head was sent; each its own answer."""

    async def test() -> None:
        sent = await answer_to(
            get(), hint(b"</a>; rel=preload", b"</b>"), start(), hint(b"</c>"), body(b"hello")
        )
        assert sent == (
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nlink: </c>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
        )

    run(test)


def test_a_hint_that_comes_late_is_dropped() -> None:
    """No informational answer may follow the head of the final one (RFC 9110, section 15)."""

    async def test() -> None:
        sent = await answer_to(get(), start(), body(b"a", True), hint(b"</late>"), body(b"b"))
        assert b"103" not in sent
        assert sent.endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")

    run(test)


def test_http_1_0_gets_no_hints() -> None:
    """It knows no answers before the answer (RFC 9110, section 15.2)."""

    async def test() -> None:
        sent = await answer_to(get(version="1.0"), hint(b"</a>"), start(), body(b"x"))
        assert statuses(sent) == [200]

    run(test)


@pytest.mark.parametrize("links", [[b"</a>\r\nset-cookie: b"], ["</a>"], 5])
def test_hints_cannot_inject(links: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        message = {"type": "http.response.early_hint", "links": links}
        sent = await answer_to(get(), message, start(), body(b"x"))
        assert statuses(sent) == [500]
        assert b"cookie" not in sent
        assert "broke the ASGI contract" in caplog.text

    run(test)


# --- trailers


def test_trailers_follow_the_last_chunk() -> None:
    async def test() -> None:
        sent = await answer_to(
            TRAILED,
            start((b"trailer", b"x-sum"), trailers=True),
            body(b"abc"),
            trailers((b"x-sum", b"1"), more=True),
            trailers((b"x-more", b"2")),
        )
        assert sent == (
            b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n"
        )

    run(test)


@pytest.mark.parametrize(
    "request_",
    [get(), get("/", "TE: gzip, nottrailers"), get(version="1.0")],
    ids=["no TE", "another TE", "1.0"],
)
def test_trailers_go_only_to_who_takes_them(request_: bytes) -> None:
    """Without `TE: trailers` the answer ends as if there were none."""

    async def test() -> None:
        sent = await answer_to(
            request_, start(trailers=True), body(b"abc"), trailers((b"x-sum", b"1"))
        )
        assert b"x-sum" not in sent
        assert sent.endswith(b"3\r\nabc\r\n0\r\n\r\n" if b"1.1" in request_ else b"\r\n\r\nabc")

    run(test)


def test_trailers_with_a_length_have_no_place() -> None:
    """Only chunks have room for them (RFC 9112, section 7.1.2)."""

    async def test() -> None:
        length = (b"content-length", b"3")
        sent = await answer_to(
            TRAILED, start(length, trailers=True), body(b"abc"), trailers((b"x", b"1"))
        )
        assert sent == b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"

    run(test)


def test_head_has_no_trailers() -> None:
    async def test() -> None:
        request = get("/", "TE: trailers", method="HEAD")
        sent = await answer_to(request, start(trailers=True), body(b"abc"), trailers((b"x", b"1")))
        assert sent == b"HTTP/1.1 200 OK\r\n\r\n"

    run(test)


MISUSED = [
    ([start(), trailers()], 500, "unannounced"),
    ([start(trailers=True), trailers()], 200, "unannounced, or before the end"),
    ([start(trailers=True), body(), body()], 200, "after the end of the body"),
    ([start(trailers=True), body()], 200, "returned before the end"),
    ([start(trailers=True), body(), trailers((b"x", b"a\r\nb"))], 200, "control characters"),
    ([start(trailers=True), body(), trailers((b"content-length", b"1"))], 200, "frames a message"),
    ([start(trailers=True), body(), trailers((b"connection", b"x"))], 200, "frames a message"),
]


@pytest.mark.parametrize(("messages", "status", "named"), MISUSED, ids=[row[2] for row in MISUSED])
def test_misused_trailers(
    messages: Any, status: int, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that was begun is cut, so that its client does not take it for whole."""

    async def test() -> None:
        sent = await answer_to(TRAILED, *messages)
        assert sent.startswith(b"HTTP/1.1 %d" % status)
        assert not sent.endswith(b"0\r\n\r\n")
        assert named in caplog.text

    with caplog.at_level(logging.ERROR):
        run(test)


# --- pathsend, as far as no real socket is needed


def test_a_small_file_goes_out_with_the_head(tmp_path: Path) -> None:
    """Its length is told, whether the app did or not."""

    async def test() -> None:
        path = tmp_path / "file"
        path.write_bytes(FILE)
        sent = await answer_to(get(), start((b"content-type", b"a/b")), pathsend(path))
        assert sent == (
            b"HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ncontent-length: 4096\r\n\r\n" + FILE
        )
        length = (b"content-length", b"4096")
        assert await answer_to(get(), start(length), pathsend(path)) == sent.replace(
            b"content-type: a/b\r\n", b""
        )

    run(test)


def test_a_file_that_grew_is_sent_as_far_as_was_said(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "log"
        path.write_bytes(FILE)
        sent = await answer_to(get(), start((b"content-length", b"10")), pathsend(path))
        assert sent.endswith(b"content-length: 10\r\n\r\n" + FILE[:10])

    run(test)


def test_a_file_that_shrank_is_no_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        path = tmp_path / "log"
        path.write_bytes(b"ab")
        sent = await answer_to(get(), start((b"content-length", b"10")), pathsend(path))
        assert statuses(sent) == [500]
        assert "10, and the body has 2" in caplog.text

    run(test)


def test_head_of_a_file(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "file"
        path.write_bytes(FILE)
        sent = await answer_to(get(method="HEAD"), start(), pathsend(path))
        assert sent == b"HTTP/1.1 200 OK\r\ncontent-length: 4096\r\n\r\n"

    run(test)


@pytest.mark.parametrize("name", ["missing", "folder", "pipe"])
def test_what_is_no_file_costs_one_500(name: str, tmp_path: Path) -> None:
    """And a pipe that nobody writes into is not waited for."""

    async def test() -> None:
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        sent = await answer_to(get(), start(), pathsend(tmp_path / name))
        assert statuses(sent) == [500]
        assert str(tmp_path).encode() not in sent

    run(test)


def test_pathsend_is_not_mixed_with_a_body(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        path = tmp_path / "file"
        path.write_bytes(FILE)
        sent = await answer_to(get(), start(), body(b"x", True), pathsend(path))
        assert FILE not in sent
        assert "was mixed with" in caplog.text
        sent = await answer_to(get(), pathsend(path))
        assert statuses(sent) == [500]
        sent = await answer_to(get(), start(), pathsend(path), pathsend(path))
        assert sent.count(FILE) == 1
        assert "after the end" in caplog.text

    run(test)
