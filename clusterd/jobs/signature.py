"""The arguments and the result of a job's function, as JSON and back."""

import inspect
import json
import typing
from collections.abc import Callable
from typing import Any

from clusterd.jobs.annotations import shape_of
from clusterd.jobs.records import MOST_PAYLOAD, MOST_RESULT
from clusterd.jobs.shapes import ANYTHING, MOST_DEPTH, Shape, Unfit, dump_json

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature:
    """Binds calls to a function's parameters. Its annotations are read at the first use."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function
        self._signature = inspect.signature(function)
        self._shapes: dict[str, Shape] | None = None

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of each parameter, and of the result under "return".

        Raises TypeError that names the argument whose annotation is not supported.
        """
        if self._shapes is None:
            self._shapes = self._read_annotations()
        return self._shapes

    def _read_annotations(self) -> dict[str, Shape]:
        try:
            hints = typing.get_type_hints(self._function, include_extras=True)
        except Exception as error:  # a name that is not there, or whatever an annotation does
            raise TypeError(f"the annotations of {self._name} cannot be read: {error}") from None
        found: dict[str, Shape] = {}
        for name in (*self._signature.parameters, "return"):
            try:
                found[name] = shape_of(hints[name]) if name in hints else ANYTHING
            except Unfit as unfit:
                raise unfit.raised(self._called(name)) from None
        return found

    def _called(self, name: str) -> str:
        return f"{self._name}: " + ("the result" if name == "return" else f"argument {name!r}")

    # --- arguments

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Return the arguments of a call as a JSON object, by the parameters' names.

        Raises TypeError or ValueError that names the argument that does not fit. Defaults are not
        written: the code that runs the job has its own.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}: {error}") from None
        shapes, parts, size = self.shapes(), [], 1
        for name, value in bound.arguments.items():
            try:
                data = dump_json(self._write(name, shapes[name], value))
                parts.append(dump_json(name) + b":" + data)
            except Unfit as unfit:
                raise unfit.raised(self._called(name)) from None
            except RecursionError:
                raise ValueError(f"{self._called(name)}: it is nested too deeply") from None
            size += len(parts[-1]) + 1  # with its comma or brace
            if size > MOST_PAYLOAD:
                raise ValueError(
                    f"{self._called(name)}: the arguments have more than {MOST_PAYLOAD} bytes as "
                    "JSON: store the data elsewhere and pass its key"
                )
        return b"{" + b",".join(parts) + b"}"

    def _write(self, name: str, shape: Shape, value: Any) -> Any:
        match self._signature.parameters[name].kind:
            case inspect.Parameter.VAR_POSITIONAL:
                return [shape.write(one, MOST_DEPTH) for one in value]
            case inspect.Parameter.VAR_KEYWORD:
                return {key: shape.write(one, MOST_DEPTH) for key, one in value.items()}
        return shape.write(value, MOST_DEPTH)

    def arguments(self, payload: bytes) -> dict[str, Any]:
        """Return the arguments of a call by the parameters' names, without defaults.

        Raises TypeError or ValueError where they do not fit the function as it is now.
        """
        try:
            plain = json.loads(payload or b"{}")
        except RecursionError:
            raise ValueError(f"{self._name}: the arguments are nested too deeply") from None
        if not isinstance(plain, dict):
            raise TypeError(f"{self._name}: the arguments are not a JSON object of names")
        shapes = self.shapes()
        if unknown := plain.keys() - self._signature.parameters.keys():
            raise TypeError(f"{self._name}: there is no argument {min(unknown)!r}")
        return {name: self._read(name, shapes[name], value) for name, value in plain.items()}

    def decode(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a call: those by position, and those by name.

        Raises TypeError or ValueError where they do not fit the function as it is now.
        """
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        values, by_position = self.arguments(payload), True
        for name, parameter in self._signature.parameters.items():
            if name not in values:
                # Those after it are passed by name, so that it takes its default.
                by_position = by_position and parameter.kind in VARIABLE
                continue
            value = values[name]
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    args.extend(value)
                case inspect.Parameter.VAR_KEYWORD:
                    kwargs.update(value)
                case inspect.Parameter.POSITIONAL_ONLY:
                    args.append(value)
                case inspect.Parameter.POSITIONAL_OR_KEYWORD if by_position:
                    args.append(value)
                case _:
                    kwargs[name] = value
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}: {error}") from None
        return args, kwargs

    def _read(self, name: str, shape: Shape, plain: Any) -> Any:
        try:
            match self._signature.parameters[name].kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    return [shape.read(one) for one in plain]
                case inspect.Parameter.VAR_KEYWORD:
                    return {key: shape.read(one) for key, one in plain.items()}
            return shape.read(plain)
        except Unfit as unfit:
            raise unfit.raised(self._called(name)) from None

    # --- the result

    def encode_result(self, value: Any) -> bytes:
        """Return a result as JSON. Raises TypeError or ValueError where it does not fit."""
        try:
            data = dump_json(self.shapes()["return"].write(value, MOST_DEPTH))
        except Unfit as unfit:
            raise unfit.raised(self._called("return")) from None
        except RecursionError:
            raise ValueError(f"{self._called('return')}: it is nested too deeply") from None
        if len(data) > MOST_RESULT:
            raise ValueError(
                f"{self._called('return')} has {len(data)} bytes as JSON, at most {MOST_RESULT} "
                "are kept: store the data elsewhere and return its key"
            )
        return data

    def decode_result(self, data: bytes) -> Any:
        """Return the result that was stored. Raises TypeError or ValueError."""
        try:
            return self.shapes()["return"].read(json.loads(data or b"null"))
        except Unfit as unfit:
            raise unfit.raised(self._called("return")) from None
