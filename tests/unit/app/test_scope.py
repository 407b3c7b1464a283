"""What log records say of a request."""

from typing import Any

import pytest

from clusterd.app.scope import REQUEST_ID, describe


def about(**scope: Any) -> dict[str, Any]:
    fields: dict[str, Any] = describe(scope)["fields"]
    return fields


SENT = (REQUEST_ID, b"abc-1")


@pytest.mark.parametrize(
    ("headers", "state", "wanted"),
    [
        ([SENT], None, "abc-1"),
        ([SENT], {"request_id": "other"}, "abc-1"),
        ([], {"request_id": "of-a-middleware"}, "of-a-middleware"),
        ([(REQUEST_ID, b"a b\n")], {"request_id": "of-a-middleware"}, "of-a-middleware"),
    ],
)
def test_the_id_of_a_request_is_the_one_that_its_application_sees(
    headers: list[tuple[bytes, bytes]], state: Any, wanted: str
) -> None:
    whole = {"method": "GET", "path": "/a", "headers": headers, "state": state}
    assert about(**whole) == {"method": "GET", "path": "/a", "request_id": wanted}


@pytest.mark.parametrize("state", [None, {}, {"request_id": "a b"}, {"request_id": 7.5}, 9])
def test_a_request_without_an_id_gets_one_that_stays_the_same(state: Any) -> None:
    headers = [(b"host", b"x"), (REQUEST_ID, b"not sane")]
    first, again = (about(headers=headers, state=state) for _ in range(2))
    assert first == again
    assert len(first["request_id"]) == (3 if state == {"request_id": 7.5} else 24)
    assert dict(headers)[REQUEST_ID] == first["request_id"].encode(), "the application sees it, too"
    assert about(headers=[])["request_id"] != first["request_id"]


@pytest.mark.parametrize("headers", [None, 3, [1, 2]])
def test_a_scope_that_the_application_has_spoiled_has_no_id(headers: Any) -> None:
    assert about(path="/a", headers=headers) == {"path": "/a"}


def test_headers_that_the_application_has_made_a_tuple_give_an_id_nevertheless() -> None:
    assert about(headers=())["request_id"]
