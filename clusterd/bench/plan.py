"""What the connections of one generator ask, and in which order: made once, shared by all."""

from collections.abc import Callable
from dataclasses import dataclass, field

from clusterd.bench.answers import Heads
from clusterd.bench.load import Load, Target
from clusterd.bench.requests import Deck, rendered

Known = dict[bytes, int]  # whole answers to their status


@dataclass(slots=True, eq=False)
class Ask:
    """A request as it is sent, and what was seen answered to its like."""

    wire: bytes
    bodiless: bool = False  # its answer has no body: a HEAD
    known: Known = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Plan:
    """`draw` gives the next request; of only one, it is always that."""

    target: Target
    load: Load
    asks: tuple[Ask, ...]
    draw: Callable[[], Ask]
    heads: Heads = field(default_factory=Heads)


def made(target: Target, load: Load, seed: int) -> Plan:
    """The plan of one generator. `seed` shuffles: no two of them should ask in step."""
    # The same bytes may be a whole answer to a HEAD, and the beginning of one to a GET.
    known: tuple[Known, Known] = ({}, {})
    asks = tuple(
        Ask(rendered(one, target, close=load.fresh), bodiless, known[bodiless])
        for one in load.requests
        for bodiless in (one.method == "HEAD",)
    )
    deck = Deck(load.requests, seed)
    return Plan(target, load, asks, lambda: asks[deck.draw()])
