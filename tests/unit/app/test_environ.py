"""The environ of a request: what PEP 3333 and CGI ask for, and nothing that could be forged."""

import logging
import sys
import traceback
from typing import Any

import pytest

from clusterd.app.environ import LINE, MOST_TOLD, Environs, _Translations
from clusterd.app.scope import template
from clusterd.core.log import get_logger

CLIENT = ("192.0.2.1", 50000)
SERVER = ("192.0.2.2", 8000)


def environ_of(
    *headers: tuple[bytes, bytes],
    path: bytes = b"/",
    root: str = "",
    client: Any = CLIENT,
    server: Any = SERVER,
    scheme: str = "http",
    **scope: Any,
) -> dict[str, Any]:
    made = template(client, server, scheme) | {
        "method": "GET",
        "raw_path": path,
        "path": path.decode() if b"%" not in path else "\xe9",
        "root_path": root,
        "headers": list(headers),
        **scope,
    }
    return Environs(True, list).make(made, b"input")


def test_what_is_always_there() -> None:
    environ = environ_of(query_string=b"a=b&c", http_version="1.0")
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/"
    assert environ["QUERY_STRING"] == "a=b&c"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("192.0.2.2", "8000")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("192.0.2.1", "50000")
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.input"] == b"input"
    assert environ["wsgi.input_terminated"] is True
    assert type(environ) is dict
    assert not [key for key in environ if key.startswith("HTTP_")]


