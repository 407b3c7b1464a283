"""The request line (RFC 9112 §3): methods, targets, versions; and line ends of a whole head."""

from tests.conformance.malformed.rows import CRLF, Row, get, inserted, post, rows, words

UNKNOWN_METHODS = (
    b"A" * 100,
    *words(
        r"""
    get  Get  gET  post  head  options  GETT  GE  G  XGET  GET-  FOO  CONNECT  connect  PRIX  !
    *  _  G3T  GET'  X~  DESCRIBE  SETUP  PLAY  ANNOUNCE  SOURCE  FLUSH  REDIRECT  RECORD  BREW
    PROXY  HELO  STAT  TRACK  DEBUG  MOVED  HTTP  100  %47ET
    """
    ),
)
NO_METHODS = words(
    r"""
    G/T  G:T  GET:  GET,  GET;  (GET)  [GET]  {GET}  "GET"  <GET>  G@T  GET=  GET?  GET\\  /GET
    \xc7ET  G\xcbT  GET\xa0  \xef\xbb\xbfGET  \x00  \x01GET  GET\x00  GET\x0b  \x0cGET  GET\x1b
    GET\x7f  \x16\x03\x01
    """
)
ODD_VERSIONS = (b"0.9", b"2.0", b"3.0", b"9.9", b"0.0", b"0.1", b"2.1", b"8.1")
NO_VERSIONS = words(
    r"""
    HTTP/1  HTTP/2  HTTP/1.  HTTP/.1  HTTP/1.10  HTTP/1.01  HTTP/01.1  HTTP/11.1  HTTP/1.1.1
    HTTP/1,1  HTTP/1:1  HTTP/1.x  HTTP/x.1  HTTP/a.b  HTTP1.1  HTTP//1.1  HTTP\\1.1  HTTP-1.1
    HTTP  HTTP/  1.1  /1.1  http/1.1  Http/1.1  HTTp/1.1  HTTPS/1.1  XHTTP/1.1  HTP/1.1
    RTSP/1.0  ICE/1.0  SIP/2.0  HTTP/+1.1  HTTP/-1.1  HTTP/1.+1  HTTP/1.-1  HTTP/1.1x
    HTTP/\xb9.\xb9  HTTP/1.\xb2  HTTP/\xd9\xa1.1  HTTP/1\x001  HTTP/1.1\x00  \x7f  HTTP/1.1\t
    \tHTTP/1.1  HTTP/1.1\x0b  HTTP/1.1\xa0  HTTP/1.1;  HTTP/1.1,
    """
)
TARGETS = words(
    r"""
    a  *  a/b  ?  ?a  #  #a  .  ./  ../  ..  \\  \\a  %2f  /#  /a#b  /#?  /a?b#c  /a?b#
    http://a/#  http://a/b#c  http://a/?b#c  a:80  a.example:443  [::1]:80  127.0.0.1:80  ://a/
    :80  @a  a@b  http:  http:/  http://  http:///  http:///a  http://?a  http:a  http:/a/b
    ftp://a/  ws://a/  file:///a  gopher://a/  data:,  javascript:x  urn:a:b  httpx://a/
    xhttp://a/  http;//a/  http//a/  http:\\\\a\\  http:/\\a/  mailto:a  http://u@a/
    http://u:p@a/  http://@a/  http://a@b@c/  http://a:x/  http://a:-1/  http://a:65536/
    http://a:80:80/  http://a,b/  http://a\\b/  http://[::1/  http://::1/  http://a%zz/
    http://<a>/  http://a|b/  http://a^b/  http://a`/  http://a"/  http://[g::]/  http://[]/
    http://[::1]x/  http://a:999999/  http://:80/  http://a[/  /\x00  /a\x00b  /\x01  /\x08  /\t
    /\x0b  /\x0c  /\x1b[31m  /\x1f  /\x7f  /\x80  /\xa0  /\xff  /\xc3\xa9  /\xe2\x80\xa8
    /?\xc3\xa9  /?\x00
    """
)
FORMS = words(
    r"""
    GET\x20\x20/\x20HTTP/1.1  GET\x20/\x20\x20HTTP/1.1  \x20GET\x20/\x20HTTP/1.1
    GET\x20/\x20HTTP/1.1\x20  GET\x20\x20/  GET\t/\x20HTTP/1.1  GET\x20/\tHTTP/1.1
    GET\t/\tHTTP/1.1  GET\x0b/\x20HTTP/1.1  GET\x0c/\x20HTTP/1.1  GET\x20/\x0cHTTP/1.1
    GET\xa0/\x20HTTP/1.1  GET\x20/\x85HTTP/1.1  GET\x20/a\x20b\x20HTTP/1.1
    GET\x20/\x20a\x20HTTP/1.1  GET\x20/\x20HTTP/1.1\x20HTTP/1.1  GET\x20/\x20HTTP/1.1\x20a
    GET/\x20HTTP/1.1  GET\x20/HTTP/1.1  GET/HTTP/1.1  GET\x20HTTP/1.1  /\x20HTTP/1.1  /
    GET\x20/\x20HTTP/1.1\r  \tGET\x20/\x20HTTP/1.1  GET\x20/\x20/\x20HTTP/1.1
    GET\x20/\x20HTTP\x20/1.1  GET\x20/\x20HTTP/\x201.1  GET\x20/\x20HTTP/1.\x201
    GET\x20/\x20HTTP/1\x20.1  \x20\x20/\x20HTTP/1.1
    """
)
STAR_METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"TRACE")
GOOD = get(b"X: y")
POSITIONS = range(len(GOOD) - 1)
# Where HT may stand in it: around values, and inside of them.
TABS = {
    *range(GOOD.index(b"t: a") + 2, GOOD.index(b"a\r") + 2),
    *range(GOOD.index(b"X:") + 2, len(GOOD) - 3),
}

