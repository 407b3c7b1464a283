"""The shape of each annotation: which types job arguments and results may have."""

import base64
import binascii
import collections.abc
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, Union, get_args, get_origin
from uuid import UUID

from clusterd.jobs.shapes import (
    ANYTHING,
    EVERY_KIND,
    LIST,
    NULL,
    NUMBER,
    OBJECT,
    PLAIN,
    TEXT,
    WHOLE,
    Shape,
    Unfit,
    deeper,
    described,
    dump_json,
    each_of,
    enum_shape,
    expected,
    kind_of,
    text_shape,
    write_json,
)

_made: dict[Any, Shape] = {}


def shape_of(annotation: Any) -> Shape:
    """Return the shape of an annotation. Raises Unfit where it is not supported."""
    if get_origin(annotation) is typing.Annotated:  # whose parts may not be hashable
        return shape_of(get_args(annotation)[0])
    if (shape := _made.get(annotation)) is None:
        shape = _made[annotation] = _shape(annotation)
    return shape


def _shape(annotation: Any) -> Shape:
    if annotation in (Any, object):
        return ANYTHING
    if (shape := SIMPLE.get(annotation)) is not None:
        return shape
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _union(annotation)
    if origin is typing.Literal:
        return _literal(annotation)
    if hasattr(annotation, "__supertype__"):  # a NewType
        return shape_of(annotation.__supertype__)
    if hasattr(annotation, "__value__"):  # of `type Name = …`
        return _later(lambda: annotation.__value__, str(annotation))
    if isinstance(annotation, typing.TypeVar):
        return ANYTHING if annotation.__bound__ is None else shape_of(annotation.__bound__)
    cls: Any = origin or annotation
    if not isinstance(cls, type):
        raise Unfit(f"the annotation {annotation!r} is not supported")
    return _of_class(annotation, cls)


def _of_class(annotation: Any, cls: type) -> Shape:
    if (found := _collection(annotation, cls)) is not None:
        return found
    if issubclass(cls, Enum):
        return enum_shape(cls)
    if hasattr(cls, "model_validate_json"):
        return _pydantic(cls)
    if hasattr(cls, "__struct_fields__"):
        return _msgspec(cls)
    if dataclasses.is_dataclass(cls):
        return _fields(cls, lambda: [one.name for one in dataclasses.fields(cls) if one.init])
    if typing.is_typeddict(cls):
        return _typed_dict(cls)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _fields(cls, lambda: cls._fields)
    raise Unfit(
        f"the type {cls.__qualname__} is not supported: use JSON's types, a dataclass, or a model "
        "of pydantic or msgspec"
    )


def _later(find: Callable[[], Any], name: str) -> Shape:
    """Return the shape of an annotation that may contain itself."""

    def shape() -> Shape:
        return shape_of(find())

    return Shape(
        name,
        lambda value, depth: shape().write(value, deeper(depth)),
        lambda plain: shape().read(plain),
        lambda value: shape().accepts(value),
    )


# --- simple types


def _read_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Unfit(f"{value} is not a number that JSON can carry", ValueError)
    return str(value)


def _timedelta() -> Shape:
    """Return the shape of timedelta: a number of seconds."""

    def write(value: Any, _depth: int) -> float:
        if not isinstance(value, timedelta):
            raise expected("timedelta", value)
        seconds = value.total_seconds()
        try:
            is_exact = timedelta(seconds=seconds) == value
        except OverflowError:
            is_exact = False
        if not is_exact:  # beyond 270 years a float has no microseconds
            raise Unfit(f"{value} has more digits than a number of seconds can carry", ValueError)
        return seconds

    def read(plain: Any) -> timedelta:
        try:
            return timedelta(seconds=PLAIN[float].read(plain))
        except OverflowError:
            raise Unfit(f"{plain} seconds are too many", ValueError) from None

    kinds = frozenset({NUMBER})
    return Shape("timedelta", write, read, lambda value: isinstance(value, timedelta), kinds)


