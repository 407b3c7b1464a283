"""Field lines (RFC 9112 §5) and Host (RFC 9112 §3.2, RFC 3986 §3.2.2)."""

from tests.conformance.malformed.rows import Row, get, post, rows, words

NAMES = (
    b"",
    *words(
        r"""
    \x20X  \tX  X\x20  X\t  X\x20\x20  X\x0b  X\x0c  X\x00  \x00X  X\xa0  X\x85  X\x20Y  X\tY  X(
    X)  X<  X>  X@  X,  X;  X\\  X"  X/  X[  X]  X?  X=  X{  X}  \xc3\xa9  X\xff  \x80  X\x7f
    \x1bX  \xef\xbb\xbfX  "X"  (X)  [X]  X\x01  X\x1f  X\rY  X\nY  \xe2\x80\x8bX  X=Y  @
    """
    ),
)
LINES = words(
    r"""
    X  X\x20y  X\x20y\x20z  X=y  X;y  \x00  \x20  \t  \x20\t\x20  =  -  GET\x20/\x20HTTP/1.1
    X:\x20y\r\x20z  X:\x20y\n\x20z  X:\x20y\r  X:\x20\ry  X:\x20y\rZ:\x20a  X:\x20y\nZ:\x20a
    X:\x20\n  X:\x20\r  X:\x20y\r\n\x20z  X:\x20y\r\n\tz  X:\r\n\x20y  X:\x20y\r\n\x20z\r\n\x20z
    X:\x20y\r\n\x20  X:\x20y\r\n\t  X\r\n:\x20y  X:\x20y\r\n\x20\x20Z:\x20a  X:\x20y\r\n\x0bz
    X:\x20y\r\n\x0cz  X:\x20y\r\n\xa0z  \x20\r\nX:\x20y  \tX:\x20y
    """
)
VALUES = tuple(
    value
    for byte in (*range(9), *range(10, 32), 127)
    for bad in [bytes([byte])]
    for value in (bad, b"y" + bad, bad + b"y", b"y" + bad + b"z", b" " + bad + b" ")
)
HOSTS = (
    b"",
    *words(
        r"""
    \x20  a/b  a/  /a  a?b  a?  ?  a#b  a#  #  u@a  u:p@a  @a  a@  @  a,b  a,\x20b  a,  ,a  ,
    a\x20b  a\tb  a\\b  \\  a\\  \\\\a  a:port  a:-1  a:+1  a:65536  a:99999  a:999999  a:80:80
    a::80  :  :80  a:\x2080  a\x20:80  a:8\x200  a:80a  a:0x50  a:8_0  a:80/  a:80?  a:80,
    a:80@b  a:\xb2  a:\xd9\xa1  [::1  ::1]  [::1]]  [[::1]]  [::g]  ::1  []  [:]  [::1]a
    [::1]80  [::1]:x  [::1]:65536  a[::1]  [a]  [a.b]  [::1%eth0]  [v]  [vz.a]  [v1.]  [v1.\xff]
    [:::]  [1:2]  [1:2:3:4:5:6:7:8:9]  [::1::2]  [12345::]  a\xff  \xc3\xa9  a%zz  a%  a%2  %
    <a>  "a"  a|b  a^b  a`b  {a}  http://a  http://a/  https:a  //a  a//  a..b/  a\x00b  a\x01
    \x7fa  a\x0bb  a\xa0  \xa0a  a\x85  a\x0c  \xef\xbb\xbfa  a\xe2\x80\xa8  *@a  a>b  a[b  a]b
    """
    ),
)
TWO_HOSTS = (
    (b"Host: a", b"Host: a"),
    (b"Host: a", b"Host: b"),
    (b"Host: a", b"HOST: b"),
    (b"host: a", b"Host: a"),
    (b"Host: a", b"X: y", b"Host: b"),
    (b"Host: a", b"Host:"),
    (b"Host:", b"Host: a"),
    (b"Host: a", b"Host: a", b"Host: a"),
)
DISGUISED = (
    *(
        b"Host : b",
        b" Host: b",
        b"\tHost: b",
        b"Host\x00: b",
        b"Host\x0b: b",
        b"Host\xa0: b",
        b"\x00Host: b",
    ),
    *(
        b"X: y\rHost: b",
        b"X: y\nHost: b",
        b"X: y\r\n Host: b",
        b'"Host": b',
        b"Host\t: b",
        b"(Host): b",
    ),
)

NAME: list[Row] = [
    *rows(
        400,
        "RFC 9112 §5, §5.1, RFC 9110 §5.6.2: a field name is a token with a colon right after it",
        [get(name + b": y") for name in NAMES],
    ),
    *rows(
        400,
        "RFC 9112 §2.2: nor does the first line begin with a blank",
        [get(name + b": y", host=None) for name in (b" Host", b"\tHost", b" X")],
    ),
]
LINE: list[Row] = rows(
    400,
    "RFC 9112 §5, §5.2: a field line has a colon and is not folded",
    [get(line) for line in LINES],
)
VALUE: list[Row] = rows(
    400,
    "RFC 9110 §5.5: no CR, LF or NUL in a value, and here no other control character",
    [get(b"X:" + value) for value in VALUES],
)
HOST: list[Row] = [
    *rows(
        400,
        "RFC 9112 §3.2, RFC 3986 §3.2.2: an invalid field value for Host",
        [get(host=host) for host in HOSTS],
    ),
    *rows(
        400,
        "RFC 9112 §3.2: the same in HTTP/1.0",
        [
            get(host=host, version=b"HTTP/1.0")
            for host in (b"", b"a/b", b"u@a", b"a,b", b"a:x", b"a b")
        ],
    ),
    *rows(
        400,
        "RFC 9112 §3.2: a request of HTTP/1.1 that lacks Host",
        [
            get(host=None),
            get(b"X: y", host=None),
            get(b"X-Host: a", host=None),
            get(b"Hos: a", host=None),
            get(b"Hostt: a", host=None),
            get(b"X-Forwarded-Host: a", host=None),
            get(target=b"http://a/", host=None),
            get(target=b"*", method=b"OPTIONS", host=None),
            post(b"Content-Length: 5", host=None, body=b"hello"),  # type: ignore[arg-type]
        ],
    ),
    *rows(
        400,
        "RFC 9112 §3.2: more than one Host",
        [
            get(*lines, host=None, version=version, target=target)
            for lines in TWO_HOSTS
            for version in (b"HTTP/1.1", b"HTTP/1.0")
            for target in (b"/", b"http://a/")
        ],
    ),
    *rows(
        400,
        "RFC 9112 §3.2.2: invalid, although the target's authority stands for it",
        [
            get(target=b"http://a/", host=host)
            for host in (b"", b"a/b", b"u@a", b"a,b", b"a:x", b"a\\b")
        ],
    ),
    *rows(400, "RFC 9112 §5.1: a second Host in disguise", [get(line) for line in DISGUISED]),
]
