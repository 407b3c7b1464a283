"""Where a body ends: Content-Length, Transfer-Encoding and both. Smuggling lives here."""

from tests.conformance.malformed.rows import Row, chunked, get, post, rows, words

LENGTHS = (
    b"",
    b"1" * 5000,
    *words(
        r"""
    +5  -5  -0  +0  5.0  5e0  0x5  0b1  5h  h5  five  ''  5_0  5\x200  5\t0  5,  ,5  5,5
    5,\x205  5;5  5/5  5:5  "5"  \x20  \t  \xb2  \xd9\xa5  \xef\xbc\x95  5\xa0  \xa05  5\x85
    9999999999999999999  9999999999999999999999999999999999999999  18446744073709551621
    4294967301.  -1  ~5  5\x0b  \x0b5  5\x0c  \x0c5  5\x00  \x005  5\x1f  5\x7f  \x1b5
    """
    ),
)
REPEATED = (
    (b"Content-Length: 5", b"Content-Length: 5"),
    (b"Content-Length: 5", b"Content-Length: 6"),
    (b"Content-Length: 0", b"Content-Length: 5"),
    (b"content-length: 5", b"CONTENT-LENGTH: 5"),
    (b"Content-Length: 5", b"X: y", b"Content-Length: 5"),
    (b"Content-Length: 5", b"Content-Length:"),
    (b"Content-Length:", b"Content-Length: 5"),
    (b"Content-Length: 5", b"Content-Length: 5", b"Content-Length: 5"),
)
# Not exactly `chunked`: who strips more than blanks, or looks for the word, is fooled.
CODINGS = (
    b"",
    *words(
        r"""
    xchunked  chunkedx  chunk  chunke  x-chunked  chunked-x  chunked;a=b  'chunked'  "chunked"
    chunked;  chunked=1  (chunked)  chunked/1  \x0bchunked  chunked\x0b  \x0cchunked
    chunked\x0c  \xa0chunked  ch\tunked  chunked\xa0  \x85chunked  chunked\x85  \xc2\xa0chunked
    chunked\xc2\x85  \x1cchunked  chunked\x1f  \x00chunked  chunked\x00  chunked\x7f  c\x20hunked
    \x20  ,  identity  gzip  deflate  compress  br  trailers  none  chunked,\x20identity
    chunked,\x20gzip  chunked,gzip  chunked\x20,\tgzip  chunked\x20gzip  chunked,\x20x
    chunked;q=1  \xe2\x80\x8bchunked  chun\xc5\xbfed  chun\xe2\x84\xaaed
    """
    ),
)
# What ends in chunked, so that its end is known, and has codings that we do not know.
UNKNOWN = words(
    r"""
    gzip,\x20chunked  gzip,chunked  deflate,\x20gzip,\x20chunked  identity,\x20chunked
    chunked,\x20chunked  x;a=b,\x20chunked  ,\x20chunked  gzip\x20,\tCHUNKED
    """
)
END = b"0\r\n\r\n"
TE = b"Transfer-Encoding: "

