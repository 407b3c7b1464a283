"""What people read of a running cluster."""

from typing import Any

from clusterd.observe.line import event_line
from clusterd.observe.snapshot import Snapshot
from clusterd.observe.table import table

REPLY: dict[str, Any] = {
    "ok": True,
    "name": "shop",
    "app": "shop.main:app",
    "version": "0.1.0",
    "pid": 4100,
    "state": "rolling",
    "size": 2,
    "ready": 2,
    "generation": 1,
    "uptime": 7500.0,
    "previous": None,
    "rollout": {"generation": 2, "stage": "canary"},
    "listeners": ["127.0.0.1:8000"],
    "workers": [
        {"slot": 1, "row": 1, "pid": 4194303, "generation": 1000, "phase": "draining",
         "uptime": 360000.0, "connections": 100000, "in_flight": 1000, "requests": 123456789,
         "heartbeat_age": 0.4, "restarts": 3, "of_the_future": True},
        {"slot": 0, "row": 0, "pid": 4102, "generation": 1, "phase": "ready", "uptime": 7499.0,
         "connections": 3, "in_flight": 1, "requests": 950, "heartbeat_age": None, "restarts": 0},
    ],
    "zygotes": [{"generation": 1, "pid": 4101, "phase": "ready"}],
    "totals": {"requests": 123457739, "accepted": 999, "answered_5xx": 2, "bytes_in": 7},
    "of_the_future": 1,
}  # fmt: skip


def test_the_table_says_how_it_is_and_lists_workers_by_slot() -> None:
    lines = table(Snapshot.of(REPLY)).splitlines()
    assert lines[0] == "shop: shop.main:app is rolling, 2 of 2 ready, generation 1"
    assert lines[1] == "up 2h05m, master pid 4100, clusterd 0.1.0"
    assert "rolling to generation 2: canary" in lines
    assert lines[-1] == "served 123M requests on 999 connections, 2 of them 5xx"
    rows = [line.split() for line in lines if line[:4].strip().isdigit()]
    assert rows[0] == ["0", "4102", "1", "ready", "2h04m", "3", "1", "950", "-", "0"]
    assert rows[1][:3] == ["1", "4194303", "1000"]


def test_no_line_is_wider_than_a_terminal() -> None:
    """80 columns, with the largest pid Linux has and a million requests."""
    assert max(map(len, table(Snapshot.of(REPLY)).splitlines())) <= 80


def test_a_paused_cluster_has_no_workers_and_says_so() -> None:
    text = table(Snapshot.of({**REPLY, "workers": [], "rollout": None, "previous": 3}))
    assert "no workers" in text
    assert "generation 3 is kept for 'clusterd rollback'" in text


def test_each_of_several_groups_has_its_own_lines() -> None:
    groups = [
        {"name": "web", "app": "shop:app", "state": "serving", "size": 1, "ready": 1,
         "generation": 1, "listeners": ["127.0.0.1:80"]},
        {"name": "mail", "kind": "command", "app": "python mail.py", "state": "degraded",
         "size": 2, "ready": 0, "generation": 2},
    ]  # fmt: skip
    first = {**REPLY["workers"][1], "group": "web"}
    lines = table(Snapshot.of({**REPLY, "groups": groups, "workers": [first]})).splitlines()
    assert lines[0] == "shop: 2 groups are rolling, 2 of 2 ready"
    web = lines.index("web: shop:app is serving, 1 of 1 ready, generation 1")
    mail = lines.index("mail: python mail.py is degraded, 0 of 2 ready, generation 2")
    assert lines[web + 1] == "listening on 127.0.0.1:80"
    assert lines[web + 3].split()[:2] == ["0", "4102"]
    assert lines[mail + 1] == "no workers"


def test_what_programs_serve_is_not_known() -> None:
    """Neither in a group beside others nor in the only one: 0 would not be true."""
    mail = {"name": "mail", "kind": "command", "app": "python mail.py", "state": "serving",
            "size": 1, "ready": 1, "generation": 1}  # fmt: skip
    worker = {**REPLY["workers"][1], "group": "mail", "requests": 0, "connections": 0}
    web = {"name": "web", "app": "shop:app", "state": "serving", "size": 0, "ready": 0}
    for groups in ([mail], [web, mail]):
        text = table(Snapshot.of({**REPLY, "groups": groups, "workers": [worker]}))
        (row,) = [line.split() for line in text.splitlines() if line[:4].strip().isdigit()]
        assert row == ["0", "4102", "1", "ready", "2h04m", "–", "–", "–", "-", "0"]
        assert ("served " in text) == (web in groups)


def test_an_event_is_one_line_with_the_workers_identity_first() -> None:
    event = {"n": 7, "time": 0.0, "kind": "readied", "slot": 3, "generation": 2, "pid": 71,
             "seconds": 0.0123, "why": "it is back"}  # fmt: skip
    words = event_line(event).split(" ", 1)[1]
    assert words == "#7 readied worker=3 gen=2 pid=71 seconds=0.0123 why='it is back'"


def test_a_traceback_stands_below_its_event() -> None:
    event = {"n": 8, "time": 0.0, "kind": "zygote_failed", "traceback": "Traceback:\n  boom\n"}
    assert event_line(event).splitlines()[1:] == ["    Traceback:", "      boom"]


def test_it_says_what_decides_on_the_number_of_workers() -> None:
    group: dict[str, Any] = {"name": "web", "size": 3}
    assert "recycled" not in table(Snapshot.of({**REPLY, "groups": [group]}))
    group |= {"scaling": {"lowest": 2, "highest": 8, "by_hand": False}, "recycled": 1200}
    lines = table(Snapshot.of({**REPLY, "groups": [group]})).splitlines()
    assert "2 to 8 workers, by their load" in lines
    assert "1.2k recycled so far" in lines
    group["scaling"]["by_hand"] = True
    lines = table(Snapshot.of({**REPLY, "groups": [group]})).splitlines()
    assert "3 workers by hand; 'clusterd scale auto' goes by their load" in lines


def test_a_failed_reload_is_told_until_the_next_one_succeeds() -> None:
    why = "generation 3 did not come up: import failed: no tea"
    assert f"the last reload failed: {why}" in table(Snapshot.of({**REPLY, "failed_reload": why}))
    group = {"name": "web", "failed_reload": why}
    several = Snapshot.of({**REPLY, "groups": [group, {"name": "api"}]})
    assert table(several).count("the last reload failed") == 1
    assert "last reload" not in table(Snapshot.of(REPLY))
