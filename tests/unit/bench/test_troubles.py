"""What goes wrong with a connection is counted by its kind and told in a sentence that helps."""

import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.bench.load import Target
from clusterd.bench.secrecy import client_context
from clusterd.bench.target import parse_target
from clusterd.bench.troubles import explained, kind, refusal, strange
from clusterd.core.errors import ConfigError
from tests.support.authority import Authority

HERE = parse_target("http://127.0.0.1:8000/")
THERE = parse_target("https://localhost:8443/")
SOCKET = parse_target("unix:/run/app.sock")

TOLD: list[tuple[BaseException, Target, str]] = [
    (ConnectionRefusedError(errno.ECONNREFUSED, "x"), HERE, "nobody listens on 127"),
    (FileNotFoundError(errno.ENOENT, "x"), SOCKET, "no socket /run/app.sock"),
    (OSError(errno.EAGAIN, "x"), SOCKET, "no room for more"),
    (PermissionError(errno.EACCES, "Permission denied"), SOCKET, "Permission denied"),
    (socket.gaierror(-2, "Name or service not known"), HERE, "cannot be resolved"),
    (OSError(errno.EADDRNOTAVAIL, "x"), HERE, "ip_local_port_range"),
    (OSError(errno.EMFILE, "x"), HERE, "ulimit -n"),
    (OSError(errno.ENETUNREACH, "Network is unreachable"), HERE, "is unreachable"),
    (OSError(errno.ENOBUFS, "No buffer space"), HERE, "No buffer space"),
    (ConnectionResetError(), HERE, "https (or wss)"),
    (ConnectionResetError(), THERE, "in the TLS handshake"),
    (BrokenPipeError(), HERE, "without an answer"),
    (TimeoutError(), HERE, "did not answer in time"),
    (EOFError(), THERE, "in the TLS handshake"),
    (ssl.SSLEOFError(), THERE, "Does it speak TLS?"),
    (ssl.SSLError(1, "other"), THERE, "handshake failed: other"),
    (ValueError("something"), HERE, "127.0.0.1:8000: something"),
]


@pytest.mark.parametrize(("error", "target", "text"), TOLD, ids=lambda one: repr(one))
def test_errors_are_told_in_a_sentence_that_helps(
    error: BaseException, target: Target, text: str
) -> None:
    assert text in explained(error, target)


@pytest.mark.parametrize(
    ("error", "count_as"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "connect"),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "timeout"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "limit"),
        (OSError(errno.EMFILE, "Too many open files"), "limit"),
    ],
    ids=repr,
)
def test_connections_that_are_not_had_have_a_kind(error: OSError, count_as: str) -> None:
    assert refusal(error) == count_as


@pytest.mark.parametrize(
    ("error", "count_as"),
    [
        (BrokenPipeError(), "closed"),
        (ssl.SSLEOFError(), "closed"),
        (ssl.SSLZeroReturnError(), "closed"),
        (ssl.SSLError(1, "alert"), "tls"),
        (ConnectionResetError(), "reset"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "reset"),
    ],
    ids=repr,
)
def test_ends_of_connections_have_a_kind(error: OSError, count_as: str) -> None:
    assert kind(error) == count_as


@contextlib.contextmanager
def answering(context: ssl.SSLContext | None, first: bytes = b"") -> Iterator[int]:
    """Somebody who takes one connection, with TLS or by saying something: the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                plain, _ = listening.accept()
                with plain:
                    if context is None:
                        plain.recv(1000)
                        plain.sendall(first)
                        return
                    with context.wrap_socket(plain, server_side=True) as secure:
                        secure.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def failure(target: Target) -> str:
    """What is told of connecting to it; "" where that succeeds."""
    context = client_context(target)
    assert context is not None
    with socket.create_connection(("127.0.0.1", target.port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=target.host) as secure:
                # Under TLS 1.3 a server that wants a certificate says so after the handshake.
                secure.sendall(b"x")
                secure.recv(1)
        except OSError as error:
            return explained(error, target)
    return ""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def serving(authority: Authority, *names: str, expired: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("-".join(names) or "own", *names, expired=expired))
    return context


def test_a_certificate_is_judged_by_the_authorities_of_the_target(authority: Authority) -> None:
    context = serving(authority)
    with answering(context) as port:
        told = failure(Target("https", "localhost", port))
        assert told.startswith(f"the certificate of localhost:{port} is of an authority that is")
        assert "--ca-file FILE" in told
    with answering(context) as port:
        assert failure(Target("https", "localhost", port, ca_file=authority.path)) == ""
    with answering(context) as port:
        assert failure(Target("https", "localhost", port, verify=False)) == ""


def test_an_expired_certificate(authority: Authority) -> None:
    with answering(serving(authority, "localhost", expired=True)) as port:
        told = failure(Target("https", "localhost", port, ca_file=authority.path))
        assert "Renew it" in told


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_for_somebody_else(authority: Authority, host: str) -> None:
    with answering(serving(authority, "example.org")) as port:
        told = failure(Target("https", host, port, ca_file=authority.path))
        assert f"is not for {host!r}" in told


def test_a_server_that_wants_to_see_a_certificate(authority: Authority) -> None:
    context = serving(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.path)
    with answering(context) as port:
        told = failure(Target("https", "localhost", port, ca_file=authority.path))
        assert "it wants a client's certificate" in told


@pytest.mark.parametrize("first", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_a_server_that_speaks_in_plain_text(first: bytes) -> None:
    with answering(None, first) as port:
        assert "does not speak TLS" in failure(Target("https", "localhost", port))


def test_a_server_that_hangs_up_in_the_handshake() -> None:
    with answering(None) as port:
        assert "in the TLS handshake" in failure(Target("https", "localhost", port))


def test_no_context_without_tls() -> None:
    assert client_context(HERE) is None


def test_only_http_1_is_offered(authority: Authority) -> None:
    context = serving(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with answering(context) as port:
        ours = client_context(Target("https", "localhost", port, verify=False))
        assert ours is not None
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            ours.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            assert secure.selected_alpn_protocol() == "http/1.1"


def test_authorities_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match="cannot be read"):
        client_context(Target("https", "h", 1, ca_file=str(file)))
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match="holds no certificates"):
        client_context(Target("https", "h", 1, ca_file=str(file)))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x16", "https"),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
        (b"220 mail ESMTP\r\n", "mail"),
        (b"-ERR unknown command 'GET'\r\n", "database"),
        (b"HTTP/1.1 200 OK\r\n", ""),
        (b"", ""),
    ],
)
def test_strangers_are_known_by_their_first_bytes(data: bytes, text: str) -> None:
    assert text in strange(data)
    assert bool(strange(data)) is bool(text)
