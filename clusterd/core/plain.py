"""Dataclasses to and from what JSON can carry, by their type hints: no field is named twice.

A descriptor is a number that means something only to the process that has it open; so those that
are written are collected, and each that is read goes through `Reader.take`.
"""

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from clusterd.core.errors import ClusterdError

_DESCRIPTOR = "a file descriptor"
Descriptor = Annotated[int, _DESCRIPTOR]  # the type of a field; below zero there is none

BYTES = "latin-1"  # carries any byte through JSON
SCALARS = (str, int, float, bool, types.NoneType)
SEQUENCES: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
}
BUFFERS = (bytes, bytearray)

# What is left behind of a class: fields that `Reader` is told, since they cannot be carried.
Fields = Mapping[type, Mapping[str, Any]]
# How a class that is no dataclass is carried: to what JSON has, and back.
Write = Callable[["Writer", Any], Any]
Read = Callable[["Reader", Any], Any]


class Unfit(ClusterdError):
    """What was to be read is not what this version understands; or cannot be written at all."""


class Hints:
    """The types of the fields of a class, looked up once. `names`: of hints that are text."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = dict(names)
        self._found: dict[type, dict[str, Any]] = {}

    def of(self, cls: type) -> dict[str, Any]:
        """Field by field, in their order."""
        if cls not in self._found:
            hints = typing.get_type_hints(cls, localns=self._names, include_extras=True)
            self._found[cls] = {one.name: hints[one.name] for one in dataclasses.fields(cls)}
        return self._found[cls]


def _arms(hint: Any) -> list[Any] | None:
    """The alternatives of a union, or None where it is none."""
    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else None


def _is_descriptor(hint: Any) -> bool:
    return get_origin(hint) is Annotated and _DESCRIPTOR in hint.__metadata__


@dataclasses.dataclass(slots=True)
class Writer:
    """From dataclasses to JSON's own types. `descriptors` are those that were met."""

    hints: Hints
    left: Fields
    special: Mapping[type, Write]
    descriptors: list[int] = dataclasses.field(default_factory=list)

    def descriptor(self, number: int) -> int:
        """Note that this one is to be carried."""
        if number >= 0 and number not in self.descriptors:
            self.descriptors.append(number)
        return number

    def write(self, hint: Any, value: Any, where: str = "") -> Any:
        """The value as JSON has it; raises Unfit for what has no such form."""
        if _is_descriptor(hint):
            return self.descriptor(value)
        if hint in (Any, object) or hint in SCALARS:
            return value
        if (arms := _arms(hint)) is not None:
            if value is None or all(arm in SCALARS for arm in arms):
                return value
            return self.write(_only(arms, hint, where), value, where)
        if hint in self.special:
            return self.special[hint](self, value)
        if get_origin(hint) is dict:
            return self._dict(get_args(hint), value, where)
        if get_origin(hint) in SEQUENCES:
            if get_origin(hint) in (set, frozenset):
                value = sorted(value, key=repr)  # the same set is always written alike
            return [
                self.write(each, one, where)
                for each, one in zip(_items(hint, len(value)), value, strict=True)
            ]
        if hint in BUFFERS:
            return bytes(value).decode(BYTES)
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return value.value
        if dataclasses.is_dataclass(hint):
            return self._fields(hint, value)
        raise Unfit(f"{where}: {hint} cannot be carried")

    def _fields(self, cls: Any, value: Any) -> dict[str, Any]:
        left = self.left.get(cls, {})
        return {
            name: self.write(hint, getattr(value, name), f"{cls.__name__}.{name}")
            for name, hint in self.hints.of(cls).items()
            if name not in left
        }

    def _dict(self, hints: tuple[Any, Any], value: dict[Any, Any], where: str) -> Any:
        of_key, of_value = hints
        pairs = [(self.write(of_key, k), self.write(of_value, v, where)) for k, v in value.items()]
        return dict(pairs) if of_key is str else pairs


