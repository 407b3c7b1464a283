"""Arguments and results by annotations: each type comes back as it was, or is refused by name."""

import enum
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterd.jobs.annotations import shape_of
from clusterd.jobs.shapes import MOST_DEPTH, Unfit, dump_json

SOME_ID = UUID("12345678-1234-5678-1234-567812345678")
NAN, INFINITY = float("nan"), float("inf")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Odd(enum.Enum):
    PAIR = (1, 2)
    NOTHING = None


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    at: datetime | None = None


class Options(TypedDict):
    size: int
    colour: NotRequired[Colour]


@dataclass
class Leaf:
    name: str
    key: UUID = SOME_ID
    shown: str = field(init=False, default="")


@dataclass
class Larger(Leaf):
    size: int = 0


@dataclass
class Tree:
    leaf: Leaf
    children: "list[Tree]" = field(default_factory=list)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    when: datetime
    amount: Decimal = pydantic.Field(alias="amountDue")
    inner: "Model | None" = None


class Struct(msgspec.Struct):
    when: datetime
    tags: set[str] = set()


class Root(pydantic.RootModel[list[int]]):
    """A model that is not an object."""


class Listed(msgspec.Struct, array_like=True):
    x: int


UserId = NewType("UserId", int)

CASES: list[tuple[Any, Any]] = [
    (str, "x\u00e4\U0001f600\0"),
    (int, 2**70),
    (float, 0.1),
    (bool, False),
    (None, None),
    (Any, {"a": [1, 2.5, None, True, "x", {}]}),
    (UUID, SOME_ID),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-3)))),
    (datetime, datetime(2026, 1, 2)),
    (date, date(2026, 2, 28)),
    (time, time(1, 2, 3, 4)),
    (timedelta, timedelta(days=-3, microseconds=1)),
    (Decimal, Decimal("1.10")),
    (bytes, bytes(range(256))),
    (Path, Path("/a/b c")),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (Odd, Odd.PAIR),
    (Odd, Odd.NOTHING),
    (Rights, Rights.READ | Rights.WRITE),
    (list[UUID], [SOME_ID]),
    (list, [1, "x"]),
    (tuple[int, ...], (1, 2, 3)),
    (tuple[int, Decimal], (1, Decimal("2"))),
    (tuple[()], ()),
    (tuple, (1, "x")),
    (set[date], {date(2026, 1, 1), date(2026, 1, 2)}),
    (frozenset[int], frozenset({1, 2})),
    (dict[str, bytes], {"x": b"\0"}),
    (dict[int, str], {1: "x", -2: "y"}),
    (dict[UUID, int], {SOME_ID: 1}),
    (dict[Colour, int], {Colour.RED: 1}),
    (dict[Level, int], {Level.LOW: 1}),
    (dict, {"x": 1}),
    (Mapping[str, Level], {"x": Level.LOW}),
    (Sequence[int], [1, 2]),
    (Optional[UUID], None),  # noqa: UP045
    (UUID | None, SOME_ID),
    (int | str, "5"),
    (int | str, 5),
    (int | float, 5),
    (int | float, 5.0),
    (float | int, 5),
    (float | None, 5.5),
    (int | timedelta, timedelta(seconds=5)),
    (int | Level, Level.LOW),
    (Any | None, [1]),
    (Model | None, None),
    (Root, Root([1])),
    (Root | None, Root([1])),
    (Root | None, None),
    (Listed | Struct, Listed(1)),
    (Listed | None, Listed(1)),
    (UUID | str, str(SOME_ID)),  # a text that looks as the other does
    (str | UUID, SOME_ID),
    (date | datetime | None, datetime(2026, 1, 1)),
    (date | datetime | None, date(2026, 1, 1)),
    (date | datetime | None, None),
    (list[int] | dict[str, int], {"x": 1}),
    (Leaf | Point, Point(1)),
    (Literal["a", 1, True, None], 1),
    (Literal["a", 1, True, None], True),
    (UserId, UserId(5)),
    (Annotated[int, "something", ["not hashable"]], 5),
    (Point, Point(1, datetime(2026, 1, 1))),
    (Options, {"size": 1}),
    (Options, {"size": 1, "colour": Colour.RED}),
    (Leaf, Leaf("x")),
    (Tree, Tree(Leaf("x"), [Tree(Leaf("y")), Tree(Leaf("z"), [Tree(Leaf("w"))])])),
    (Model, Model.model_validate({"when": datetime(2026, 1, 1), "amountDue": Decimal("1.5")})),
    (Struct, Struct(datetime(2026, 1, 1, tzinfo=UTC), {"x"})),
    (list[Struct] | None, [Struct(datetime(2026, 1, 1))]),
]


