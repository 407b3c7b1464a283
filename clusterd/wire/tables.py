"""What HTTP knows by name: methods, reasons of statuses, names of headers that frame."""

import http
import re

# Methods that reach the app. The parser knows a closed list, of which RTSP's and ICE's are no
# business of ours; CONNECT is for proxies. All others are answered 501.
# fmt: off
METHODS = {
    name.encode(): name
    for name in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE",
        "PATCH", "COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH",
        "SEARCH", "UNLOCK", "BIND", "REBIND", "UNBIND", "ACL", "REPORT",
        "MKACTIVITY", "CHECKOUT", "MERGE", "M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE",
        "PURGE", "MKCALENDAR", "LINK", "UNLINK", "QUERY",
    ]
}
# fmt: on

REASONS = {status.value: status.phrase for status in http.HTTPStatus}
STATUS_LINES = {
    status: f"HTTP/1.1 {status} {REASONS.get(status, '')}\r\n".encode()
    for status in range(200, 1000)
}

# RFC 9110 §5.6.2 and §5.5: what a header's name and value may hold. Control characters other than
# tab would let an app's bug split or forge an answer.
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")

# Names that change how a request is framed; with Host and Connection, all that the reader reads.
HOST = b"host"
FRAMING = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade"})
# Names that proxies tell of the client with.
X_FORWARDED = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
FORWARDED = (b"forwarded",)
TOLD = frozenset({*X_FORWARDED, *FORWARDED, b"x-request-id"})
NOTABLE = FRAMING | TOLD
