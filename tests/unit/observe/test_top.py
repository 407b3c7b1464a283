"""The page of `clusterd top`, and what keys do to it."""

from typing import Any

import pytest

from clusterd.observe.keys import HELP, SORTS, Order, View, press
from clusterd.observe.snapshot import Snapshot
from clusterd.observe.top import (
    Page,
    Style,
    columns,
    draw,
    plain,
    rows,
    short_bytes,
    short_time,
)
from tests.unit.observe.shots import GROUPS, latency, shot, worker

LARGE = {"pid": 4194303, "generation": 1000, "phase": "draining", "connections": 10**5,
         "in_flight": 10**4, "requests": 10**9, "uptime": 10**6, "restarts": 1000,
         "loop_lag": 500.0, "group": "a-group-with-a-long-name"}  # fmt: skip

FRESH = View()


def page(*workers: dict[str, Any], **more: Any) -> Page:
    """A page of a cluster that was looked at twice."""
    old = shot(*workers, **more)
    grown = [
        {**one, "requests": one["requests"] + 300, "latency": latency(b11=300), "cpu": 7.0}
        for one in workers
    ]
    new = shot(*grown, uptime=103.0, **more)
    return Page((old, new), {one["pid"]: 48 * 2**20 for one in workers})


def text(lines: list[Any]) -> list[str]:
    return ["".join(span.text for span in line).rstrip() for line in lines]


def shown(of: Page, view: View = FRESH, width: int = 80, height: int = 24) -> list[str]:
    return text(draw(of, view, width, height))


def test_a_page_of_80_columns_tells_of_the_whole_and_of_each_worker() -> None:
    lines = shown(page(worker(0), worker(1, restarts=2)))
    assert lines[0] == "shop: shop:app is serving, 2 of 2 ready, generation 3, up 1m43s"
    assert lines[1].startswith("200 req/s  4 in flight  24 conns  p50 1.5ms p99 2.0ms  CPU")
    assert lines[4].split() == ["SLOT", "PID", "GEN", "PHASE", "CONNS", "REQ/S", "BUSY", "P50",
                                "P99", "LAG", "CPU", "PSS", "RST"]  # fmt: skip
    assert lines[5].split() == ["0", "4100", "3", "ready", "12", "100", "2", "1.5ms", "2.0ms",
                                "400us", "67%", "48M", "0"]  # fmt: skip
    assert lines[6].split()[-1] == "2"
    assert lines[-1].startswith("q leave")
    assert len(lines) == 24


@pytest.mark.parametrize("width", [1, 20, 40, 60, 79, 80, 81, 100, 132, 200, 300])
@pytest.mark.parametrize("height", [1, 3, 10, 24, 60])
def test_it_fits_every_terminal(width: int, height: int) -> None:
    full = page(*[worker(slot, **{**LARGE, "pid": 4100000 + slot}) for slot in range(30)],
                groups=GROUPS)  # fmt: skip
    views = (View(), View(helps=True), View(text=["x" * 400] * 99), View(selected=4100029),
             View(pending=Order("reload", {}), question="q" * 300))  # fmt: skip
    for view in views:
        lines = draw(full, view, width, height)
        assert len(lines) <= height
        assert max(map(len, text(lines))) <= width


def test_columns_never_run_into_each_other() -> None:
    for several in (False, True):
        for width in range(10, 200):
            used = sum(abs(one.width) + 1 for one in columns(width, several)) - 1
            assert used <= width
    lines = shown(page(worker(0, **LARGE), groups=GROUPS), width=200)
    cells = next(line for line in lines if "4194303" in line).split()
    assert len(cells) == len(columns(200, several=True))


def test_a_narrow_terminal_keeps_what_tells_most_and_a_wide_one_shows_more() -> None:
    def headings(width: int) -> set[str]:
        return {one.heading for one in columns(width, several=True)}

    assert headings(40) >= {"SLOT", "PHASE", "REQ/S", "BUSY", "PID"}
    assert headings(60) >= headings(40) | {"GROUP", "CPU", "P99"}
    assert headings(80) >= headings(60) | {"GEN", "PSS", "P50", "LAG", "RST"}
    assert headings(200) >= headings(80) | {"UP", "CONNS", "TOTAL"}


