"""What parent and generator say to each other comes across."""

import pytest

from clusterd.bench import orders
from clusterd.bench.interval import Interval
from clusterd.bench.load import Load, Request, Target
from clusterd.bench.orders import Connected, Done, Failed, Order, Said
from clusterd.core.plain import Unfit


def test_an_order_comes_across() -> None:
    order = Order(
        target=Target("https", "::1", 8443, "/a?b", verify=False, ca_file="/c"),
        load=Load(
            requests=(
                Request("/x", "POST", (("A", "1"), ("A", "2")), bytes(range(256)), 2.5),
                Request(),
            ),
            connections=3,
            rate=1234.5,
            pipeline=4,
        ),
        cpus=(1, 3),
        seed=7,
        phase=0.25,
    )

    line = order.line()

    assert line.count(b"\n") == 1
    assert Order.read(line) == order


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"target": 5}', b"go 1"])
def test_what_is_no_order_is_refused(line: bytes) -> None:
    with pytest.raises(Unfit):
        Order.read(line)


@pytest.mark.parametrize(
    "what",
    [
        Connected(12),
        Failed("tls", "a sentence\nand another"),
        Done(sent=5, unanswered=1, behind=2, seconds=1.5, texts={"reset": "why"}),
        Interval(3, 2, 99, {"status 503": 1}, {250: 1, 7: 1}, {0: 2}, 1, 64, cpu=0.1, spun=0.05),
    ],
    ids=lambda what: type(what).__name__,
)
def test_what_a_generator_says_comes_across(what: Said) -> None:
    line = orders.say(what)

    assert line.count(b"\n") == 1
    assert orders.said(line) == what


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"Traceback (most recent call last):",
        b'{"connected": "x"}',
        b'{"interval": {}}',
        b'{"interval": {"number": 1, "latency": {"x": 1}, "lag": {}}}',
        b'{"done": {"never": 1}}',
        b"[1]",
    ],
)
def test_what_no_generator_says_is_refused(line: bytes) -> None:
    with pytest.raises(Unfit):
        orders.said(line)


def test_the_word_to_start() -> None:
    assert orders.told(orders.go(123456789)) == 123456789
    assert orders.told(orders.STOP) == 0
    assert orders.told(b"go away\n") == 0
