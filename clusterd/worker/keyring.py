"""The TLS contexts of a worker: a certificate each, chosen from by server name.

Made in the zygote, where a pair that cannot be used is found before anybody serves with it, and
inherited by its workers. So they share the keys of session tickets as well: who comes back resumes
its session with any of them.
"""

import contextlib
import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from clusterd.config.serving import TlsSettings
from clusterd.core.errors import ConfigError
from clusterd.ipc.certificates import Bundle, File
from clusterd.ipc.messages import Certified

HTTP1 = "http/1.1"  # as ALPN names it
MOST_NAMES = 50  # that are told of a renewal
NUMBERS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}  # of versions, as they go over the wire
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
ASKS = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
# For TLS 1.2: those with forward secrecy and authenticated encryption. Of Python's own default the
# others are CBC ciphers, which HTTP/2 forbids (RFC 9113 §9.2.2).
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# Compression tells secrets by its length (CRIME), and renegotiation costs us more than the client.
NEVER = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


class Context(ssl.SSLContext):
    """A certificate that is in use, and what is known of it."""

    path: str
    pem: str  # the certificate itself, without its chain
    names: tuple[str, ...]  # of servers, in lower case; `*.` for any one label
    expires: float  # wall-clock seconds
    numbers: dict[str, int]  # of ciphers, by their names


class Keyring:
    """Certificates that are in use. They are replaced all together, or not at all."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._contexts: list[Context] = []
        self._by_name: dict[str, Context] = {}
        self._alpn: Sequence[str] = (HTTP1,)

    def load(self, fd: int) -> list[str]:
        """Use what is in this memfd from now on; warnings. ConfigError says which file is wrong.

        The connections that are open keep what they began with.
        """
        bundle = Bundle.unseal(fd)
        contexts = [self._context(certificate, key, bundle) for certificate, key in bundle.pairs]
        by_name: dict[str, Context] = {}
        if len(contexts) > 1:
            contexts[0].sni_callback = self._choose
        for context in contexts:
            for name in context.names:
                by_name.setdefault(name, context)
        self._contexts, self._by_name = contexts, by_name
        self.offer(self._alpn)
        now = time.time()
        return [
            f"the certificate {context.path} has expired"
            for context in contexts
            if context.expires < now
        ]

    def renew(self, number: int, fd: int) -> Certified:
        """Load what is in this memfd, which is closed, and say what came of it."""
        try:
            warnings = self.load(fd)
        except ConfigError as error:
            return Certified(number, error.message, error.remedy)
        except (OSError, ValueError) as error:  # out of descriptors, a date beyond all calendars
            return Certified(number, f"the certificates cannot be loaded: {error}")
        finally:
            os.close(fd)
        expires = min(context.expires for context in self._contexts)
        return Certified(number, "", "", warnings, list(self._by_name)[:MOST_NAMES], expires)

    def offer(self, protocols: Sequence[str]) -> None:
        """Agree on the first of these protocols that the client knows too (ALPN, RFC 7301)."""
        self._alpn = protocols
        for context in self._contexts:
            context.set_alpn_protocols(list(protocols))

    def wrap(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """The server's end of a new connection."""
        return self._contexts[0].wrap_bio(incoming, outgoing, server_side=True)

    def _choose(self, tls: ssl.SSLObject, name: str | None, _first: ssl.SSLContext) -> None:
        """Called by OpenSSL with the name that the client asks for."""
        if name:
            name = name.lower()
            found = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
            if found is not None:
                tls.context = found

    def _context(self, certificate: File, key: File, bundle: Bundle) -> Context:
        context = Context(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = VERSIONS[self._settings.tls_min_version]
        context.options |= NEVER
        context.verify_mode = ASKS[self._settings.tls_client_cert]
        try:
            context.set_ciphers(self._settings.tls_ciphers or CIPHERS)
        except ssl.SSLError:
            raise ConfigError("tls_ciphers: OpenSSL knows none of these ciphers") from None
        if bundle.ca is not None:
            trust(context, bundle.ca)
        facts = decode(certificate)
        use(context, certificate, key, bundle.password)
        context.path = certificate.path
        context.pem = first_certificate(certificate)
        context.names = server_names(facts)
        context.expires = ssl.cert_time_to_seconds(facts["notAfter"])
        context.numbers = {one["name"]: one["id"] & 0xFFFF for one in context.get_ciphers()}
        return context


Hook = Callable[["sys.UnraisableHookArgs"], object]


def without_foreign_names(hook: Hook) -> Hook:
    """A `sys.unraisablehook` that says nothing of server names which are not ASCII.

    Python decodes the name before it calls us, and where it cannot, ends the handshake and writes a
    traceback: so any client could fill the log.
    """

    def hear(unraisable: "sys.UnraisableHookArgs") -> None:
        error, trace = unraisable.exc_value, unraisable.exc_traceback
        from_ssl = trace is not None and trace.tb_frame.f_globals is vars(ssl)
        if not (from_ssl and isinstance(error, UnicodeDecodeError)):
            hook(unraisable)

    return hear


@contextlib.contextmanager
def opened(*files: File) -> Iterator[list[str]]:
    """Paths of files that are on no disk, since OpenSSL takes nothing else."""
    with contextlib.ExitStack() as stack:
        paths = []
        for file in files:
            fd = os.memfd_create("clusterd-pem", os.MFD_CLOEXEC)
            memory = stack.enter_context(open(fd, "wb"))
            memory.write(file.data)
            memory.flush()
            paths.append(f"/proc/self/fd/{fd}")
        yield paths


def use(context: ssl.SSLContext, certificate: File, key: File, password: str) -> None:
    """Have the context use a pair; raises ConfigError that says which file is wrong, and why."""
    asked = False

    def tell() -> str:
        """Always given: without it, OpenSSL would ask at the terminal."""
        nonlocal asked
        asked = True
        return password

    with opened(certificate, key) as (first, second):
        try:
            context.load_cert_chain(first, second, password=tell)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or str(error)
            if asked:
                why = "has another password" if password else "wants a password"
                remedy = "name the file that holds it with --tls-password-file"
                raise ConfigError(f"tls_key: {key.path} {why}", remedy) from None
            if reason == "KEY_VALUES_MISMATCH":
                fault = f"tls_key: {key.path} is not the key of {certificate.path}"
                raise ConfigError(fault) from None
            if b"PRIVATE KEY-----" not in key.data:
                raise ConfigError(f"tls_key: {key.path} holds no private key (PEM)") from None
            words = reason.lower().replace("_", " ")
            raise ConfigError(
                f"tls_cert: {certificate.path} with {key.path} cannot be used: {words}"
            ) from None


def trust(context: ssl.SSLContext, ca: File) -> None:
    """Check clients' certificates against this; raises ConfigError."""
    with opened(ca) as (path,):
        try:
            context.load_verify_locations(path)
        except ssl.SSLError:
            raise ConfigError(f"tls_ca: {ca.path} holds no certificate (PEM)") from None


def decode(certificate: File) -> dict[str, Any]:
    """What a certificate says of itself, as `SSLSocket.getpeercert` tells; raises ConfigError.

    Python decodes only what a peer showed; this is the function that its own tests use. It is
    there since 2.6.
    """
    with opened(certificate) as (path,):
        try:
            facts: dict[str, Any] = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]
        except ssl.SSLError:
            raise ConfigError(f"tls_cert: {certificate.path} holds no certificate (PEM)") from None
    return facts