def test_of_more_workers_than_lines_the_chosen_one_is_always_there() -> None:
    many = page(*[worker(slot) for slot in range(64)])
    for slot in (0, 1, 31, 62, 63):
        view = View(selected=4100 + slot)
        lines = draw(many, view, 80, 24)
        (chosen,) = [line for line in lines if line and line[0].style is Style.CHOSEN]
        assert chosen[0].text.split()[1] == str(4100 + slot)
        assert "of 64 workers" in text(lines)[-2]
    assert text(draw(many, View(), 80, 24))[-2].startswith("1 to 17 of 64")


def test_several_groups_have_a_line_each_and_the_chosen_one_a_mark() -> None:
    both = page(worker(0), worker(0, group="mail", pid=5000, row=0), groups=GROUPS)
    lines = shown(both, View(group="mail"))
    assert lines[4].split() == ["web", "serving", "2", "of", "2", "gen", "3", "127.0.0.1:8000"]
    assert lines[5].startswith("> mail degraded    0 of 1   gen 1    python mail.py")
    assert [row.worker.pid for row in rows(both, View())] == [4100, 5000]


def test_rows_are_sorted_by_what_was_chosen() -> None:
    busy = page(worker(0), worker(1, in_flight=9), worker(2, in_flight=5))
    assert [row.worker.slot for row in rows(busy, View(sort="busy"))] == [1, 2, 0]
    assert [row.worker.slot for row in rows(busy, View(sort="slot"))] == [0, 1, 2]
    for sort in SORTS:
        assert len(rows(Page((shot(worker(0)),)), View(sort=sort))) == 1


def test_before_there_is_a_second_snapshot_rates_are_not_invented() -> None:
    lines = shown(Page((shot(worker(0)),)))
    assert lines[5].split()[5:9] == ["-", "2", "-", "-"]
    assert lines[5].split()[10:12] == ["-", "-"]


def test_a_lost_cluster_is_told_and_the_last_page_stays() -> None:
    assert shown(Page(trouble="no cluster runs"))[0] == "no cluster runs"
    lost = page(worker(0))._replace(trouble="the cluster is gone; looking for it")
    lines = shown(lost)
    assert lines[-1] == "the cluster is gone; looking for it"
    assert "4100" in lines[5]


def test_the_plain_page_has_every_worker_and_no_keys() -> None:
    many = page(*[worker(slot) for slot in range(64)])
    lines = plain(many, 80).splitlines()
    assert len(lines) == 5 + 64
    assert max(map(len, lines)) <= 80
    assert "q leave" not in lines[-1]


def test_a_cluster_without_workers_says_so() -> None:
    assert "no workers" in shown(page(state="paused"))


def press_all(keys: list[str], of: Page, view: View = FRESH) -> tuple[View, list[Order]]:
    """The view after some keys, and what they ordered."""
    orders = []
    for key in keys:
        made = [row.worker for row in rows(of, view)]
        view, order = press(view, key, of.shot, made)
        orders += [order] if order else []
    return view, orders


BOTH = page(worker(0), worker(1), worker(0, group="mail", pid=5000, row=0), groups=GROUPS)
ALONE = page(worker(0), worker(1))


@pytest.mark.parametrize(
    ("of", "keys", "orders"),
    [
        (ALONE, ["+"], [Order("scale", {"by": 1})]),
        (ALONE, ["-"], []),
        (ALONE, ["-", "y"], [Order("scale", {"by": -1})]),
        (ALONE, ["-", "x", "y"], []),
        (ALONE, ["r"], []),
        (ALONE, ["r", "enter"], [Order("reload", {})]),
        (ALONE, ["r", "q", "r", "y"], [Order("reload", {})]),
        (ALONE, ["d"], [Order("dump", {})]),
        (ALONE, ["R", "y"], []),
        (ALONE, ["down", "R"], []),
        (ALONE, ["end", "R", "y"], [Order("restart", {"slot": 1, "group": "web"})]),
        (BOTH, ["+"], [Order("scale", {"by": 1, "group": "web"})]),
        (BOTH, ["tab", "+"], [Order("scale", {"by": 1, "group": "mail"})]),
        (BOTH, ["tab", "tab", "d"], [Order("dump", {"group": "web"})]),
        (BOTH, ["end", "r", "y"], [Order("reload", {"group": "mail"})]),
        (Page(), ["+", "-", "y", "r", "y", "d", "s", "tab", "up"], []),
    ],
)
def test_keys_order_what_they_say(of: Page, keys: list[str], orders: list[Order]) -> None:
    assert press_all(keys, of)[1] == orders


