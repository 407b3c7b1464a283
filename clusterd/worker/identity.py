"""A name for each request, which is in the access log and which the app sees as X-Request-ID.

A trusted proxy's is kept, if it can stand in a log; anybody else's is replaced, as a proxy would.
Only where the access log is on: nobody else would know the names that are made here.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

from clusterd.app.scope import Scope

ID = b"x-request-id"
SANE = re.compile(rb"[A-Za-z0-9._-]{1,128}")

Make = Callable[
    [Any, Scope, float, bool], Any
]  # an exchange, of its peer, scope, start and `keeps`


def identified(make: Make) -> Make:
    """Makes exchanges whose requests have a name: the last of their headers."""
    next_name = names().__next__

    def make_named(peer: Any, scope: Scope, began: float, keeps: bool) -> Any:
        headers = scope["headers"]
        given = dict(headers).get(ID)
        if given is None:
            headers.append((ID, next_name()))
        else:
            sane = peer.trusted and SANE.fullmatch(given)
            scope["headers"] = [pair for pair in headers if pair[0] != ID]
            scope["headers"].append((ID, given if sane else next_name()))
        return make(peer, scope, began, keeps)

    return make_named


def names() -> Iterator[bytes]:
    """Endless, and of this process alone."""
    mine = os.urandom(8).hex().encode()
    return (b"%b-%x" % (mine, number) for number in itertools.count(1))
