"""TLS settings that contradict each other are refused, with a word on what would do."""

from pathlib import Path

import pytest

from clusterd.config.resolve import load
from clusterd.config.tls import is_secured
from clusterd.core.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"tls_key": ("k",)}, "--tls-key: tls_key means nothing without tls_cert"),
        ({"tls_ca": "ca"}, "tls_ca means nothing without tls_cert"),
        ({"tls_password_file": "p"}, "tls_password_file means nothing without tls_cert"),
        ({"tls_ciphers": "AES"}, "tls_ciphers means nothing without tls_cert"),
        ({"tls_client_cert": "required"}, "tls_client_cert means nothing without tls_cert"),
        ({"tls_cert": ("a", "b"), "tls_key": ("k",)}, "1 key for 2 certificates"),
        ({"tls_cert": ("a",), "tls_key": ("k", "l")}, "2 keys for 1 certificate"),
        ({"tls_cert": ("a",), "tls_client_cert": "optional"}, "cannot be checked without tls_ca"),
        ({"tls_cert": ("a",), "tls_ca": "ca"}, "no client is asked for a certificate"),
    ],
)
def test_contradictions(tmp_path: Path, values: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        load(values, {}, tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"tls_cert": ("a",)},
        {"tls_cert": ("a", "b"), "tls_key": ("k", "l")},
        {"tls_cert": ("a",), "tls_client_cert": "required", "tls_ca": "ca"},
    ],
)
def test_what_fits(tmp_path: Path, values: dict[str, object]) -> None:
    tls = load(values, {}, tmp_path).tls
    assert tls.tls_cert == tuple(str(tmp_path / name) for name in "ab"[: len(tls.tls_cert)])


@pytest.mark.parametrize(
    ("address", "secured"),
    [
        ("127.0.0.1:443", True),
        ("[::1]:443#2", True),
        ("fd:3", True),
        ("127.0.0.1:80,tls=off", False),
        ("127.0.0.1:80,tls=off#2", False),
        ("fd:3,tls=off", False),
        ("unix:/run/s.sock", False),
    ],
)
def test_where_tls_is_spoken(address: str, secured: bool) -> None:
    assert is_secured(address) is secured
