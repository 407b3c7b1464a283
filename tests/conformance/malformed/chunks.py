"""Chunked bodies (RFC 9112 §7.1): sizes, extensions, data, trailers; and bodies that are cut.

In each the head is proper, so an app may have been called; it never sees the end of a body.
"""

from tests.conformance.malformed.rows import Row, chunked, inserted, rows, words

SIZES = (
    b"",
    b"f" * 100,
    b"0" * 4000 + b"g",
    *words(
        r"""
    +3  -3  +0  -0  -1  0x3  0X3  x3  3h  3_0  _3  3_  \\x3  \x20  \t  \x203  \t3  3\x20  3\t
    3\x203  3\x0b  3\x0c  \x0b3  3\xa0  g  3g  three  3.0  3,  3,3  3:  3=  '3'  "3"  (3)  {3}
    3-  \xb3  \xd9\xa3  \xef\xbc\x93  3\x00  \x003  3\x7f  \x1b3  \xff  3\x85  fffffffffffffffff
    10000000000000000  8000000000000000  ffffffffffffffff
    """
    ),
)
BODIES = words(
    r"""
    3\r\nabcd\r\n0\r\n\r\n  3\r\nabc0\r\n\r\n  3\r\nab\r\n0\r\n\r\n  3\r\nabc\n0\r\n\r\n
    3\r\nabc\r0\r\n\r\n  3\r\nabc\r\r\n0\r\n\r\n  3\r\nabc\n\r0\r\n\r\n  3\r\nabc\x20\x20\r\n
    3\r\nabc\r\n\r\n0\r\n\r\n  3\r\nabc;\r\n  3\nabc\n0\n\n  3\nabc\r\n0\r\n\r\n
    3\rabc\r\n0\r\n\r\n  3\n\rabc\r\n  3\r\r\nabc\r\n0\r\n\r\n  \r\n3\r\nabc\r\n0\r\n\r\n
    3\r\nabc\r\n0\n\r\n  3\r\nabc\r\n0\r\r\n  3\r\nabc\r\n0\n\n  3\r\nabc\r\n0\r\n\n
    3\r\nabc\r\n0\r\n\rX  0\n\n  0\r\n\rX  0\rX  0\r\nX\r\n\r\n  \n0\r\n\r\n  0\x20\r\n\r\n
    GET\x20/\x20HTTP/1.1\r\nHost:\x20a\r\n\r\n  \x00  {}  hello=world  \r\n\r\n  0\r\n0\r\n\r\n
    """
)
EXTENSIONS = words(
    r"""
    ;a\rb  ;a\nb  ;a=\rb  ;a=\nb  ;a="\r"  ;a="\n"  ;\r;  ;\n  ;a\n\r  ;a\x00  ;\x00  ;a=\x01b
    ;a=b\x7f  ;a=\x0bb  ;a="\x00"  ;a="\x1f"  ;\x08  ;  ;;  ;a;  ;;a  ;=  ;=b  ;a=  ;a==b  ;a=b=c
    ;a\x20b  ;a=b\x20c  ;a="  ;a="b  ;a="b"c  ;a="\\  ;a="\\"  ;a='b\x20c'  ;"a"=b  ;a=b,c
    ;\xff  ;a=\xe9  \xa0;a  ;(a)  ;a=(b)  ;a=@  a=b  =b  \x20a  ,a=b  :a=b  /a
    """
)
# Blanks around a semicolon are bad whitespace: "BWS", to be removed or refused.
BLANKS = (b" ;a", b"\t;a", b"; a", b";a =b", b";a= b", b";a=b ", b' ; a = "b" ')
TRAILERS = words(
    r"""
    A\x20:\x20b  A\t:\x20b  \x20A:\x20b  \tA:\x20b  A  :\x20b  A\x20b:\x20c  A\x00:\x20b  A:\x20\x00
    A(:\x20b  A:\x20b\rC:\x20d  A:\x20b\nC:\x20d  A:\x20b\r\n\x20c  A:\x20b\r\n\tc  A:\x20\x01
    A:\x20b\x7f  \xe9:\x20b  A\r:\x20b  A:\x20b\r  \rA:\x20b  \nA:\x20b  A:\x20b\n  "A":\x20b
    A\x0b:\x20b  A:\x20\x0b  GET\x20/\x20HTTP/1.1  A:\x20b\r\nGET\x20/\x20HTTP/1.1  A:b\r\n:  0
    \r  A@b:\x20c  A/b:\x20c
    """
)
# A blank is fine in a trailer's value, and nowhere else.
GOOD = b"3;a=b\r\nabc\r\n1\r\nz\r\n0\r\nA: b\r\n\r\n"
PLACES = [*range(GOOD.index(b"A:") + 2), *range(len(GOOD) - 3, len(GOOD) - 1)]

