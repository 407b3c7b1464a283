"""A name for each request, which is in the access log and which the app sees as X-Request-ID.

A trusted proxy's is kept, if it can stand in a log; anybody else's is replaced, as a proxy would.
Only where the access log is on: nobody else would know the names that are made here.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

from clusterd.app.exchange import Exchange
from clusterd.app.scope import REQUEST_ID as ID
from clusterd.app.scope import SANE_ID as SANE
from clusterd.app.scope import Scope
from clusterd.wire.heads import Pair

LAST = [b"%02x" % number for number in range(256)]  # the last digits of names


class Names:
    """Gives names, of which no other process makes the same."""

    __slots__ = ("next_pair",)

    def __init__(self) -> None:
        # No frame of ours runs for a name, and nothing is formatted: that would cost as much as
        # all the rest of its line in the log.
        batches = map(
            b"%b%06x".__mod__,
            zip(itertools.repeat(os.urandom(8).hex().encode()), itertools.count()),
        )
        made = itertools.chain.from_iterable(map(of_batch, batches))
        self.next_pair: Callable[[], Pair] = zip(itertools.repeat(ID), made).__next__

    def give(self, scope: Scope) -> None:
        """Have a new name as the last header, beside what the client may have sent."""
        scope["headers"].append(self.next_pair())

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


def of_batch(first: bytes) -> Iterator[bytes]:
    """Names that begin alike."""
    return map(first.__add__, LAST)


def identified(kind: type[Exchange], names: Names) -> type[Exchange]:
    """The same exchanges, of requests that have a name."""
    next_pair = names.next_pair
    begin = kind.__init__

    class Named(kind):  # type: ignore[misc, valid-type]
        __slots__ = ()

        def __init__(self, peer: Any, scope: Scope, began: float, keeps: bool) -> None:
            scope["headers"].append(next_pair())
            begin(self, peer, scope, began, keeps)

    return Named