@pytest.mark.parametrize(("scheme", "port"), [("http", "80"), ("https", "443")])
def test_a_unix_socket_has_no_addresses(scheme: str, port: str) -> None:
    environ = environ_of(client=None, server=("/run/shop.sock", None), scheme=scheme)
    assert environ["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in environ
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", port)


def test_a_proxy_may_tell_no_port() -> None:
    environ = environ_of(client=("198.51.100.7", 0))
    assert environ["REMOTE_ADDR"] == "198.51.100.7"
    assert "REMOTE_PORT" not in environ


def test_addresses_of_one_client_may_change() -> None:
    """A proxy speaks for many, and a client may come over several connections."""
    environs = Environs(False, list)
    for server, scheme in [(SERVER, "http"), (("192.0.2.3", 443), "https"), (SERVER, "http")]:
        scope = template(CLIENT, server, scheme) | {"headers": []}
        environ = environs.make(scope, None)
        assert environ["SERVER_NAME"] == server[0]
        assert environ["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize(
    ("path", "root", "script_name", "path_info"),
    [
        (b"/a/b", "", "", "/a/b"),
        (b"/caf%C3%A9", "", "", "/caf\xc3\xa9"),
        (b"/%FF", "", "", "/\xff"),
        (b"/a%2Fb", "", "", "/a/b"),
        (b"/shop/a", "/shop", "/shop", "/a"),
        (b"/shop", "/shop", "/shop", ""),
        (b"/shop/", "/shop", "/shop", "/"),
        (b"/shopping", "/shop", "/shop", "/shopping"),
        (b"/a", "/shop", "/shop", "/a"),
        (b"/caf%C3%A9/a", "/caf\u00e9", "/caf\xc3\xa9", "/a"),
    ],
)
def test_paths_are_bytes_as_latin_1(
    path: bytes, root: str, script_name: str, path_info: str
) -> None:
    environ = environ_of(path=path, root=root)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


def test_headers() -> None:
    environ = environ_of(
        (b"host", b"shop"),
        (b"x-two-words", b"\xe9"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"5"),
    )
    assert environ["HTTP_HOST"] == "shop"
    assert environ["HTTP_X_TWO_WORDS"] == "\xe9"
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["CONTENT_LENGTH"] == "5"
    assert "HTTP_CONTENT_TYPE" not in environ


def test_headers_that_come_twice_are_joined() -> None:
    environ = environ_of(
        (b"accept", b"a"), (b"cookie", b"x=1"), (b"accept", b"b"), (b"cookie", b"y=2")
    )
    assert environ["HTTP_ACCEPT"] == "a,b"
    assert environ["HTTP_COOKIE"] == "x=1; y=2"


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize(
    ("header", "key"),
    [
        ((b"proxy", b"evil"), "HTTP_PROXY"),
        ((b"x_forwarded_for", b"evil"), "HTTP_X_FORWARDED_FOR"),
        ((b"content_length", b"evil"), "HTTP_CONTENT_LENGTH"),
    ],
)
def test_what_would_pass_for_something_else_is_dropped(
    header: tuple[bytes, bytes], key: str, twice: bool
) -> None:
    """httpoxy, and underscores that would pass for dashes."""
    more = [(b"accept", b"a")] * 2 if twice else []
    environ = environ_of((b"x-forwarded-proto", b"https"), header, *more)
    assert key not in environ
    assert "evil" not in environ.values()
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https"
    assert environ["wsgi.version"] == (1, 0)


def test_the_genuine_one_stays_beside_its_double() -> None:
    environ = environ_of((b"x-real-ip", b"192.0.2.9"), (b"x_real_ip", b"evil"))
    assert environ["HTTP_X_REAL_IP"] == "192.0.2.9"


def test_requests_do_not_share_an_environ() -> None:
    environs = Environs(False, list)
    scope = template(CLIENT, SERVER) | {"headers": [], "method": "GET"}
    first = environs.make(scope, None)
    first["mine"] = True
    assert "mine" not in environs.make(scope, None)
    assert environs.make(scope, None)["wsgi.multithread"] is False


def test_an_endless_line_of_errors_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    errors = environ_of()["wsgi.errors"]
    assert errors.write("x" * 20000) == 20000
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.INFO
    errors.flush()
    assert len(caplog.records) == 1


def test_an_unended_line_is_kept_until_it_is_too_long(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    errors = environ_of()["wsgi.errors"]
    errors.write("x" * LINE)
    assert not caplog.records
    errors.write("x")
    assert len(caplog.records) == 1


def a_failure() -> str:
    """A traceback with another one inside it."""
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None
    except ValueError:
        return traceback.format_exc()


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    return [(record.getMessage(), getattr(record, "block", "")) for record in caplog.records]


def test_a_record_of_the_apps_logging_is_one_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """As Flask's handler writes it: a line, and the traceback below."""
    caplog.set_level(logging.INFO)
    errors = environ_of()["wsgi.errors"]
    handler = logging.StreamHandler(errors)
    try:
        raise ValueError("no")
    except ValueError:
        failure = logging.LogRecord("app", 40, "", 1, "it failed", None, sys.exc_info())
    handler.emit(failure)
    handler.emit(logging.LogRecord("app", 20, "", 1, "it goes on", None, None))
    (first, block), last = logged(caplog)
    assert first == "it failed"
    assert block.startswith("Traceback (most recent call last):\n")
    assert block.endswith("\nValueError: no")
    assert last == ("it goes on", "")


def test_a_traceback_that_comes_line_by_line_is_one_record(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As `traceback.print_exc` writes it."""
    caplog.set_level(logging.INFO)
    errors = environ_of()["wsgi.errors"]
    for line in a_failure().splitlines(keepends=True):
        errors.write(line)
    errors.write("after\n")
    (first, block), last = logged(caplog)
    assert first == "Traceback (most recent call last):"
    assert block.endswith("\nValueError: second")
    assert last == ("after", "")


def test_what_the_app_writes_is_logged_whatever_the_level_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Flask writes the tracebacks of its failures there."""
    caplog.set_level(logging.INFO)
    errors = environ_of()["wsgi.errors"]
    ours = get_logger("clusterd.app")
    ours.setLevel(logging.ERROR)
    try:
        errors.write("a line\n")
        errors.write(a_failure())
    finally:
        ours.setLevel(logging.NOTSET)
    line, (first, block) = logged(caplog)
    assert line == ("a line", "")
    assert (first + block).endswith("\nValueError: second")


def test_a_traceback_that_was_begun_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    errors = environ_of()["wsgi.errors"]
    errors.write("Traceback (most recent call last):\n")
    errors.write("  somewhere\n")
    errors.flush()
    assert logged(caplog) == [("Traceback (most recent call last):", "  somewhere")]


def test_a_header_that_is_left_out_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """nginx and gunicorn leave such ones out in silence, and their users look for hours."""
    translations = _Translations()
    for name in (b"user_id", b"user_id", b"proxy", b"fine"):
        translations[name, b"x"]
    told = [record.getMessage() for record in caplog.records]
    assert [line.split()[3] for line in told] == ["user_id", "proxy"]
    for number in range(100):
        translations[b"n_%d" % number, b"x"]
    assert len(caplog.records) == MOST_TOLD
