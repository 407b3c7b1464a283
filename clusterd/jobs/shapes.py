"""From values to what JSON can carry and back, by type annotations.

`shape_of(annotation)` returns the two functions for it. They are made once, at the first use, since
an annotation may name what is defined later. A value that does not fit its annotation raises Unfit.
One of a subclass of str, int, float or tuple, or another Sequence than a list, becomes its base.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

MOST_DEPTH = 100  # of nested lists and objects; the JSON parser itself gives up at about 1,000

# What JSON values are called, as annotations see them.
TEXT, WHOLE, NUMBER, TRUTH, NULL = "text", "whole number", "number", "truth", "null"
LIST, OBJECT = "list", "object"
EVERY_KIND = frozenset({TEXT, WHOLE, NUMBER, TRUTH, NULL, LIST, OBJECT})


class Unfit(Exception):
    """A value does not fit its annotation. `path` leads to it from the argument."""

    def __init__(self, reason: str, error: type[Exception] = TypeError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error  # what the caller is to raise
        self.path: list[str] = []

    def within(self, step: str) -> "Unfit":
        """Return itself, with a step before the path."""
        self.path.insert(0, step)
        return self

    def raised(self, what: str) -> Exception:
        """Return the TypeError or ValueError for the caller, which names the argument."""
        return self.error(f"{what}{''.join(self.path)}: {self.reason}")


@dataclass(frozen=True, slots=True)
class Shape:
    """How values of one annotation are written to JSON's own types, and read."""

    name: str
    write: Callable[[Any, int], Any]  # value, levels of nesting that are left
    read: Callable[[Any], Any]
    accepts: Callable[[Any], bool]  # whether a value is of this annotation: chooses in a union
    kinds: frozenset[str] = EVERY_KIND  # of JSON values that it writes


def kind_of(plain: Any) -> str:
    """Return the kind of a JSON value."""
    if plain is None:
        return NULL
    if isinstance(plain, bool):
        return TRUTH
    if isinstance(plain, str):
        return TEXT
    if isinstance(plain, (int, float)):
        return WHOLE if isinstance(plain, int) else NUMBER
    return LIST if isinstance(plain, list) else OBJECT


def described(value: Any) -> str:
    """Return a value's type and its beginning, for an error."""
    try:
        text = repr(value)
    except Exception:
        text = "?"
    return f"{type(value).__qualname__} {text if len(text) <= 60 else text[:59] + '…'}"


def expected(name: str, value: Any) -> Unfit:
    """Return the error for a value of another type."""
    return Unfit(f"expected {name}, not {described(value)}")


def deeper(depth: int) -> int:
    """Return the levels that are left one level down. Raises Unfit for none."""
    if depth <= 0:
        raise Unfit(f"it is nested more than {MOST_DEPTH} levels deep", ValueError)
    return depth - 1


# --- JSON itself


def dump_json(plain: Any) -> bytes:
    """Return JSON as bytes. Raises Unfit for a number or a text that JSON has no form for."""
    try:
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except UnicodeEncodeError:
        raise Unfit("it has half of a surrogate pair, which is not text", ValueError) from None
    except ValueError as error:  # an integer of more than 4,300 digits
        raise Unfit(str(error), ValueError) from None


def write_json(value: Any, depth: int = MOST_DEPTH) -> Any:
    """Return a value that is of JSON's types already. Raises Unfit for any other.

    A tuple would come back as a list and a key 1 as "1": those need an annotation.
    """
    kind = type(value)
    if value is None or kind in (str, int, bool):
        return value
    if kind is float:
        return finite(value)
    if kind is list:
        depth = deeper(depth)
        return each_of(value, lambda item: write_json(item, depth))
    if kind is dict:
        depth = deeper(depth)
        return {_text_key(key): _at_key(key, item, depth) for key, item in value.items()}
    raise Unfit(
        f"{described(value)} is not of JSON's types (text, number, bool, None, list, dict with "
        "text keys): annotate it with its type"
    )