LENGTH: list[Row] = [
    *rows(
        400,
        "RFC 9110 §8.6, RFC 9112 §6.3: Content-Length is 1*DIGIT, else the request is invalid",
        [post(b"Content-Length: " + value, body=b"hello") for value in LENGTHS],
    ),
    *rows(
        400,
        "RFC 9112 §6.3: differing, and by us also repeated, lengths",
        [post(*fields, body=b"hello") for fields in REPEATED],
    ),
    *rows(
        400,
        "RFC 9110 §8.6: a malformed length is none, whatever the method",
        [
            get(b"Content-Length: x", method=name)
            for name in (b"GET", b"HEAD", b"OPTIONS", b"TRACE")
        ],
    ),
]
CODING: list[Row] = [
    *rows(
        400,
        "RFC 9112 §6.1, §6.3: where chunked is not the final coding the length is not known",
        [post(TE + value, body=END) for value in CODINGS],
    ),
    *rows(501, "RFC 9112 §6.1: a coding that is not understood", [post(TE + v) for v in UNKNOWN]),
    *rows(
        501,
        "RFC 9112 §6.1: chunked is not applied twice",
        [
            post(TE + b"chunked", TE + b"chunked", body=END),
            post(TE + b"gzip", TE + b"chunked", body=END),
            post(TE + b"identity", TE + b"chunked", body=END),
            post(TE, TE + b"chunked", body=END),
        ],
    ),
    *rows(
        400,
        "RFC 9112 §6.3: chunked is not the last of several fields",
        [
            post(TE + b"chunked", TE + b"gzip", body=END),
            post(TE + b"chunked", TE + b"identity", body=END),
            post(TE + b"chunked", TE, body=END),
            post(TE + b"chunked", TE + b"x", body=END),
        ],
    ),
    *rows(
        400,
        "RFC 9112 §6.1: a coding in a message of HTTP/1.0 is faulty framing",
        [
            post(TE + b"chunked", body=END, version=b"HTTP/1.0"),
            post(TE + b"chunked", b"Connection: keep-alive", body=END, version=b"HTTP/1.0"),
            post(TE + b"gzip, chunked", body=END, version=b"HTTP/1.0"),
        ],
    ),
    *rows(
        400,
        "RFC 9112 §5.1: no blank before the colon, and no other disguise of the name",
        [
            post(b"Transfer-Encoding : chunked", b"Content-Length: 5", body=END),
            post(b"Transfer-Encoding\t: chunked", b"Content-Length: 5", body=END),
            post(b"Transfer-Encoding\x0b: chunked", b"Content-Length: 5", body=END),
            post(b"Transfer-Encoding\x00: chunked", b"Content-Length: 5", body=END),
            post(b"Transfer-Encoding\xa0: chunked", b"Content-Length: 5", body=END),
            post(b" Transfer-Encoding: chunked", b"Content-Length: 5", body=END),
            post(b"\tTransfer-Encoding: chunked", b"Content-Length: 5", body=END),
            post(b"Transfer-Encoding:\r\n chunked", b"Content-Length: 5", body=END),
            post(b"X: y\rTransfer-Encoding: chunked", b"Content-Length: 5", body=END),
            post(b"X: y\nTransfer-Encoding: chunked", b"Content-Length: 5", body=END),
            post(b"Transfer-Encoding", b"Content-Length: 5", body=END),
            post(b'"Transfer-Encoding": chunked', b"Content-Length: 5", body=END),
            post(b"Transfer Encoding: chunked", b"Content-Length: 5", body=END),
        ],
    ),
]
BOTH: list[Row] = rows(
    400,
    "RFC 9112 §6.1, §6.3: both framings; the connection is closed",
    [
        *(
            post(*pair, body=END)
            for coding in (b"chunked", b"Chunked", b"gzip, chunked", b"identity", b"", b"x")
            for length in (b"0", b"5", b"6", b"", b"x", b"5, 5")
            for field in [TE + coding]
            for pair in (
                (field, b"Content-Length: " + length),
                (b"Content-Length: " + length, field),
            )
        ),
        get(TE + b"chunked", b"Content-Length: 5") + END,
        get(TE + b"chunked", b"Content-Length: 0", method=b"HEAD") + END,
        post(TE + b"chunked", b"Connection: close", b"Content-Length: 5", body=END),
        post(TE + b"chunked", b"Connection: Content-Length", b"Content-Length: 5", body=END),
        post(TE + b"chunked", b"Content-Length: 5", body=END, version=b"HTTP/1.0"),
        post(b"Upgrade: h2c", TE + b"chunked", b"Content-Length: 5", body=END),
    ],
)
EXPECT: list[Row] = [
    *rows(
        417,
        "RFC 9110 §10.1.1: an expectation that is not known",
        [
            post(b"Expect: " + value, b"Content-Length: 5", body=b"hello")
            for value in (
                *(b"tea", b"100", b"100-continued", b"x100-continue", b"100-continue, tea"),
                *(b"100-continue;q=1", b"100 continue", b'"100-continue"', b"200-ok", b"\xa0"),
            )
        ],
    ),
    *rows(
        400,
        "RFC 9110 §8.6: an expectation excuses nothing",
        [
            post(b"Expect: 100-continue", b"Content-Length: +5", body=b"hello"),
            post(b"Expect: 100-continue", b"Content-Length: 5", TE + b"chunked", body=END),
        ],
    ),
]
# A body that was never promised is the next request, and here none.
AFTER: list[Row] = rows(
    400,
    "RFC 9112 §6.3: without a framing there is no body; what follows is judged as a request",
    [
        post(body=b"\x00\0\x00\0"),
        post(b"Content-Length: 0", body=b"=hello=\x01"),
        get(b"Content-Length: 3") + b"abc{}",
        chunked(END) + b"0\r\n\r\n\x00",
        chunked(b"3\r\nabc\r\n0\r\n\r\n") + b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
# And behind what was refused there is no request, whatever comes.
BEFORE: list[Row] = rows(
    400,
    "RFC 9112 §9.3, §6.3: after an error the connection is closed, and nothing of it is a request",
    [
        data + get(target=b"/smuggled")
        for data in (
            post(b"Content-Length: +5", body=b"hello"),
            post(b"Content-Length: 5", TE + b"chunked", body=END),
            post(TE + b"chunked", b"Content-Length: 5", body=END),
            post(TE + b"chunked;", body=END),
            post(TE + b"chunked", body=b"3\r\nabcd\r\n" + END),
            post(TE + b"chunked", body=b"0x0\r\n\r\n"),
            post(TE + b"chunked", body=b"0\r\nA : b\r\n\r\n"),
            get(b"X : y"),
            get(host=b"a,b"),
            get(target=b"/#"),
            get(b"X: y\r\n z"),
            b"GET /\r\n\r\n",
            b"\n",
        )
    ],
)
