"""What HTTP knows by name: methods, reasons of statuses, the usual spellings of header names."""

import http
import re

# Methods that reach the app. The parser knows a closed list, of which RTSP's and ICE's are no
# business of ours; CONNECT is for proxies. All others are answered 501.
METHODS = {
    name.encode(): name
    for name in (
        "GET HEAD POST PUT DELETE OPTIONS TRACE PATCH COPY LOCK MKCOL MOVE PROPFIND PROPPATCH "
        "SEARCH UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY "
        "SUBSCRIBE UNSUBSCRIBE PURGE MKCALENDAR LINK UNLINK QUERY"
    ).split()
}

REASONS = {status.value: status.phrase for status in http.HTTPStatus}
STATUS_LINES = {
    status: f"HTTP/1.1 {status} {REASONS.get(status, '')}\r\n".encode()
    for status in range(200, 1000)
}

# RFC 9110 §5.6.2 and §5.5: what a header's name and value may hold. Control characters other than
# tab would let an app's bug split or forge an answer.
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")

# Names that change how a request is framed or kept; everything else goes to the app unread.
HOST = b"host"
NOTABLE = frozenset(
    {b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}
)

_COMMON = """
accept accept-charset accept-encoding accept-language accept-datetime access-control-request-headers
access-control-request-method age authorization cache-control client-ip content-encoding
content-disposition content-language content-type cookie date dnt early-data etag forwarded from
if-match if-modified-since if-none-match if-range if-unmodified-since idempotency-key
keep-alive last-event-id max-forwards origin pragma priority proxy-authorization range
referer sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode
sec-fetch-site sec-fetch-user sec-gpc sec-purpose save-data te traceparent tracestate trailer
true-client-ip upgrade-insecure-requests user-agent via warning x-api-key x-amzn-trace-id
x-client-ip x-correlation-id x-csrf-token x-csrftoken x-device-id x-forwarded-for
x-forwarded-host x-forwarded-port x-forwarded-proto x-forwarded-server x-real-ip x-request-id
x-request-start x-requested-with x-scheme x-trace-id cf-connecting-ip cf-ipcountry cf-ray
cf-visitor cdn-loop
"""


def _spellings() -> dict[bytes, bytes]:
    """Lower-case and Title-Case of common names → lower case: one lookup instead of a copy."""
    names = {}
    for word in _COMMON.split():
        name = word.encode()
        for spelt in (name, word.title().encode()):
            names[spelt] = name
    return names


PLAIN = _spellings()
