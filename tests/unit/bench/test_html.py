"""The page: complete, in an order that tells doubts first, and safe with whatever it is given."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from clusterd.bench import html
from clusterd.bench.interval import RESET
from clusterd.bench.load import Request
from clusterd.bench.results import Turn
from tests.support import reports

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=y>&amp;\udcff"


class Read(HTMLParser):
    """Tags, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        """All of it."""
        return " ".join(" ".join(self.words).split())


class Square:
    """A picture that took no time to draw."""

    title, text = "A <square>", "It has four & sides"

    def inline(self) -> str:
        """SVG."""
        return '<svg viewBox="0 0 1 1"><rect/></svg>'


def test_the_answer_comes_first_then_doubts_then_figures_then_pictures() -> None:
    page = html.page(reports.doubtful(), {"latency": Square()})
    order = ["<h1>4", "Before you believe it", "too few rounds", "Answers a second", "<svg"]
    order += ["Every turn", "How it was measured"]
    lowered = page.replace("Too few", "too few")
    places = [lowered.index(one) for one in order]
    assert places == sorted(places)
    assert "interrupted" in page[: places[3]]


def test_a_side_keeps_its_name_at_the_start_of_a_doubt() -> None:
    report = reports.crowded()
    report.turns[2].doubts.append("it was too short")
    assert "<li>gunicorn: it was too short" in html.page(report, {})


def test_no_doubts_are_said_to_be_none() -> None:
    page = html.page(reports.report(), {})
    assert "Nothing raises a doubt" in page
    assert "apart from the server" in page
    turns = [reports.turn(reports.ONE)]
    turns[0].generator = replace(turns[0].generator, cpus=())
    assert "apart from the server" not in html.page(reports.report((reports.ONE,), 1, turns), {})


def test_pictures_say_what_they_show_to_those_who_do_not_see_them() -> None:
    tags = Read(html.page(reports.report(), {"latency": Square()})).tags
    (svg,) = [attributes for tag, attributes in tags if tag == "svg"]
    assert svg["role"] == "img"
    named = (svg["aria-labelledby"] or "").split()
    assert {"title", "desc"} == {tag for tag, attributes in tags if attributes.get("id") in named}
    headers = [attributes for tag, attributes in tags if tag == "th"]
    assert all(attributes.get("scope") for attributes in headers)
    assert [attributes.get("lang") for tag, attributes in tags if tag == "html"] == ["en"]


def test_what_comes_from_outside_stays_text() -> None:
    report = reports.chaos()
    report.target = EVIL
    report.notes.append(EVIL)
    report.machine = report.versions = report.settings = {EVIL: EVIL}
    report.requests = (Request(EVIL, EVIL, ((EVIL, EVIL),), b"body", 2.0),)
    for turn in report.turns:
        turn.errors[EVIL] = 3
        turn.texts = {EVIL: EVIL, RESET: EVIL}
        turn.side = EVIL + turn.side
        turn.events[0].text = turn.events[0].kind = EVIL
        turn.doubts.append(EVIL)
        turn.load = replace(turn.load, requests=report.requests)
    for side in report.sides:
        side.name, side.command = EVIL + side.name, EVIL
    page = html.page(report, {"latency": Square()})
    page.encode()
    read = Read(page)
    assert {tag for tag, _ in read.tags} <= {
        "html", "head", "meta", "link", "title", "style", "body", "main", "p", "b", "code", "span",
        "h1", "h2", "h3", "aside", "ul", "li", "section", "div", "table", "thead", "tbody", "tr",
        "th", "td", "small", "figure", "svg", "desc", "rect", "figcaption", "details", "summary",
        "dl", "dt", "dd", "footer",
    }  # fmt: skip
    assert not [name for _, attributes in read.tags for name in attributes if name[:2] == "on"]
    assert read.text.count("<script>alert(1)</script>") > 20


def test_nothing_is_asked_of_any_network() -> None:
    page = html.page(reports.report(), {"latency": Square()})
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none';")
    assert "script" not in policy
    for tag, attributes in Read(page).tags:
        assert "src" not in attributes
        assert attributes.get("href") in (None, "data:,"), tag
    assert not re.search(r"url\(|@import", page)


def test_every_error_is_there_with_when_and_what_it_said() -> None:
    report = reports.chaos()
    report.turns[0].texts["reset"] = "Connection reset by peer"
    text = Read(html.page(report, {})).text
    assert "1 worker 1 reset 21 2 – 4.25 s Connection reset by peer" in text
    assert "4 workers 2 status 503 40 7 – 7.25 s" in text
    assert "Errors Side Round" not in Read(html.page(reports.report(), {})).text


def test_what_happened_to_the_server_is_there_with_its_words() -> None:
    text = Read(html.page(reports.chaos(), {})).text
    assert "4 workers 2 7.00 s broken deploy the import raises" in text
    assert "Events Side" not in Read(html.page(reports.report(), {})).text


def test_it_tells_how_to_do_it_again() -> None:
    report = reports.report()
    report.requests = (Request("/a?b=1", "POST", (("X-Key", "v"),), b"12345", 3.0),)
    text = Read(html.page(report, {})).text
    for part in (
        "POST /a?b=1", "X-Key: v", "5 B", "clusterd run module:app", "Example 9 4-Core", "uvloop",
        "0.21.0", "connections", "Closed loop", "clusterd bench compare",
    ):  # fmt: skip
        assert part in text
    assert "Open loop: requests are due" in Read(html.page(reports.chaos(), {})).text


@pytest.mark.parametrize("turns", [[], [reports.turn()]])
def test_a_run_that_hardly_began_has_a_page(turns: list[Turn]) -> None:
    for turn in turns:
        turn.requests, turn.moments, turn.partial = 0, [], True
        turn.latency = type(turn.latency)()
    assert "Nothing was answered." in html.page(reports.report((reports.ONE,), 1, turns), {})


def test_many_sides_are_marked_for_narrow_columns() -> None:
    three = reports.report((reports.ONE, reports.ALL, reports.OTHERS[0]))
    for report in (reports.crowded(), three):
        assert "<table class=many>" in html.page(report, {})
    assert "<table class=many>" not in html.page(reports.report(), {})


def test_a_page_carries_no_control_characters() -> None:
    assert html.escaped("\x1b[31mred\x00\nnext") == "\\x1b[31mred\\x00\nnext"