@dataclasses.dataclass(slots=True)
class Reader:
    """The inverse. What is missing takes its default; what is not known is refused."""

    hints: Hints
    left: Fields
    special: Mapping[type, Read]
    take: Callable[[int], int] = lambda number: number
    taken: dict[int, Any] = dataclasses.field(default_factory=dict)  # what holds a descriptor

    def descriptor(self, number: int) -> int:
        """Ours from now on."""
        if not isinstance(number, int):
            raise Unfit(f"{number!r} is no descriptor")
        return self.take(number) if number >= 0 else number

    def once(self, hold: Callable[[int], Any], plain: Any) -> Any:
        """What holds a descriptor that several share, and closes it with the last of them."""
        if plain not in self.taken:
            self.taken[plain] = hold(self.descriptor(plain))
        return self.taken[plain]

    def read(self, hint: Any, plain: Any, where: str = "") -> Any:
        """The value that was written; raises Unfit where it is none of its type."""
        try:
            return self._read(hint, plain, where)
        except (TypeError, ValueError, KeyError, AttributeError, OSError) as error:
            raise Unfit(f"{where}: {type(error).__name__}: {error}") from error

    def _read(self, hint: Any, plain: Any, where: str) -> Any:
        if _is_descriptor(hint):
            return self.descriptor(plain)
        if hint in (Any, object):
            return plain
        if hint in SCALARS:
            return _scalar((hint,), plain, where)
        if (arms := _arms(hint)) is not None:
            if all(arm in SCALARS for arm in arms):
                return _scalar(arms, plain, where)
            return None if plain is None else self.read(_only(arms, hint, where), plain, where)
        if hint in self.special:
            return self.special[hint](self, plain)
        if get_origin(hint) is dict:
            of_key, of_value = get_args(hint)
            pairs = plain.items() if of_key is str else plain
            return {self.read(of_key, k, where): self.read(of_value, v, where) for k, v in pairs}
        if (made := SEQUENCES.get(get_origin(hint))) is not None:
            hints = zip(_items(hint, len(plain)), plain, strict=True)
            return made([self.read(each, one, where) for each, one in hints])
        if hint in BUFFERS:
            return hint(plain.encode(BYTES))
        if dataclasses.is_dataclass(hint):
            return self._object(hint, plain)
        return hint(plain)  # an enum

    def _object(self, cls: Any, plain: dict[str, Any]) -> Any:
        """Field by field and without __init__, which would make what is already there."""
        left, hints, made = self.left.get(cls, {}), self.hints.of(cls), object.__new__(cls)
        unknown = plain.keys() - hints.keys()
        if unknown:
            raise Unfit(f"{cls.__name__}.{min(unknown)} is not known to this version")
        for one in dataclasses.fields(cls):
            where = f"{cls.__name__}.{one.name}"
            if one.name in left:
                value = left[one.name]
            elif one.name in plain:
                value = self.read(hints[one.name], plain[one.name], where)
            elif one.default is not dataclasses.MISSING:
                value = one.default
            elif one.default_factory is not dataclasses.MISSING:
                value = one.default_factory()
            else:
                raise Unfit(f"{where} is wanted by this version, and the old one has none")
            object.__setattr__(made, one.name, value)
        return made


def _only(arms: list[Any], hint: Any, where: str) -> Any:
    """The one arm beside None: JSON would not say which of several it was."""
    rest = [arm for arm in arms if arm is not types.NoneType]
    if len(rest) != 1:
        raise Unfit(f"{where}: {hint} cannot be carried")
    return rest[0]


def _items(hint: Any, count: int) -> list[Any]:
    """The types of a sequence's items."""
    args = get_args(hint)
    if get_origin(hint) is tuple and args[-1:] != (Ellipsis,):
        return list(args)
    return [args[0]] * count


def _scalar(hints: typing.Sequence[Any], plain: Any, where: str) -> Any:
    """As it is, if it is of one of these types; an int will do for a float."""
    fits = float in hints and type(plain) is int
    if not fits and type(plain) not in hints:
        names = " or ".join(hint.__name__ for hint in hints)
        raise Unfit(f"{where} is {plain!r}, and not {names}")
    return plain