METHOD: list[Row] = [
    *rows(
        501,
        "RFC 9110 §9.1: a method that is not implemented; its case matters",
        [get(method=method) for method in UNKNOWN_METHODS],
    ),
    *rows(
        501,
        "RFC 9110 §9.1: the same with a body",
        [
            post(b"Content-Length: 5", body=b"hello").replace(b"POST", name)
            for name in (b"FOO", b"post")
        ],
    ),
    *rows(400, "RFC 9110 §9.1: a method is a token", [get(method=name) for name in NO_METHODS]),
    *rows(
        400,
        "RFC 9112 §3: what is no HTTP at all",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32),
            b"\x16\x03\x03\x00\x04",
            b"\x80\x2e\x01\x03\x01",
            b"\x05\x01\x00",
            b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
            b"\x00" * 64,
            b"\xff" * 64,
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
            b"{}",
            b"\r\n\r\n\x00",
            b":\r\n\r\n",
            b"\x00GET / HTTP/1.1\r\n\r\n",
            b'{"jsonrpc": "2.0"}\r\n\r\n',
            b"() { :; }; echo\r\n\r\n",
            b"<policy-file-request/>\x00",
            b"QUIT\r\n",
        ],
    ),
]
VERSION: list[Row] = [
    *rows(
        505,
        "RFC 9110 §15.6.6: a version of HTTP that is not spoken here",
        [get(version=b"HTTP/" + version) for version in ODD_VERSIONS],
    ),
    *rows(
        505,
        "RFC 9110 §2.5: also without fields, and whatever comes after",
        [
            b"GET / HTTP/0.9\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET / HTTP/2.0\r\nno field\r\n\r\n",
            b"GET / HTTP/3.0\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        ],
    ),
    *rows(
        400,
        "RFC 9112 §2.3: HTTP-version = HTTP / DIGIT . DIGIT, and its case matters",
        [get(version=version) for version in NO_VERSIONS],
    ),
    *rows(
        400,
        "RFC 9112 §3: a line without a version was HTTP/0.9",
        [
            b"GET /\r\n",
            b"GET /\r\n\r\n",
            b"GET /a?b\r\n\r\n",
            b"GET\r\n",
            b"GET \r\n",
            b"POST /\r\n",
        ],
    ),
]
TARGET: list[Row] = [
    *rows(
        400,
        "RFC 9112 §3.2, RFC 3986 §3: what is no target, or has no place there",
        [get(target=target) for target in TARGETS],
    ),
    *rows(
        400,
        "RFC 9112 §3.2.4: the asterisk is for OPTIONS",
        [get(target=b"*", method=method) for method in STAR_METHODS],
    ),
    *rows(
        400,
        "RFC 9112 §3.2.4: and it is alone",
        [
            get(target=target, method=b"OPTIONS")
            for target in (b"**", b"*/", b"*?a", b"/*#", b"http://*@")
        ],
    ),
]
FORM: list[Row] = rows(
    400,
    "RFC 9112 §3: one SP between the parts of the request line, none around them",
    [line + b"\r\nHost: a\r\n\r\n" for line in FORMS],
)
ENDS: list[Row] = [
    *rows(
        400,
        "RFC 9112 §2.2: lines end with CRLF",
        [
            GOOD.replace(CRLF, b"\n"),
            GOOD.replace(CRLF, b"\r") + CRLF + CRLF,
            GOOD.replace(CRLF, b"\n\r") + CRLF + CRLF,
            GOOD.replace(CRLF, b"\r\r\n"),
            GOOD[:-2] + b"\n",
            GOOD[:-2] + b"\n\r\n",
            GOOD.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\n"),
            GOOD.replace(b"a\r\nX", b"a\nX"),
            GOOD.replace(b"a\r\nX", b"a\rX"),
            GOOD.replace(b"a\r\nX", b"a\n\rX"),
            GOOD.replace(b"a\r\nX", b"a\x0bX"),
            GOOD.replace(b"a\r\nX", b"a\xe2\x80\xa8X"),
            GOOD.replace(b"a\r\nX", b"a\x85X"),
        ],
    ),
    *rows(
        400,
        "RFC 9112 §2.2: before a request there may be CRLF, and nothing else",
        [
            *(b"\n" + GOOD, b"\r" + GOOD, b"\n\n" + GOOD, b"\r\r\n" + GOOD, b"\n\r\n" + GOOD),
            *(b"\r\n\n" + GOOD, b"\r\n\r" + GOOD, b" " + GOOD, b"\r\n " + GOOD, b"\t\r\n" + GOOD),
            *(
                b"\x00" + GOOD,
                b"\r\n\x00" + GOOD,
                b"\xef\xbb\xbf" + GOOD,
                b"\x1a" + GOOD,
                b"\x04" + GOOD,
            ),
        ],
    ),
]
# Each control byte at each position: nowhere is it anything but an error (HT inside a value is).
CONTROLS: list[Row] = [
    row
    for bad in range(32)
    for row in rows(
        400,
        f"RFC 9110 §5.5, RFC 9112 §2.2: a control character {bad:#04x} in a head",
        inserted(
            GOOD,
            bytes([bad]),
            [place for place in POSITIONS if bad != 9 or place not in TABS],
        ),
    )
]
DELETE: list[Row] = rows(
    400, "RFC 9110 §5.5: DEL is a control character", inserted(GOOD, b"\x7f", POSITIONS)
)