SIMPLE: dict[Any, Shape] = {
    **PLAIN,
    None: PLAIN[type(None)],
    UUID: text_shape(UUID, str, UUID),
    datetime: text_shape(datetime, datetime.isoformat, datetime.fromisoformat),
    date: text_shape(date, date.isoformat, date.fromisoformat, exact=True),  # not a datetime
    time: text_shape(time, time.isoformat, time.fromisoformat),
    timedelta: _timedelta(),
    Decimal: text_shape(Decimal, _write_decimal, Decimal),
    bytes: text_shape(bytes, lambda value: base64.b64encode(value).decode(), _read_bytes),
    Path: text_shape(Path, str, Path),
    PurePath: text_shape(PurePath, str, PurePath),
}


# --- collections

abc = collections.abc
# The annotation's class → what values may be, and what is made of a list that is read.
LISTS: dict[type, tuple[tuple[type, ...], Callable[[list[Any]], Any]]] = {
    list: ((list,), list),
    set: ((set,), set),
    frozenset: ((frozenset,), frozenset),
    abc.Sequence: ((list, tuple), list),
    abc.MutableSequence: ((list,), list),
    abc.Iterable: ((list, tuple), list),
    abc.Collection: ((list, tuple), list),
    abc.Set: ((set, frozenset), frozenset),
    abc.MutableSet: ((set,), set),
}
MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


def _collection(annotation: Any, cls: type) -> Shape | None:
    args = get_args(annotation)
    if cls is tuple and args and args[-1] is not Ellipsis:
        return _fixed_tuple(annotation, [shape_of(arg) for arg in args])
    if cls is tuple:
        return _list(annotation, (tuple,), tuple, shape_of(args[0]) if args else ANYTHING)
    if cls in LISTS:
        return _list(annotation, *LISTS[cls], shape_of(args[0]) if args else ANYTHING)
    if cls in MAPPINGS:
        return _mapping(annotation, *(args or (str, Any)))
    return None


def _list(annotation: Any, classes: Any, make: Callable[[list[Any]], Any], item: Shape) -> Shape:
    name = _name(annotation)

    def write(value: Any, depth: int) -> list[Any]:
        if not isinstance(value, classes):
            raise expected(name, value)
        depth = deeper(depth)
        return each_of(value, lambda one: item.write(one, depth))

    def read(plain: Any) -> Any:
        if not isinstance(plain, list):
            raise expected(f"a list for {name}", plain)
        try:
            return make(each_of(plain, item.read))
        except TypeError as error:  # items that cannot be in a set
            raise Unfit(str(error)) from None

    return Shape(name, write, read, lambda value: isinstance(value, classes), frozenset({LIST}))


