"""Dataclasses as JSON: what was written is read again, and what is not understood is refused."""

import enum
import json
from dataclasses import dataclass, field, make_dataclass
from math import inf
from typing import Any

import pytest

from clusterd.core.plain import Descriptor, Fields, Hints, Reader, Unfit, Writer


class Colour(enum.Enum):
    RED = "red"
    BLUE = 7


@dataclass(frozen=True, slots=True)
class Leaf:
    colour: Colour = Colour.RED
    until: float = inf


@dataclass(slots=True)
class Tree:
    name: str
    leaves: dict[int, Leaf]
    first: Leaf | None
    numbers: set[int]
    names: tuple[str, ...]
    pair: tuple[int, Leaf]
    raw: bytearray
    pipe: Descriptor
    lock: Descriptor
    either: str | int | None
    anything: Any
    rows: list[list[int]] = field(default_factory=list)
    owner: object = None
    made: int = field(init=False, default=0)


LEFT: Fields = {Tree: {"owner": None}}


def tree() -> Tree:
    return Tree(
        name="é\udce9",
        leaves={3: Leaf(Colour.BLUE, 1.5), 4: Leaf()},
        first=None,
        numbers={1, 2},
        names=("a", "b"),
        pair=(1, Leaf(Colour.BLUE)),
        raw=bytearray(b"\x00\xff"),
        pipe=7,
        lock=-1,
        either=5,
        anything={"free": [1, None]},
        rows=[[1], []],
        owner=object(),
    )


def written(one: Any, left: Fields = LEFT) -> tuple[Any, list[int]]:
    writer = Writer(Hints({}), left, {})
    return json.loads(json.dumps(writer.write(type(one), one))), writer.descriptors


def read(cls: type, plain: Any, **more: Any) -> Any:
    return Reader(Hints({}), LEFT, {}, **more).read(cls, plain, "here")


def test_what_was_written_is_read_again() -> None:
    original = tree()
    plain, descriptors = written(original)
    assert descriptors == [7]
    taken: list[int] = []

    def take(number: int) -> int:
        taken.append(number)
        return number

    again = read(Tree, plain, take=take)
    assert taken == [7]
    original.owner = None  # is left behind
    assert again == original
    assert type(again.raw) is bytearray
    assert type(again.names) is tuple


def test_a_field_that_is_new_takes_its_default() -> None:
    plain, _ = written(tree())
    del plain["rows"]
    assert read(Tree, plain).rows == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"leaf": 1}, r"Tree\.leaf is not known"),
        ({"name": 3}, r"Tree\.name is 3, and not str"),
        ({"pair": [1]}, r"Tree\.pair"),
        ({"first": {"colour": "green"}}, "'green' is not a valid Colour"),
        ({"first": {"fruit": 1}}, r"Leaf\.fruit is not known"),
        ({"leaves": [[1, 2, 3]]}, r"Tree\.leaves"),
        ({"pipe": "7"}, "no descriptor"),
        ({"numbers": None}, r"Tree\.numbers"),
        ({"numbers": [True]}, r"Tree\.numbers"),
    ],
)
def test_what_is_not_understood_is_refused(change: dict[str, Any], says: str) -> None:
    plain, _ = written(tree())
    with pytest.raises(Unfit, match=says):
        read(Tree, {**plain, **change})


def test_a_field_without_a_default_that_the_old_version_lacks_is_refused() -> None:
    plain, _ = written(tree())
    del plain["numbers"]
    with pytest.raises(Unfit, match=r"Tree\.numbers is wanted"):
        read(Tree, plain)


def test_what_nobody_can_carry_is_refused_when_it_is_written() -> None:
    odd = make_dataclass("Odd", [("what", complex)])
    with pytest.raises(Unfit, match="cannot be carried"):
        written(odd(1j), {})
