"""Which interface an application has, told from how it can be called."""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon
import flask
import pytest
import starlette.applications
import starlette.endpoints

from clusterd.app.importer import LoadError, interface_of, load


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def asgi_by_hand(scope: Any, receive: Any, send: Any) -> Any: ...


async def asgi_wrapped(*args: Any, **kwargs: Any) -> None: ...


async def asgi_with_more(scope: Any, receive: Any, send: Any, extra: int = 1) -> None: ...


def wsgi(environ: Any, start_response: Any) -> Any: ...


def wsgi_stream(environ: Any, start_response: Any) -> Iterator[bytes]:
    yield b""


class AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...

    async def method(self, scope: Any, receive: Any, send: Any) -> None: ...


class WsgiObject:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...

    def method(self, environ: Any, start_response: Any) -> Any: ...


class WsgiClass:
    def __init__(self, environ: Any, start_response: Any) -> None: ...

    def __iter__(self) -> Iterator[bytes]:
        yield b""


class AsgiTwo:
    def __init__(self, scope: Any) -> None: ...

    async def __call__(self, receive: Any, send: Any) -> None: ...


def wsgi_for(name: str, environ: Any, start_response: Any) -> Any: ...


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (asgi, "asgi"),
        (asgi_by_hand, "asgi"),
        (asgi_wrapped, "asgi"),
        (asgi_with_more, "asgi"),
        (AsgiObject(), "asgi"),
        (AsgiObject().method, "asgi"),
        (functools.partial(AsgiObject()), "asgi"),
        (starlette.applications.Starlette(), "asgi"),
        (starlette.endpoints.HTTPEndpoint, "asgi"),
        (wsgi, "wsgi"),
        (wsgi_stream, "wsgi"),
        (WsgiObject(), "wsgi"),
        (WsgiObject().method, "wsgi"),
        (WsgiClass, "wsgi"),
        (functools.partial(wsgi_for, "shop"), "wsgi"),
        (flask.Flask("shop"), "wsgi"),
        (falcon.App(), "wsgi"),
    ],
    ids=lambda each: re.sub(r" at 0x[0-9a-f]+", "", str(each)),  # the same in every process
)
def test_told_from_the_object(app: object, interface: str) -> None:
    assert interface_of(app) == interface


@pytest.mark.parametrize(
    ("app", "said", "remedy"),
    [
        (AsgiTwo, "ASGI 2", "guarantee_single_callable"),
        (lambda _scope: None, "ASGI 2", "guarantee_single_callable"),
        (lambda: wsgi, "no arguments", "--factory"),
        (lambda *_args: None, "both", "--interface"),
        (lambda _a, _b, _c=None: None, "both", "--interface"),
        (lambda _a, _b, _c, _d: None, "of either", "--interface"),
        (type, "", "--interface"),
    ],
)
def test_what_cannot_be_told_is_said(app: object, said: str, remedy: str) -> None:
    with pytest.raises(LoadError) as caught:
        interface_of(app)
    assert said in caught.value.message
    assert remedy in caught.value.remedy


def test_async_of_two_arguments_is_neither() -> None:
    async def half(environ: Any, start_response: Any) -> None: ...

    with pytest.raises(LoadError, match="is async, but"):
        interface_of(half)


@pytest.mark.parametrize("wanted", ["asgi", "wsgi"])
def test_what_the_operator_says_counts(wanted: str) -> None:
    assert interface_of(lambda *_args: None, wanted) == wanted


def test_it_is_found_out_at_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a mistake is told before anything serves."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "unclear_shop.py").write_text("def app(*args): pass\n")
    with pytest.raises(LoadError, match="both as ASGI and as WSGI"):
        load("unclear_shop:app", str(tmp_path), interface="auto")
    assert load("unclear_shop:app", str(tmp_path), interface="wsgi")