def _fixed_tuple(annotation: Any, items: list[Shape]) -> Shape:
    name = _name(annotation)

    def fitting(values: Any) -> Iterable[Any]:
        if len(values) != len(items):
            raise Unfit(f"expected {len(items)} items for {name}, not {len(values)}")
        return zip(items, values, strict=True)

    def write(value: Any, depth: int) -> list[Any]:
        if not isinstance(value, tuple):
            raise expected(name, value)
        depth = deeper(depth)
        return each_of(fitting(value), lambda pair: pair[0].write(pair[1], depth))

    def read(plain: Any) -> tuple[Any, ...]:
        if not isinstance(plain, list):
            raise expected(f"a list for {name}", plain)
        return tuple(each_of(fitting(plain), lambda pair: pair[0].read(pair[1])))

    def accepts(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == len(items)

    return Shape(name, write, read, accepts, frozenset({LIST}))


def _mapping(annotation: Any, of_key: Any, of_value: Any) -> Shape:
    name, key, item = _name(annotation), shape_of(of_key), shape_of(of_value)
    whole = key.kinds == {WHOLE}  # JSON's keys are texts
    if key is not ANYTHING and key.kinds != {TEXT} and not whole:
        raise Unfit(f"the keys of {name} are neither texts nor whole numbers")
    if key is ANYTHING:
        key = PLAIN[str]

    def write(value: Any, depth: int) -> dict[str, Any]:
        if not isinstance(value, abc.Mapping):
            raise expected(name, value)
        depth = deeper(depth)
        done: dict[str, Any] = {}
        for one, content in value.items():
            try:
                done[str(key.write(one, depth))] = item.write(content, depth)
            except Unfit as unfit:
                raise unfit.within(f"[{one!r}]") from None
        return done

    def read(plain: Any) -> dict[Any, Any]:
        if not isinstance(plain, dict):
            raise expected(f"an object for {name}", plain)
        done: dict[Any, Any] = {}
        for one, content in plain.items():
            try:
                done[key.read(_whole(one) if whole else one)] = item.read(content)
            except Unfit as unfit:
                raise unfit.within(f"[{one!r}]") from None
        return done

    kinds = frozenset({OBJECT})
    return Shape(name, write, read, lambda value: isinstance(value, abc.Mapping), kinds)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Unfit(f"the key {text!r} is not a whole number", ValueError) from None


def _name(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__qualname__
    return repr(annotation).removeprefix("typing.").replace("collections.abc.", "")


# --- unions


def _union(annotation: Any) -> Shape:
    """Return the shape of a union.

    Where the kinds of JSON value tell its members apart, values are written as they are; else as a
    list of the member's name and the value, or `UUID | str` would make a UUID of some texts.
    """
    members = [shape_of(arg) for arg in get_args(annotation)]
    if ANYTHING in members:
        return ANYTHING
    # The members that take subclasses come last: an IntEnum is an int as well. And float, which
    # takes whole numbers, too (PEP 484), comes after int.
    plain = list(PLAIN.values())
    members.sort(key=lambda member: (member in plain, member is PLAIN[float]))
    seen: set[str] = set()
    distinct = True
    for member in members:
        distinct = distinct and not seen & member.kinds
        seen |= member.kinds
    names, nothing = {member.name: member for member in members}, PLAIN[type(None)]
    if not distinct and len(names) < len(members):
        raise Unfit(f"two types of {_name(annotation)} have the same name")

    def of_value(value: Any) -> Shape:
        for member in members:
            if member.accepts(value):
                return member
        raise expected(_name(annotation), value)

    def write(value: Any, depth: int) -> Any:
        member = of_value(value)
        if distinct or member is nothing:
            return member.write(value, depth)
        return [member.name, member.write(value, deeper(depth))]

    def read(plain: Any) -> Any:
        if plain is None and nothing in members:
            return None
        if distinct:
            kinds = (kind_of(plain), NUMBER) if type(plain) is int else (kind_of(plain),)
            for kind in kinds:
                for member in members:
                    if kind in member.kinds:
                        return member.read(plain)
        elif isinstance(plain, list) and len(plain) == 2:
            tag, content = plain
            if isinstance(tag, str) and tag in names:
                return names[tag].read(content)
        raise expected(_name(annotation), plain)

    def accepts(value: Any) -> bool:
        return any(member.accepts(value) for member in members)

    kinds = frozenset(seen) if distinct else frozenset({LIST, NULL})
    return Shape(_name(annotation), write, read, accepts, kinds)


def _literal(annotation: Any) -> Shape:
    values = get_args(annotation)
    if not all(value is None or type(value) in (str, int, bool) for value in values):
        raise Unfit(f"the annotation {annotation!r} has values that are not JSON's")

    def accepts(value: Any) -> bool:
        return any(type(value) is type(one) and value == one for one in values)

    def same(value: Any, _depth: int = 0) -> Any:
        if not accepts(value):
            raise Unfit(f"expected {_name(annotation)}, not {described(value)}", ValueError)
        return value

    return Shape(_name(annotation), same, same, accepts, frozenset(map(kind_of, values)))


# --- classes with fields


def _hints(cls: type) -> dict[str, Shape]:
    """Return the shapes of a class's fields."""
    try:
        hints = typing.get_type_hints(cls)
    except Exception as error:  # a name that is not there, or anything that an annotation does
        raise Unfit(f"the annotations of {cls.__qualname__} cannot be read: {error}") from None
    found: dict[str, Shape] = {}
    for name, hint in hints.items():
        try:
            found[name] = shape_of(hint)
        except Unfit as unfit:
            raise unfit.within(f".{name}") from None
    return found


class _Hints:
    """The shapes of a class's fields, made at the first use: a class may contain itself."""

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._found: dict[str, Shape] | None = None

    def get(self) -> dict[str, Shape]:
        if self._found is None:
            self._found = _hints(self._cls)
        return self._found


def _write_field(shape: Shape, value: Any, depth: int, step: str) -> Any:
    try:
        return shape.write(value, depth)
    except Unfit as unfit:
        raise unfit.within(step) from None


def _read_field(shape: Shape, plain: Any, step: str) -> Any:
    try:
        return shape.read(plain)
    except Unfit as unfit:
        raise unfit.within(step) from None


def _fields(cls: Any, names: Callable[[], typing.Sequence[str]]) -> Shape:
    """Return the shape of a dataclass or a NamedTuple: an object of its fields."""
    hints = _Hints(cls)

    def write(value: Any, depth: int) -> dict[str, Any]:
        if type(value) is not cls:  # a subclass would come back without what it adds
            raise expected(cls.__qualname__, value)
        depth, shapes = deeper(depth), hints.get()
        return {
            name: _write_field(shapes.get(name, ANYTHING), getattr(value, name), depth, f".{name}")
            for name in names()
        }

    def read(plain: Any) -> Any:
        if not isinstance(plain, dict):
            raise expected(f"an object for {cls.__qualname__}", plain)
        shapes = hints.get()
        if unknown := plain.keys() - set(names()):
            raise Unfit(f"{cls.__qualname__} has no field {min(unknown)!r}", ValueError)
        values = {
            name: _read_field(shapes.get(name, ANYTHING), content, f".{name}")
            for name, content in plain.items()
        }
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:  # a field is missing, or __post_init__ refuses
            raise Unfit(str(error), ValueError) from None

    kinds = frozenset({OBJECT})
    return Shape(cls.__qualname__, write, read, lambda value: type(value) is cls, kinds)


def _typed_dict(cls: Any) -> Shape:
    hints, required = _Hints(cls), cls.__required_keys__

    def checked(value: Any) -> dict[str, Shape]:
        if not isinstance(value, dict):
            raise expected(cls.__qualname__, value)
        shapes = hints.get()
        if missing := required - value.keys():
            raise Unfit(f"the key {min(missing)!r} of {cls.__qualname__} is missing", ValueError)
        if unknown := [key for key in value if key not in shapes]:
            raise Unfit(f"{cls.__qualname__} has no key {unknown[0]!r}", ValueError)
        return shapes

    def write(value: Any, depth: int) -> dict[str, Any]:
        shapes, depth = checked(value), deeper(depth)
        return {k: _write_field(shapes[k], v, depth, f"[{k!r}]") for k, v in value.items()}

    def read(plain: Any) -> dict[str, Any]:
        shapes = checked(plain)
        return {k: _read_field(shapes[k], v, f"[{k!r}]") for k, v in plain.items()}

    def accepts(value: Any) -> bool:
        return isinstance(value, dict) and required <= value.keys() <= hints.get().keys()

    return Shape(cls.__qualname__, write, read, accepts, frozenset({OBJECT}))


# --- models of libraries, which are loaded where one of their classes is met


def _pydantic(cls: Any) -> Shape:
    def write(value: Any, depth: int) -> Any:
        if type(value) is not cls:
            raise expected(cls.__qualname__, value)
        plain = value.model_dump(mode="json", by_alias=True, round_trip=True)
        return write_json(plain, depth)

    def read(plain: Any) -> Any:
        # From JSON rather than from the values: its strict mode then takes texts for dates.
        try:
            return cls.model_validate_json(dump_json(plain))
        except ValueError as error:
            raise Unfit(str(error), ValueError) from None

    is_root = getattr(cls, "__pydantic_root_model__", False)  # any JSON value, not an object
    kinds = EVERY_KIND if is_root else frozenset({OBJECT})
    return Shape(cls.__qualname__, write, read, lambda value: type(value) is cls, kinds)


def _msgspec(cls: Any) -> Shape:
    msgspec = sys.modules["msgspec"]

    def write(value: Any, depth: int) -> Any:
        if type(value) is not cls:
            raise expected(cls.__qualname__, value)
        try:
            return write_json(json.loads(msgspec.json.encode(value)), depth)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise Unfit(str(error)) from None

    def read(plain: Any) -> Any:
        try:
            return msgspec.json.decode(dump_json(plain), type=cls)
        except ValueError as error:  # its ValidationError is one
            raise Unfit(str(error), ValueError) from None

    kinds = frozenset({LIST if cls.__struct_config__.array_like else OBJECT})
    return Shape(cls.__qualname__, write, read, lambda value: type(value) is cls, kinds)