def test_one_key_sorts_by_one_column_after_the_other() -> None:
    seen = [press_all(["s"] * times, ALONE)[0].sort for times in range(len(SORTS) + 1)]
    assert seen == [*SORTS, SORTS[0]]


def test_arrows_choose_a_worker_and_with_it_its_group() -> None:
    for keys, pid in (
        (["down"], 4100),
        (["down", "down"], 4101),
        (["up"], 5000),
        (["end", "down", "down"], 5000),
        (["home", "up"], 4100),
        (["page down", "page up"], 4100),
    ):
        assert press_all(keys, BOTH)[0].selected == pid
    assert press_all(["end"], BOTH)[0].group == "mail"


def test_what_was_asked_is_asked_about_before_it_is_done() -> None:
    view, _ = press_all(["r"], ALONE)
    assert shown(ALONE, view)[-1] == ("roll in new code and settings? y: yes, any other key: no")
    view, _ = press_all(["n"], ALONE, view)
    assert shown(ALONE, view)[-1] == "not done"
    view, _ = press_all(["down"], ALONE, view)
    assert shown(ALONE, view)[-1].startswith("q leave")


def test_stacks_can_be_scrolled_and_left() -> None:
    view = View(text=[f"line {number}" for number in range(100)])
    assert shown(ALONE, view)[4] == "line 0"
    view, _ = press_all(["down", "page down"], ALONE, view)
    assert shown(ALONE, view)[4] == "line 11"
    view, _ = press_all(["end", "down"], ALONE, view)
    assert shown(ALONE, view)[4] == "line 99"
    view, orders = press_all(["+", "q"], ALONE, view)
    assert not orders
    assert not view.text
    assert not view.over


def test_help_is_shown_and_left_and_q_leaves() -> None:
    view, _ = press_all(["h"], ALONE)
    assert shown(ALONE, view)[4] == HELP[0]
    for leave in ("h", "q", "escape"):
        assert not press_all([leave], ALONE, view)[0].helps
    assert press_all(["q"], ALONE)[0].over
    assert not press_all(["escape"], ALONE)[0].over
    assert max(map(len, HELP)) <= 80


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (0.0, "0us"), (350e-6, "350us"), (0.0012, "1.2ms"), (0.0456, "46ms"),
     (0.9996, "1.0s"), (2.0, "2.0s"), (12.0, "12s"), (5000.0, ">999s")],
)  # fmt: skip
def test_times_are_short(seconds: float | None, said: str) -> None:
    assert short_time(seconds) == said


@pytest.mark.parametrize(
    ("size", "said"),
    [(None, "-"), (0, "0K"), (980 * 1024, "980K"), (2 * 2**20, "2.0M"), (45 * 2**20, "45M"),
     (1200 * 2**20, "1.2G"), (2**50, ">999G")],
)  # fmt: skip
def test_sizes_are_short(size: int | None, said: str) -> None:
    assert short_bytes(size) == said


def test_a_snapshot_without_groups_is_one_group() -> None:
    old: Snapshot = shot(worker(0))
    assert press(View(), "tab", old, [])[0].group == "web"


def test_what_programs_serve_is_not_known() -> None:
    of_mail = worker(0, group="mail", pid=4200, requests=0, connections=0, in_flight=0)
    lines = shown(page(worker(0), of_mail, groups=GROUPS), width=200)
    (heading,) = [line.split() for line in lines if line.startswith("GROUP")]
    (mail,) = [line.split() for line in lines if line.startswith("mail ")]
    told = dict(zip(heading, mail, strict=True))
    assert {told[key] for key in ("CONNS", "TOTAL", "REQ/S", "BUSY")} == {"–"}
    (web,) = [line.split() for line in lines if line.startswith("web ")]
    assert dict(zip(heading, web, strict=True))["REQ/S"] == "100"
