"""Calls as JSON: bound to the signature, by name, refused where an argument does not fit."""

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from clusterd.jobs.records import MOST_PAYLOAD, MOST_RESULT
from clusterd.jobs.signature import Signature

if TYPE_CHECKING:
    from decimal import Decimal as Gone

SOME_ID = UUID(int=5)


def every_kind(
    a: int, /, b: UUID, c: str = "c", *rest: UUID, d: int, e: int = 5, **more: UUID
) -> UUID:
    raise NotImplementedError


def defaults(a: int = 1, b: int = 2, /, c: int = 3, d: int = 4) -> None: ...


def unannotated(x, y=None):  # type: ignore[no-untyped-def]
    raise NotImplementedError


def lost(x: "Gone") -> None: ...


def unsupported(fine: int, handler: complex) -> None: ...


def called(function: Any, *args: Any, **kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    signature = Signature("shop.job", function)
    return signature.decode(signature.encode(args, kwargs))


def test_a_call_comes_back_with_its_arguments() -> None:
    args, kwargs = called(every_kind, 1, SOME_ID, "x", SOME_ID, SOME_ID, d=4, z=SOME_ID)
    assert args == [1, SOME_ID, "x", SOME_ID, SOME_ID]
    assert kwargs == {"d": 4, "z": SOME_ID}
    args, kwargs = called(every_kind, 1, b=SOME_ID, d=4)
    assert (args, kwargs) == ([1, SOME_ID], {"d": 4})
    assert called(defaults, d=7) == ([], {"d": 7})
    assert called(defaults, 5, d=7) == ([5], {"d": 7})
    assert called(unannotated, {"a": [1]}) == ([{"a": [1]}], {})


def test_arguments_are_stored_by_name_without_defaults() -> None:
    """So code that has another default, or another order, runs what was enqueued before."""
    data = Signature("shop.job", every_kind).encode((1, SOME_ID), {"d": 4})
    assert json.loads(data) == {"a": 1, "b": str(SOME_ID), "d": 4}


@pytest.mark.parametrize(
    ("function", "args", "error", "says"),
    [
        (every_kind, (), TypeError, "shop.job: missing a required argument: 'a'"),
        (defaults, (1, 2, 3, 4, 5), TypeError, "shop.job: too many positional arguments"),
        (defaults, ("1",), TypeError, "shop.job: argument 'a': expected int, not str '1'"),
        (every_kind, (1, SOME_ID, "x", 5), TypeError, "argument 'rest'"),
        (unannotated, ([1, {2}],), TypeError, "argument 'x'[1]: set {2} is not of JSON's types"),
        (unannotated, (float("inf"),), ValueError, "argument 'x': inf"),
        (unannotated, (10**5000,), ValueError, "argument 'x'"),
        (unannotated, ("x" * MOST_PAYLOAD,), ValueError, "argument 'x': the arguments have more"),
        (lost, (1,), TypeError, "annotations of shop.job cannot be read: name 'Gone'"),
        (unsupported, (1, 1j), TypeError, "argument 'handler': the type complex is not supported"),
    ],
)
def test_what_does_not_fit_is_refused_at_the_enqueue(
    function: Any, args: tuple[Any, ...], error: type[Exception], says: str
) -> None:
    kwargs = {"d": 1} if function is every_kind and args else {}
    with pytest.raises(error) as caught:
        Signature("shop.job", function).encode(args, kwargs)
    assert says in str(caught.value)


def test_a_payload_of_the_largest_size_is_taken() -> None:
    room = MOST_PAYLOAD - len('{"x":""}')
    assert len(Signature("j", unannotated).encode(("x" * room,), {})) == MOST_PAYLOAD


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (b"[1]", "not a JSON object"),
        (b'{"a": 1, "gone": 2}', "there is no argument 'gone'"),
        (b'{"a": "x"}', "argument 'a': expected int"),
    ],
)
def test_a_payload_that_does_not_fit_the_function_is_refused(payload: bytes, says: str) -> None:
    with pytest.raises(TypeError) as caught:
        Signature("j", defaults).decode(payload)
    assert says in str(caught.value)


@pytest.mark.parametrize("payload", [b"{", b"\xff", b'{"a":' + b"[" * 100_000])
def test_a_payload_that_is_not_json_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(Expecting|.* codec|j: the arguments)"):
        Signature("j", unannotated).decode(payload)


def test_a_payload_without_an_argument_that_has_no_default_is_refused() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        Signature("j", unannotated).decode(b'{"y": 1}')


def test_a_result_comes_back_by_the_return_annotation() -> None:
    signature = Signature("j", every_kind)
    assert signature.decode_result(signature.encode_result(SOME_ID)) == SOME_ID
    plain = Signature("j", unannotated)
    assert plain.decode_result(plain.encode_result([1, None])) == [1, None]
    assert plain.decode_result(b"") is None
    with pytest.raises(TypeError, match="j: the result: expected UUID, not int 5"):
        signature.encode_result(5)
    with pytest.raises(ValueError, match=f"at most {MOST_RESULT} are kept"):
        plain.encode_result("x" * MOST_RESULT)
