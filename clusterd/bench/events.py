"""Server-sent events in the body of an answer: bytes in, events counted.

The format is HTML's (§9.2.6, "Interpreting an event stream"): lines end with CRLF, LF or CR, an
empty line ends an event, and one without data is none; so comments that keep a connection alive do
not count.
"""

import re

CR = 13  # as a number: to look for a bytes object in another takes ten times as long
DATA = re.compile(rb"^(?:\xef\xbb\xbf)?data(?::|$)", re.MULTILINE)  # lines end with LF by then


class Events:
    """The events of one stream."""

    __slots__ = ("_after_cr", "_rest")

    def __init__(self) -> None:
        self._rest = b""  # of an event that is not whole, its lines ended by LF
        self._after_cr = False

    def feed(self, data: bytes) -> int:
        """How many events became whole."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]  # the LF of a CRLF that was torn
            self._after_cr = False
        if not data:
            return 0
        if CR in data:
            self._after_cr = data[-1:] == b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            self._after_cr = False
        blocks = (self._rest + data).split(b"\n\n")
        self._rest = blocks.pop()
        return len([1 for one in blocks if one[:5] == b"data:" or DATA.search(one)])
