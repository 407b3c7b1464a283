"""A target as people type it, and what is said of those that are none."""

from pathlib import Path

import pytest

from clusterd.bench.load import Target
from clusterd.bench.requests import host_of
from clusterd.bench.target import is_target, parse_target
from clusterd.core.errors import ConfigError

GOOD = {
    "http://localhost:8000": Target("http", "localhost", 8000),
    "http://127.0.0.1": Target("http", "127.0.0.1", 80),
    "https://example.org/a?b=c#d": Target("https", "example.org", 443, "/a?b=c"),
    "ws://h:1/echo": Target("ws", "h", 1, "/echo"),
    "wss://h": Target("wss", "h", 443),
    "http://[::1]:8000/": Target("http", "::1", 8000),
    "http://[fe80::1%eth0]:8000/": Target("http", "fe80::1%eth0", 8000),
    "HTTP://LocalHost:80?a": Target("http", "localhost", 80, "/?a"),
    "http://bücher.example/ä b%20": Target("http", "xn--bcher-kva.example", 80, "/%C3%A4%20b%20"),
    "unix:/run/a.sock": Target("http", "localhost", 0, unix="/run/a.sock"),
    "unix:///run/a.sock:/p?q": Target("http", "localhost", 0, "/p?q", unix="/run/a.sock"),
}
BAD = {
    "localhost:8000": "Did you mean http://localhost:8000?",
    "127.0.0.1:8000/path": "Did you mean http://127.0.0.1:8000/path?",
    "[::1]:8000": "Did you mean http://",
    "localhost": "no scheme",
    "": "no scheme",
    "ftp://h/": "'ftp', and not one of http, https, ws, wss",
    "http:///path": "names no host",
    "http://h:0/": "port 0",
    "http://h:99999/": "Port out of range",
    "http://h:x/": "no URL",
    "http://[::1": "no URL",
    "http://a b/": "no name of a host",
    "http://a..b/": "no name of a host",
    "http://h/\r\nX: y": "control characters",
    "http://me:secret@h/": "-H 'Authorization",
    "unix:run/a.sock": "full path",
    "unix:/run/a.sock:path": "begins with /",
}


@pytest.mark.parametrize("text", GOOD)
def test_a_target_is_read_as_it_is_meant(text: str) -> None:
    assert parse_target(text) == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_target_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_target(text)
    assert BAD[text] in str(caught.value)
    assert "secret" not in str(caught.value)


def test_urls_and_sockets_are_told_from_modules() -> None:
    assert all(map(is_target, ["http://h", "unix:/run/a.sock", "ftp://h"]))
    assert not any(map(is_target, ["module:app", "module", "package.module:make()"]))


def test_authorities_are_a_file_and_for_tls(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match="no file"):
        parse_target("https://h", ca_file=str(file))
    file.touch()
    assert parse_target("https://h", ca_file=str(file)).ca_file == str(file)
    with pytest.raises(ConfigError, match="for TLS"):
        parse_target("http://h", ca_file=str(file))
    assert not parse_target("https://h", verify=False).verify


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://h:80/", "h"),
        ("http://h:443/", "h:443"),
        ("wss://h/", "h"),
        ("http://[::1]:8000/", "[::1]:8000"),
        ("http://[fe80::1%eth0]/", "[fe80::1]"),
        ("unix:/run/a.sock", "localhost"),
    ],
)
def test_host_names_the_port_unless_it_is_the_usual_one(text: str, host: str) -> None:
    assert host_of(parse_target(text)) == host
