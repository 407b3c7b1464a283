"""How much a request may take."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Bytes of the request line, bytes and number of the headers, bytes of the body (0: any)."""

    line: int = 8192
    headers: int = 65536
    fields: int = 100
    body: int = 0