SIZE: list[Row] = rows(
    400,
    "RFC 9112 §7.1: chunk-size is 1*HEXDIG, and its overflow must be seen",
    [chunked(size + b"\r\nabc\r\n0\r\n\r\n") for size in SIZES],
)
DELIMITER: list[Row] = rows(
    400, "RFC 9112 §7.1, §2.2: size, data and end are delimited by CRLF", map(chunked, BODIES)
)
EXTENSION: list[Row] = [
    *rows(
        400,
        "RFC 9112 §7.1.1: chunk-ext = *( ; name [ = ( token / quoted-string ) ] )",
        [chunked(b"3" + extension + b"\r\nabc\r\n0\r\n\r\n") for extension in EXTENSIONS],
    ),
    *rows(
        400,
        "RFC 9112 §7.1.1: the last chunk's, too",
        [chunked(b"3\r\nabc\r\n0" + extension + b"\r\n\r\n") for extension in EXTENSIONS],
    ),
    *rows(
        400,
        "RFC 9112 §7.1.1, RFC 9110 §5.6.3: blanks that must not be sent; two readings are possible",
        [chunked(b"3" + extension + b"\r\nabc\r\n0\r\n\r\n") for extension in BLANKS],
    ),
    *rows(
        431,
        "RFC 9112 §7.1.1: a reasonable limit on the extensions of one request",
        [
            chunked(b"3;" + b"a" * 100_000),
            chunked(b"1;a=b\r\nx\r\n" + b"1;" + b"a=" + b"b" * 100_000),
            chunked(b'3;a="' + b"b" * 100_000),
            chunked(b"1;" + b"a" * 1000 + b";b" * 40_000),
        ],
    ),
]
TRAILER: list[Row] = [
    *rows(
        400,
        "RFC 9112 §7.1.2, §5: a trailer has the syntax of a field",
        [chunked(b"3\r\nabc\r\n0\r\n" + line + b"\r\n\r\n") for line in TRAILERS],
    ),
    *rows(
        431,
        "RFC 9110 §6.5: as limited as any field section",
        [
            chunked(b"0\r\n" + b"A: b\r\n" * 20_000),
            chunked(b"0\r\nA: " + b"b" * 100_000),
            chunked(b"0\r\n" + b"A" * 100_000),
            chunked(b"0\r\n" + b"A: b\r\n" * 200 + b"\r\n"),
        ],
    ),
]
INSERTED: list[Row] = [
    row
    for bad in (b"\r", b"\n", b"\x00", b"\x0b", b" ")
    for row in rows(
        400,
        f"RFC 9112 §7.1, §2.2: {bad!r} where none may be",
        [
            chunked(body)
            for body in inserted(GOOD, bad, PLACES if bad == b" " else range(len(GOOD) - 1))
        ],
    )
]
# Cut before their end: never answered as if they were whole. (No status: nothing is answered.)
WHOLE = (
    chunked(GOOD),
    chunked(b"3\r\nabc\r\n0\r\n\r\n"),
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
)
CUT: list[bytes] = [
    whole[:end] for whole in WHOLE for end in range(whole.index(b"\r\n\r\n") + 4, len(whole))
]
