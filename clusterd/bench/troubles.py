"""What went wrong with a connection: its kind, to be counted, and the sentence that tells it."""

import errno
import re
import socket
import ssl

from clusterd.bench.interval import CLOSED, CONNECT, LIMIT, RESET, TIMEOUT, TLS
from clusterd.bench.load import Target

# X509_V_ERR_… of OpenSSL (x509_vfy.h), which SSLCertVerificationError carries.
NOT_YET, EXPIRED = 9, 10
SELF_SIGNED, SELF_SIGNED_ABOVE, NO_ISSUER = 18, 19, 20
OTHER_NAME, OTHER_ADDRESS = 62, 64
UNTRUSTED = frozenset({SELF_SIGNED, SELF_SIGNED_ABOVE, NO_ISSUER, 2, 21})
TRUST = "Name its authority with --ca-file FILE, or do without knowing who answers: --insecure."

# What OpenSSL calls a first answer that is none of TLS's.
NOT_TLS = frozenset(
    {"HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE", "WRONG_VERSION_NUMBER"}
)
WANTS_CERTIFICATE = frozenset(
    {
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_CERTIFICATE_REQUIRED",
    }
)

# What connecting fails with where it is we who cannot.
OURS = frozenset({errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE})

TLS_RECORD = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]", re.DOTALL)
H2_SETTINGS = re.compile(rb"\x00..\x04\x00\x00\x00\x00\x00", re.DOTALL)


def kind(error: OSError) -> str:
    """What the end of a connection that stood is counted as: CLOSED, RESET or TLS."""
    if isinstance(error, BrokenPipeError | ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return CLOSED  # it follows a FIN; everything else a RST, or what the network said
    return TLS if isinstance(error, ssl.SSLError) else RESET


def refusal(error: OSError) -> str:
    """What a connection that was not had is counted as: CONNECT, TIMEOUT or LIMIT."""
    if isinstance(error, TimeoutError):
        return TIMEOUT
    return LIMIT if error.errno in OURS else CONNECT


def explained(error: BaseException, target: Target) -> str:
    """Why `target` cannot be measured: a sentence, and mostly a line that says what to do."""
    message, remedy = _told(error, target)
    return f"{message}\n{remedy}" if remedy else message


def address(target: Target) -> str:
    """Where it is, for people."""
    if target.unix:
        return target.unix
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{target.port}"


def _told(error: BaseException, target: Target) -> tuple[str, str]:
    where = address(target)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error, target)
    if isinstance(error, ssl.SSLError):
        return _handshake(error, where)
    if isinstance(error, socket.gaierror):
        return f"{target.host!r} cannot be resolved: {_reason(error)}", "Is the name right?"
    if isinstance(error, TimeoutError):
        return f"{where} did not answer in time", "Is it up, and is nothing in between?"
    if isinstance(error, ConnectionResetError | BrokenPipeError | EOFError):
        if target.tls:
            return _broke_off(where)
        return (
            f"{where} ended the connection without an answer",
            "Does it speak TLS? Then the URL begins with https (or wss).",
        )
    if isinstance(error, OSError):
        return _refused(error, target, where)
    return f"{where}: {error}", ""


def _refused(error: OSError, target: Target, where: str) -> tuple[str, str]:
    """Of a connection that was not had."""
    code = error.errno
    if code in (errno.ENOENT, errno.ENOTSOCK) and target.unix:
        return f"there is no socket {where}", "Is the server up?"
    if code == errno.ECONNREFUSED:
        return f"nobody listens on {where}", "Is the server up, and is this its port?"
    if code == errno.EADDRNOTAVAIL:
        return (
            f"no port is left to connect to {where} from",
            "Connections that were closed hold theirs for a minute: use fewer, or fewer new ones; "
            "or widen net.ipv4.ip_local_port_range.",
        )
    if code in (errno.EMFILE, errno.ENFILE):
        return "no descriptor is left for another connection", "Raise the limit: ulimit -n 65536"
    if code in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"{where} cannot be reached from here: {_reason(error)}", ""
    if code == errno.EAGAIN and target.unix:
        return f"{where} has no room for more connections", "Its backlog is full: use fewer."
    return f"{where} cannot be connected to: {_reason(error)}", ""


def _certificate(error: ssl.SSLCertVerificationError, target: Target) -> tuple[str, str]:
    """Of a certificate that is not good."""
    where, code = address(target), error.verify_code
    if code in UNTRUSTED:
        return f"the certificate of {where} is of an authority that is not trusted here", TRUST
    if code == EXPIRED:
        return f"the certificate of {where} has expired", "Renew it; or measure with --insecure."
    if code == NOT_YET:
        return f"the certificate of {where} is not valid yet", "Is the clock of one of them wrong?"
    if code in (OTHER_NAME, OTHER_ADDRESS):
        return (
            f"the certificate of {where} is not for {target.host!r}",
            "Use the name that it was issued for; or measure with --insecure.",
        )
    return f"the certificate of {where} is not good: {error.verify_message}", TRUST


def _handshake(error: ssl.SSLError, where: str) -> tuple[str, str]:
    """Of a handshake that came to nothing."""
    reason = getattr(error, "reason", None) or ""  # which the type promises and may not have
    if reason in NOT_TLS:
        return (
            f"{where} does not speak TLS",
            "If it serves in plain text, the URL begins with http (or ws).",
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _broke_off(where)
    if reason in WANTS_CERTIFICATE:
        return (
            f"{where} refused the TLS handshake: {_words(reason)}",
            "If it wants a client's certificate: the benchmark has none to show.",
        )
    return f"{where}: the TLS handshake failed: {_words(reason) or error}", ""


def _broke_off(where: str) -> tuple[str, str]:
    # Under TLS 1.3 a server judges the client's certificate when for the client all is done.
    return (
        f"{where} ended the connection in the TLS handshake, or right after it",
        "Does it speak TLS? If it wants a client's certificate: the benchmark has none to show.",
    )


def _words(reason: str) -> str:
    """OpenSSL's name of a reason as words."""
    return reason.lower().replace("_", " ")


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def strange(data: bytes) -> str:
    """What bytes that are no HTTP/1 answer seem to be, as a sentence about who sent them; or ""."""
    if TLS_RECORD.match(data):
        return "it speaks TLS: the URL begins with https (or wss)"
    if H2_SETTINGS.match(data):
        return "it speaks HTTP/2 alone: HTTP/1.1 is what is measured here"
    if data.startswith(b"SSH-"):
        return "it is an SSH server"
    if data.startswith((b"220 ", b"220-")):
        return "it is a mail or FTP server"
    if data.startswith((b"-ERR", b"+OK", b"+PONG")):
        return "it is a database or mail server"
    return ""