def _text_key(key: Any) -> str:
    if type(key) is not str:
        raise Unfit(f"the key {described(key)} is not a text: annotate it with its type")
    return key


def _at_key(key: str, item: Any, depth: int) -> Any:
    try:
        return write_json(item, depth)
    except Unfit as unfit:
        raise unfit.within(f"[{key!r}]") from None


def each_of(items: Iterable[Any], convert: Callable[[Any], Any]) -> list[Any]:
    """Convert each item; an error names the item."""
    done: list[Any] = []
    try:
        for item in items:
            done.append(convert(item))
    except Unfit as unfit:
        raise unfit.within(f"[{len(done)}]") from None
    return done


def finite(value: float) -> float:
    """Return a number that JSON can carry. Raises Unfit for NaN and infinities."""
    if not math.isfinite(value):
        raise Unfit(f"{value} is not a number that JSON can carry", ValueError)
    return value


def _same(value: Any) -> Any:
    return value


ANYTHING = Shape("a JSON value", write_json, _same, lambda _value: True)


def plain_shape(name: str, types: tuple[type, ...], base: Callable[[Any], Any], kind: str) -> Shape:
    """Return the shape of str, int, float, bool or None: JSON has it as it is."""

    def write(value: Any, _depth: int) -> Any:
        if not accepts(value):
            raise expected(name, value)
        return base(value)

    def accepts(value: Any) -> bool:
        return isinstance(value, types) and not (isinstance(value, bool) and bool not in types)

    def read(plain: Any) -> Any:
        if not accepts(plain):
            raise expected(name, plain)
        return base(plain)

    return Shape(name, write, read, accepts, frozenset({kind}))


def _float(value: Any) -> float:
    try:
        return finite(float(value))
    except OverflowError:
        raise Unfit(f"{described(value)} is too large for a float", ValueError) from None


# Subclasses are written as their base: a text that Django marks as safe is a text.
PLAIN: dict[Any, Shape] = {
    str: plain_shape("str", (str,), str.__str__, TEXT),
    int: plain_shape("int", (int,), int.__int__, WHOLE),
    float: plain_shape("float", (float, int), _float, NUMBER),
    bool: plain_shape("bool", (bool,), _same, TRUTH),
    type(None): plain_shape("None", (type(None),), _same, NULL),
}


def text_shape(
    cls: type, write: Callable[[Any], str], read: Callable[[str], Any], exact: bool = False
) -> Shape:
    """Return the shape of a type that is written as a text. `exact`: subclasses are refused."""
    name = cls.__qualname__

    def accepts(value: Any) -> bool:
        return type(value) is cls if exact else isinstance(value, cls)

    def to_text(value: Any, _depth: int) -> str:
        if not accepts(value):
            raise expected(name, value)
        return write(value)

    def from_text(plain: Any) -> Any:
        if not isinstance(plain, str):
            raise expected(f"a text for {name}", plain)
        try:
            return read(plain)
        except (ValueError, ArithmeticError) as error:  # decimal's InvalidOperation is the second
            reason = f"{plain!r} is not a valid {name}"
            raise Unfit(f"{reason}: {error}" if str(error) else reason, ValueError) from None

    return Shape(name, to_text, from_text, accepts, frozenset({TEXT}))


def enum_shape(cls: type[Enum]) -> Shape:
    """Return the shape of an enumeration: by value if those are texts or numbers, else by name."""
    by_value = all(type(member.value) in (str, int) for member in cls)

    def write(value: Any, _depth: int) -> Any:
        if not isinstance(value, cls):
            raise expected(cls.__qualname__, value)
        return value.value if by_value else value.name

    def read(plain: Any) -> Any:
        try:
            return cls(plain) if by_value else cls[plain]
        except (ValueError, KeyError, TypeError):
            raise Unfit(f"{plain!r} is not a valid {cls.__qualname__}", ValueError) from None

    kinds = frozenset({kind_of(member.value) for member in cls}) if by_value else frozenset({TEXT})
    return Shape(cls.__qualname__, write, read, lambda value: isinstance(value, cls), kinds)
