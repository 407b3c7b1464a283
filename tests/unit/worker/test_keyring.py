"""Certificates: what is said of wrong files, whom a name is shown, how a client is named."""

import os
import re
import resource
import socket
import ssl
from pathlib import Path

import pytest

from clusterd.config.serving import TlsSettings
from clusterd.config.settings import Config
from clusterd.core.errors import Bug, ConfigError
from clusterd.ipc.certificates import Bundle, File, Sealed
from clusterd.master.certificates import read
from clusterd.worker.keyring import (
    Context,
    Keyring,
    describe,
    distinguished,
    first_certificate,
    server_names,
)
from tests.support.authority import Authority


def settings(authority: Authority, *stems: str, **more: object) -> TlsSettings:
    pairs = [authority.issue(stem, f"{stem}.example") for stem in stems]
    certificates, keys = zip(*pairs, strict=True)
    return TlsSettings(tls_cert=certificates, tls_key=keys, **more)  # type: ignore[arg-type]


def sealed(whole: TlsSettings) -> int:
    bundle = read(Config(tls=whole))
    assert bundle is not None
    return os.dup(bundle.fd)


def shake(keyring: Keyring, context: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """The client's end after a handshake."""
    return shaken(keyring, context, name)[0]


def shaken(
    keyring: Keyring, context: ssl.SSLContext, name: str
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake, the client's first."""
    ours, theirs = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    server = keyring.wrap(*ours)
    client = context.wrap_bio(*theirs, server_hostname=name)
    left = {client, server}
    while left:
        for end in (client, server):
            try:
                end.do_handshake()
                left.discard(end)
            except ssl.SSLWantReadError:
                pass
            ours[0].write(theirs[1].read())
            theirs[0].write(ours[1].read())
    return client, server


def test_a_renewal_says_for_whom_and_until_when(tmp_path: Path) -> None:
    whole = settings(Authority(tmp_path), "a", "b")
    keyring = Keyring(whole)
    fd = sealed(whole)
    certified = keyring.renew(7, fd)
    assert (certified.number, certified.fault, certified.warnings) == (7, "", [])
    assert certified.names == ["a.example", "b.example"]
    assert certified.expires > 1e9
    with pytest.raises(OSError):  # noqa: PT011  # it was closed
        os.fstat(fd)


def test_what_does_not_load_changes_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    whole = settings(authority, "a")
    keyring = Keyring(whole)
    assert not keyring.renew(0, sealed(whole)).fault
    before = shake(keyring, authority.client(), "a.example").getpeercert()
    (tmp_path / "a.key").write_text("nothing")
    assert "a.key holds no private key" in keyring.renew(1, sealed(whole)).fault
    assert shake(keyring, authority.client(), "a.example").getpeercert() == before


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.example", "a"),
        ("b.example", "b"),
        ("B.Example", "b"),
        ("x.c.example", "b"),
        ("X.C.EXAMPLE", "b"),
        ("x.y.c.example", "a"),
        ("c.example", "a"),
        ("example", "a"),
        ("", "a"),
        ("*.c.example", "b"),
        ("127.0.0.1", "a"),
    ],
)
def test_a_name_chooses_its_certificate_and_the_first_fits_all_others(
    loaded: Keyring, name: str, stem: str
) -> None:
    tls = loaded.wrap(ssl.MemoryBIO(), ssl.MemoryBIO())
    loaded._choose(tls, name, tls.context)
    assert isinstance(tls.context, Context)
    assert Path(tls.context.path).stem == stem


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    """Two certificates, the second with a wildcard and with a name that the first has too."""
    authority = Authority(tmp_path_factory.mktemp("names"))
    pairs = [
        authority.issue("a", "a.example"),
        authority.issue("b", "b.example", "*.c.example", "a.example"),
    ]
    certificates, keys = zip(*pairs, strict=True)
    whole = TlsSettings(tls_cert=certificates, tls_key=keys)
    keyring = Keyring(whole)
    keyring.load(sealed(whole))
    return keyring


def test_the_app_is_told_which_certificate_was_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    whole = settings(authority, "a", "b")
    keyring = Keyring(whole)
    keyring.load(sealed(whole))
    for stem in ("b", "a"):
        _, server = shaken(keyring, authority.client(), f"{stem}.example")
        told = describe(server)
        assert told["server_cert"] in (tmp_path / f"{stem}.pem").read_text()
        assert told["cipher_suite"] >> 8 == 0x13  # RFC 8446, B.4


def test_what_cannot_be_opened_is_a_fault_and_nobody_dies(tmp_path: Path) -> None:
    whole = settings(Authority(tmp_path), "a")
    keyring = Keyring(whole)
    fd = sealed(whole)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        certified = keyring.renew(3, fd)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "cannot be loaded: " in certified.fault


def test_protocols_are_agreed_on_also_after_a_renewal(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    whole = settings(authority, "a", "b")
    keyring = Keyring(whole)
    keyring.renew(0, sealed(whole))
    context = authority.client()
    context.set_alpn_protocols(["http/1.1", "h2"])
    assert shake(keyring, context, "b.example").selected_alpn_protocol() == "http/1.1"
    keyring.offer(("h2", "http/1.1"))
    for number in (1, 2):
        assert shake(keyring, context, "b.example").selected_alpn_protocol() == "h2"
        keyring.renew(number, sealed(whole))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"tls_ciphers": "NO-SUCH-CIPHER"}, "tls_ciphers: OpenSSL knows none"),
        ({"tls_ca": "empty", "tls_client_cert": "required"}, "empty holds no certificate"),
    ],
)
def test_other_settings_that_are_of_no_use(tmp_path: Path, more: dict[str, str], why: str) -> None:
    (tmp_path / "empty").write_text("")
    if "tls_ca" in more:
        more["tls_ca"] = str(tmp_path / "empty")
    whole = settings(Authority(tmp_path), "a", **more)
    with pytest.raises(ConfigError, match=why):
        Keyring(whole).load(sealed(whole))