def server_names(facts: dict[str, Any]) -> tuple[str, ...]:
    """The names of a certificate; where it has none of the kind that counts, the common name."""
    names = [name for kind, name in facts.get("subjectAltName", ()) if kind == "DNS"]
    if not names:
        subject = [pair for entry in facts.get("subject", ()) for pair in entry]
        names = [name for kind, name in subject if kind == "commonName"]
    return tuple(name.lower() for name in names)


def first_certificate(file: File) -> str:
    """The first certificate of a file, in PEM."""
    end = "-----END CERTIFICATE-----"
    _, begin, rest = file.content.partition("-----BEGIN CERTIFICATE-----")
    return f"{begin}{rest.partition(end)[0]}{end}\n" if begin else file.content


def describe(tls: ssl.SSLObject) -> dict[str, Any]:
    """The `tls` extension of a connection's scopes, as ASGI's TLS extension (0.2) has it."""
    context, cipher = tls.context, tls.cipher()
    assert isinstance(context, Context)
    subject = (tls.getpeercert() or {}).get("subject", ())
    return {
        "server_cert": context.pem,
        "client_cert_chain": chain(tls),
        "client_cert_name": distinguished(subject) if subject else None,
        "client_cert_error": None,  # a certificate that does not pass ends the handshake
        "tls_version": NUMBERS.get(tls.version() or ""),
        "cipher_suite": context.numbers.get(cipher[0]) if cipher else None,
    }


# The short names of RFC 4514, section 3, and those that certificates use beside them.
SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
ESCAPED = str.maketrans({character: f"\\{character}" for character in '",+;<>\\='} | {"\0": "\\00"})


def distinguished(subject: Any) -> str:
    """A name as RFC 4514 writes it: the last part first."""
    return ",".join(
        "+".join(f"{SHORT.get(kind, kind)}={escaped(value)}" for kind, value in entry)
        for entry in reversed(subject)
    )


def escaped(value: str) -> str:
    """A value of a distinguished name (RFC 4514, section 2.4)."""
    text = value.translate(ESCAPED)
    if text.startswith((" ", "#")):
        text = "\\" + text
    return text[:-1] + "\\ " if text.endswith(" ") and len(value) > 1 else text


def chain(tls: ssl.SSLObject) -> list[str]:
    """The client's certificates in PEM, its own first. Before Python 3.13 its own is all."""
    told = getattr(tls, "get_unverified_chain", None)
    own = tls.getpeercert(binary_form=True)
    if own is None:
        return []
    return [ssl.DER_cert_to_PEM_cert(der) for der in (told() if told else None) or [own]]