# Not by the values: a set is shown in another order in each process.
@pytest.mark.parametrize(
    ("annotation", "value"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)]
)
def test_a_value_comes_back_as_it_was(annotation: Any, value: Any) -> None:
    shape = shape_of(annotation)
    written = dump_json(shape.write(value, MOST_DEPTH))
    back = shape.read(json.loads(written))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    ("annotation", "value", "says"),
    [
        (str, 5, "expected str, not int 5"),
        (int, "5", "expected int, not str '5'"),
        (int, 5.0, "expected int"),
        (int, True, "expected int, not bool True"),
        (float, True, "expected float"),
        (float, NAN, "nan is not a number"),
        (float, INFINITY, "inf is not a number"),
        (float, 10**400, "too large"),
        (bool, 1, "expected bool"),
        (None, 0, "expected None"),
        (str, "\ud800", "surrogate"),
        (Any, (1, 2), "tuple (1, 2) is not of JSON's types"),
        (Any, {1: 2}, "the key int 1 is not a text"),
        (Any, [0, {"x": {NAN}}], "[1]['x']: set {nan}"),
        (Any, [NAN], "[0]: nan"),
        (Any, Colour.RED, "not of JSON's types"),
        (Any, SOME_ID, "annotate it"),
        (date, datetime(2026, 1, 1), "expected date, not datetime"),
        (Decimal, Decimal("NaN"), "NaN is not a number"),
        (timedelta, timedelta.max, "more digits"),
        (Colour, "red", "expected Colour, not str 'red'"),
        (list[int], [1, "x"], "[1]: expected int"),
        (list[int], (1,), "expected list[int], not tuple"),
        (tuple[int, int], (1,), "expected 2 items"),
        (dict[str, int], {"x": "y"}, "['x']: expected int"),
        (dict[str, int], {1: 1}, "[1]: expected str"),
        (UUID | int, "x", "expected uuid.UUID | int, not str 'x'"),
        (Literal["a"], "b", "expected Literal['a']"),
        (Literal[1], Decimal("sNaN"), "expected Literal[1]"),
        (Literal["a", 1], True, "expected Literal['a', 1], not bool True"),
        (Leaf, Larger("x"), "expected Leaf, not Larger"),
        (Tree, Tree(Leaf(5)), ".leaf.name: expected str, not int 5"),  # type: ignore[arg-type]
        (Options, {}, "the key 'size' of Options is missing"),
        (Options, {"size": 1, "x": 2}, "Options has no key 'x'"),
        (Model, Leaf("x"), "expected Model"),
        (Struct, None, "expected Struct"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(annotation: Any, value: Any, says: str) -> None:
    with pytest.raises(Unfit) as caught:
        dump_json(shape_of(annotation).write(value, MOST_DEPTH))
    assert says in str(caught.value.raised(""))


@pytest.mark.parametrize(
    ("annotation", "plain", "says"),
    [
        (int, "5", "expected int"),
        (UUID, "x", "'x' is not a valid UUID"),
        (UUID, 5, "expected a text for UUID"),
        (datetime, "yesterday", "not a valid datetime"),
        (Decimal, "x", "not a valid Decimal"),
        (bytes, "*", "not a valid bytes"),
        (timedelta, 1e300, "too many"),
        (Colour, "green", "'green' is not a valid Colour"),
        (Odd, "GONE", "not a valid Odd"),
        (list[int], {"0": 1}, "expected a list"),
        (set[Any], [[1]], "unhashable"),
        (tuple[int, int], [1, 2, 3], "expected 2 items"),
        (dict[int, int], {"x": 1}, "the key 'x' is not a whole number"),
        (UUID | str, "x", "expected"),
        (UUID | str, [[], "x"], "expected"),
        (Leaf, {"name": "x", "size": 1}, "Leaf has no field 'size'"),
        (Leaf, {}, "missing 1 required positional argument: 'name'"),
        (Options, {"size": "x"}, "['size']: expected int"),
        (Model, {"when": "x", "amountDue": "1"}, "validation error"),
        (Struct, {"when": 5}, "$.when"),
    ],
)
def test_what_was_stored_is_judged_as_well(annotation: Any, plain: Any, says: str) -> None:
    """It may come from a command, or from older code."""
    with pytest.raises(Unfit) as caught:
        shape_of(annotation).read(plain)
    assert says in str(caught.value.raised(""))


@pytest.mark.parametrize(
    "annotation", [object(), complex, typing.Callable[[], None], dict[float, int], dict[bytes, int]]
)
def test_a_type_that_is_not_supported_is_refused(annotation: Any) -> None:
    if annotation == dict[bytes, int]:  # written as texts, so that they may be keys
        assert shape_of(annotation).read({"AA==": 1}) == {b"\0": 1}
        return
    with pytest.raises(Unfit):
        shape_of(annotation)


def test_values_of_a_union_are_written_plainly_where_their_kind_tells_them_apart() -> None:
    def written(annotation: Any, value: Any) -> bytes:
        return dump_json(shape_of(annotation).write(value, MOST_DEPTH))

    assert written(float | None, 5) == b"5.0"
    assert written(int | float, 5) == b"5"
    assert written(Listed | None, Listed(1)) == b"[1]"
    assert written(Any | None, {"x": 1}) == b'{"x":1}'
    assert written(Leaf | None, Leaf("x")).startswith(b'{"name"')
    model = Model.model_validate({"when": datetime(2026, 1, 1), "amountDue": Decimal(1)})
    assert written(Model | str, model).startswith(b'{"when"')
    assert written(UUID | str, SOME_ID) == f'["UUID","{SOME_ID}"]'.encode()
    assert shape_of(float | None).read(5) == 5.0  # as a command writes it


PLAIN_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)
ANNOTATIONS = list({str(annotation): annotation for annotation, _ in CASES}.values())


@given(PLAIN_JSON)
def test_any_json_value_comes_back_without_an_annotation(value: Any) -> None:
    back = json.loads(dump_json(shape_of(Any).write(value, MOST_DEPTH)))
    assert repr(back) == repr(value)  # types, and the sign of zero


@given(st.sampled_from(ANNOTATIONS), PLAIN_JSON)
def test_whatever_was_stored_is_read_or_refused(annotation: Any, plain: Any) -> None:
    """And what is read can be written again."""
    shape = shape_of(annotation)
    try:
        value = shape.read(plain)
    except Unfit:
        return
    assert shape.read(json.loads(dump_json(shape.write(value, MOST_DEPTH)))) == value


def test_nesting_has_a_limit() -> None:
    deep: Any = []
    for _ in range(MOST_DEPTH - 1):
        deep = [deep]
    assert shape_of(Any).write(deep, MOST_DEPTH) == deep
    with pytest.raises(Unfit, match="nested more than 100"):
        shape_of(Any).write([deep], MOST_DEPTH)
    tree = Tree(Leaf("x"))
    tree.children.append(tree)
    with pytest.raises(Unfit, match="nested more than 100"):
        shape_of(Tree).write(tree, MOST_DEPTH)


def test_a_list_that_holds_itself_is_refused() -> None:
    around: list[Any] = []
    around.append(around)
    with pytest.raises(Unfit, match="nested more than 100"):
        shape_of(Any).write(around, MOST_DEPTH)