def test_by_default_all_ciphers_are_fit_for_http2(tmp_path: Path) -> None:
    """RFC 9113 §9.2.2 and its appendix A: forward secrecy, and no CBC."""
    whole = settings(Authority(tmp_path), "a")
    keyring = Keyring(whole)
    keyring.load(sealed(whole))
    (context,) = keyring._contexts
    old = [one["name"] for one in context.get_ciphers() if one["protocol"] != "TLSv1.3"]
    assert old
    for name in old:
        assert name.startswith("ECDHE-")
        assert "GCM" in name or "CHACHA20" in name


def test_a_file_may_hold_both(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("a", "a.example")
    with Path(certificate).open("a") as file:
        file.write(Path(key).read_text())
    whole = TlsSettings(tls_cert=(certificate,))
    keyring = Keyring(whole)
    assert keyring.load(sealed(whole)) == []
    assert shake(keyring, authority.client(), "a.example").version() == "TLSv1.3"
    assert "PRIVATE" not in first_certificate(File("x", Path(certificate).read_text()))


def test_sessions_are_resumed(tmp_path: Path) -> None:
    """By tickets, whose keys workers of one image share."""
    authority = Authority(tmp_path)
    whole = settings(authority, "a")
    keyring = Keyring(whole)
    keyring.load(sealed(whole))
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    session = shake(keyring, context, "a.example").session
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    again = context.wrap_bio(incoming, outgoing, server_hostname="a.example", session=session)
    ours = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = keyring.wrap(*ours)
    for _ in range(3):
        for end in (again, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            ours[0].write(outgoing.read())
            incoming.write(ours[1].read())
    assert again.session_reused


def test_there_is_no_weak_option(tmp_path: Path) -> None:
    whole = settings(Authority(tmp_path), "a")
    keyring = Keyring(whole)
    keyring.load(sealed(whole))
    context = keyring.wrap(ssl.MemoryBIO(), ssl.MemoryBIO()).context
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_names_count_before_the_common_name() -> None:
    subject = ((("commonName", "CN.Example"),),)
    names = (("DNS", "A.example"), ("IP Address", "127.0.0.1"), ("DNS", "*.b.example"))
    assert server_names({"subject": subject, "subjectAltName": names}) == (
        "a.example",
        "*.b.example",
    )
    assert server_names({"subject": subject}) == ("cn.example",)
    assert server_names({}) == ()


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ((), ""),
        (((("countryName", "DE"),), (("commonName", "a"),)), "CN=a,C=DE"),
        (((("commonName", "a"), ("userId", "7")),), "CN=a+UID=7"),
        (((("commonName", 'a,b+"c"\\<>;='),),), 'CN=a\\,b\\+\\"c\\"\\\\\\<\\>\\;\\='),
        (((("commonName", " #a "),),), "CN=\\ #a\\ "),
        (((("commonName", "#a"),),), "CN=\\#a"),
        (((("commonName", " "),),), "CN=\\ "),
        (((("emailAddress", "a@b"),),), "emailAddress=a@b"),
    ],
)
def test_a_distinguished_name_is_written_as_rfc_4514_has_it(subject: object, text: str) -> None:
    assert distinguished(subject) == text


# --- the bundle, and reading it


def test_a_bundle_arrives_as_it_was_read_and_cannot_be_changed(tmp_path: Path) -> None:
    every = "".join(map(chr, range(256)))
    bundle = Bundle(((File("c", every), File("k", "key")),), "word", File("ca", ""))
    shut = bundle.seal()
    assert Bundle.unseal(shut.fd) == bundle == Bundle.unseal(shut.fd)
    assert bundle.pairs[0][0].data == bytes(range(256))
    with pytest.raises(PermissionError):
        os.pwrite(shut.fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(shut.fd, 0)


def test_a_bundle_that_is_none_is_our_bug() -> None:
    fd = os.memfd_create("test")
    with pytest.raises(Bug):
        Bundle.unseal(fd)
    os.write(fd, b'{"pairs": 7}')
    with pytest.raises(Bug):
        Bundle.unseal(fd)
    del (shut := [Sealed(fd)])[:]
    with pytest.raises(OSError):  # noqa: PT011  # closed with its last reference
        os.fstat(fd)
    assert not shut


def test_without_a_certificate_nothing_is_read() -> None:
    assert read(Config()) is None


def test_what_cannot_be_read_is_named_and_nobody_waits_for_it(tmp_path: Path) -> None:
    """A named pipe would have the master wait for ever."""
    (tmp_path / "large").write_bytes(bytes(1024 * 1024 + 1))
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
        for name, why in (
            ("missing", "No such file"),
            ("large", "is larger than"),
            ("directory", "is no regular file|Is a directory"),
            ("pipe", "is no regular file"),
            ("socket", "cannot be read"),
        ):
            path = str(tmp_path / name)
            with pytest.raises(ConfigError, match=f"{re.escape(path)}.*({why})"):
                read(Config(tls=TlsSettings(tls_cert=(path,))))


def test_the_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    for text, word in (("a b\nc\n", "a b"), ("x\r\n", "x"), ("x", "x"), ("", "")):
        for name in ("word", "pem"):
            (tmp_path / name).write_bytes(text.encode())
        whole = TlsSettings(
            tls_cert=(str(tmp_path / "pem"),), tls_password_file=str(tmp_path / "word")
        )
        bundle = read(Config(tls=whole))
        assert bundle is not None
        assert Bundle.unseal(bundle.fd).password == word
