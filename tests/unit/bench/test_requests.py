"""What is asked: paths with their weights, the bytes that are sent, and which one is next."""

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from clusterd.bench.load import SSE, WEBSOCKET, Request
from clusterd.bench.requests import Deck, cards, load_paths, parse_requests, rendered
from clusterd.bench.target import parse_target
from clusterd.core.errors import ConfigError

TARGET = parse_target("http://localhost:8000/own?x=1")
FILE = """\
# of a shop
70              /
20  post        /items          content-type:application/json @item.json

9.5             '/search?q=two words'  "accept: text/html, */*"
.5 DELETE /items/1#now
/plain body='{"a": 1}'
"""


def test_a_file_of_weighted_paths(tmp_path: Path) -> None:
    (tmp_path / "item.json").write_bytes(b"{}")
    assert load_paths(FILE, place=tmp_path) == (
        Request("/", weight=70),
        Request("/items", "POST", (("content-type", "application/json"),), b"{}", 20),
        Request("/search?q=two%20words", headers=(("accept", "text/html, */*"),), weight=9.5),
        Request("/items/1", "DELETE", weight=0.5),
        Request("/plain", "POST", body=b'{"a": 1}'),
    )


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 /", "0 is no weight"),
        ("5", "there is no path"),
        ("5 GET", "there is no path"),
        ("5 GET items", "'items' is no path"),
        ("-1 /", "'-1' is no path"),
        ("/ 'a", "No closing quotation"),
        ("/ novalue", "'novalue' is no header"),
        ("/ bad\tname:x", "no header"),
        ("/ @missing.json", "missing.json cannot be read: No such file"),
        ("/ connection:close", "--fresh"),
        ("/ Transfer-Encoding:chunked", "content-length"),
        ("connect /", "'connect' is no method"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_with_its_number(line: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_paths(f"# a comment\n\n{line}\n", name="shop.paths")
    assert str(caught.value).startswith("shop.paths, line 3: ")


def test_a_file_without_paths_is_refused() -> None:
    with pytest.raises(ConfigError, match="names no path"):
        load_paths("# nothing\n\n", name="empty")


def test_options_make_requests(tmp_path: Path) -> None:
    body, file = tmp_path / "body", tmp_path / "shop.paths"
    body.write_bytes(b"\x00\xff")
    file.write_text("3 / Accept:x @body\n1 /b")
    assert parse_requests(TARGET) == (Request("/own?x=1"),)
    assert parse_requests(TARGET, method="put", body=b"", headers=["A: b", "c:"]) == (
        Request("/own?x=1", "PUT", (("A", "b"), ("c", ""))),
    )
    assert parse_requests(TARGET, body_file=str(body))[0].method == "POST"
    assert parse_requests(TARGET, body="ü".encode(), paths=["/a", "2 PUT /b body=x"]) == (
        Request("/a", "POST", body="ü".encode()),
        Request("/b", "PUT", body=b"x", weight=2),
    )
    headers = ["ACCEPT: y", "z: 1"]
    assert parse_requests(TARGET, paths_file=str(file), headers=headers) == (
        Request("/", "POST", (("z", "1"), ("Accept", "x")), b"\x00\xff", 3),
        Request("/b", headers=(("ACCEPT", "y"), ("z", "1"))),
    )


def test_events_are_asked_for_as_browsers_do() -> None:
    (request,) = parse_requests(TARGET, protocol=SSE)
    assert request.headers == (("Accept", "text/event-stream"),)
    (request,) = parse_requests(TARGET, protocol=SSE, headers=["accept: x"])
    assert request.headers == (("accept", "x"),)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"body": b"a", "body_file": "b"}, "a body is given twice"),
        ({"paths": ["/"], "paths_file": "p"}, "paths are given twice"),
        ({"body": b"a", "paths_file": "p"}, "besides a method or a body"),
        ({"paths_file": "/no/such"}, "/no/such cannot be read: No such file"),
        ({"body_file": "/no/such"}, "/no/such cannot be read: No such file"),
        ({"headers": ["Accept"]}, "'Accept' is no header"),
        ({"headers": ["A: b\r\nC: d"]}, "control characters"),
        ({"headers": ["Content-Length: 3"]}, "cannot be given"),
        ({"method": "GET /"}, "no method"),
        ({"method": "POST", "protocol": WEBSOCKET}, "begins with a GET"),
        ({"body": b"a", "protocol": WEBSOCKET}, "begins with a GET"),
        ({"method": "HEAD", "protocol": SSE}, "no events"),
    ],
)
def test_options_that_make_no_request(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_requests(TARGET, **options)


def test_a_file_of_paths_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="no text"):
        parse_requests(TARGET, paths_file=str(tmp_path / "p"))


def test_a_request_is_as_lean_as_wrk_sends_it() -> None:
    assert rendered(Request("/"), TARGET) == b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n"


def test_a_body_has_its_length_and_what_was_asked_for_is_sent() -> None:
    headers = (("HOST", "other"), ("x", "ü"))
    sent = rendered(Request("/", "PUT", headers, b"body"), TARGET, close=True)
    expected = "PUT / HTTP/1.1\r\nHOST: other\r\nx: ü\r\nContent-Length: 4\r\n"
    assert sent == f"{expected}Connection: close\r\n\r\nbody".encode()
    assert b"Content-Length: 0\r\n" in rendered(Request("/", "POST"), TARGET)
    assert b"Content-Length" not in rendered(Request("/", "DELETE"), TARGET)


def test_shares_are_exact_and_the_order_is_shuffled() -> None:
    requests = [Request(weight=70), Request(weight=20), Request(weight=10)]
    drawn = list(islice(iter(Deck(requests, 1).draw, None), 1000))
    for start in range(0, 1000, 10):
        assert Counter(drawn[start : start + 10]) == {0: 7, 1: 2, 2: 1}
    assert len({tuple(drawn[start : start + 10]) for start in range(0, 1000, 10)}) > 50


def test_the_same_seed_gives_the_same_order_and_another_another() -> None:
    def order(seed: int) -> list[int]:
        return list(islice(iter(Deck([Request()] * 9, seed).draw, None), 90))

    assert order(7) == order(7) != order(8)


def test_one_request_is_always_the_next() -> None:
    draw = Deck([Request(weight=0.3)], 0).draw
    assert [draw() for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ([1], [1]),
        ([0.1, 0.2, 0.7], [1, 2, 7]),
        ([50, 25, 25], [2, 1, 1]),
        ([1e-7, 1.0], [1, 100_000]),
        ([1e8, 1e-3], [100_000, 1]),
    ],
)
def test_a_deck_is_the_smallest_that_is_exact(weights: list[float], counts: list[int]) -> None:
    assert cards(weights) == counts
