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

    def give(self, scope: Scope, trusted: bool) -> None:
        """Have the request's name as its last header."""
        headers = scope["headers"]
        said = dict(headers).get(ID)
        if said is None:
            self._given += 1
            headers.append((ID, b"%b-%x" % (self._mine, self._given)))
            return
        headers = [pair for pair in headers if pair[0] != ID]
        if not (trusted and SANE.fullmatch(said)):
            self._given += 1
            said = b"%b-%x" % (self._mine, self._given)
        scope["headers"] = [*headers, (ID, said)]


def identified(kind: type[Exchange], names: Names) -> type[Exchange]:
    """The same exchanges, of requests that have a name."""
    give = names.give
    begin = kind.__init__

    class Named(kind):  # type: ignore[misc, valid-type]
        __slots__ = ()

        def __init__(self, peer: Any, scope: Scope, began: float, keeps: bool) -> None:
            give(scope, peer.trusted)
            begin(self, peer, scope, began, keeps)

    return Named
