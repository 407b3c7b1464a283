"""A name for each request, which is in the access log and which the app sees as X-Request-ID.

A trusted proxy's is kept, if it can stand in a log; anybody else's is replaced, as a proxy would.
Only where the access log is on: nobody else would know the names that are made here.
"""

import os
import re
from typing import Any

from clusterd.app.exchange import Exchange
from clusterd.app.scope import Scope

ID = b"x-request-id"
SANE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class Names:
    """Gives names, of which no other process makes the same."""

    __slots__ = ("_given", "_mine")

    def __init__(self) -> None:
        self._mine = os.urandom(8).hex().encode()
        self._given = 0

    def give(self, scope: Scope) -> None:
        """Have a new name as the last header, beside what the client may have sent."""
        self._given += 1
        scope["headers"].append((ID, b"%b%08x" % (self._mine, self._given)))

    def settle(self, scope: Scope, trusted: bool) -> None:
        """Leave one name only: that of a trusted proxy, if there is one and it is sane, or ours.

        For every request that has one of `tables.TOLD` among its headers.
        """
        *headers, ours = scope["headers"]
        said = dict(headers).get(ID)
        if said is not None:
            if trusted and SANE.fullmatch(said):
                ours = (ID, said)
            scope["headers"] = [*(pair for pair in headers if pair[0] != ID), ours]


def identified(kind: type[Exchange], names: Names) -> type[Exchange]:
    """The same exchanges, of requests that have a name."""
    give = names.give
    begin = kind.__init__

    class Named(kind):  # type: ignore[misc, valid-type]
        __slots__ = ()

        def __init__(self, peer: Any, scope: Scope, began: float, keeps: bool) -> None:
            give(scope)
            begin(self, peer, scope, began, keeps)

    return Named
