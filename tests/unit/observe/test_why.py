"""Ends of processes as stories: every cause has its own words, and what followed is told."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from clusterd.core.vitals import Condition
from clusterd.observe import causes, why
from clusterd.observe.tail import last_lines
from clusterd.observe.why import MOST_LINES, Story, page, stories, trimmed

IT = {"group": "web", "slot": 3, "generation": 2, "pid": 71}
NEXT = {**IT, "pid": 99}


def journal(*events: tuple[str, dict[str, Any]], step: float = 1.0) -> list[dict[str, Any]]:
    """Events a step apart, the first at 1000 s."""
    return [
        {"n": number, "time": 1000.0 + number * step, "kind": kind, **fields}
        for number, (kind, fields) in enumerate(events, 1)
    ]


def exited(code: int, cause: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "exited", {**IT, "code": code, "cause": cause, "uptime": 90.0, "asked": False, **more}


def only(*events: tuple[str, dict[str, Any]]) -> Story:
    (story,) = stories(journal(*events))
    return story


READIED = ("readied", IT)
BACK = ("readied", NEXT)


@pytest.mark.parametrize(
    ("events", "headline", "part"),
    [
        ([exited(-9, "SIGKILL")], "was killed by SIGKILL", "Not by clusterd"),
        ([exited(-11, "SIGSEGV")], "died of SIGSEGV", "C extension"),
        ([exited(-31, "SIGSYS")], "died of SIGSYS", "seccomp"),
        ([exited(-50, "signal 50")], "died of signal 50", ""),
        ([exited(0, "status 0")], "left by itself, with status 0", "sys.exit"),
        ([exited(1, "status 1")], "ended with status 1", "exception"),
        ([exited(3, "status 3")], "ended with status 3", "os._exit(3)"),
        (
            [exited(-9, "SIGKILL: the cgroup's limit was reached", oom=True, remedy="Raise it.")],
            "was killed for want of memory",
            "the cgroup's limit was reached",
        ),
        (
            [
                ("killed", {**IT, "reason": "it did not leave within the graceful timeout"}),
                exited(-9, "SIGKILL", asked=True),
            ],
            "was killed, since it did not leave in time",
            "graceful_timeout",
        ),
        (
            [
                ("killed", {**IT, "reason": "it was not ready within the startup timeout"}),
                exited(-9, "SIGKILL"),
            ],
            "was killed, since it was not ready in time",
            "startup_timeout",
        ),
        (
            [("killed", {**IT, "reason": "for fun"}), exited(-9, "SIGKILL")],
            "was killed by clusterd",
            "for fun",
        ),
        (
            [
                ("blocked", {**IT, "seconds": 5.0, "traceback": "File shop.py"}),
                ("leaving", {**IT, "reason": "blocked for 30 s (hang_timeout)"}),
                ("retired", {**IT, "reason": "replaced"}),
                ("killed", {**IT, "reason": "it is blocked"}),
                exited(-9, "SIGKILL", asked=True),
            ],
            "was replaced, since its event loop was blocked",
            "blocked for 30 s (hang_timeout)",
        ),
        (
            [
                ("leaving", {**IT, "reason": "stalled: no answer was completed for 300 s"}),
                exited(0, "status 0", asked=True),
            ],
            "was replaced, since none of its requests got on",
            "no answer was completed",
        ),
        (
            [
                ("worker_failed", {**IT, "stage": "startup", "reason": "OSError: no database",
                                   "traceback": "Traceback: no database"}),
                exited(1, "status 1"),
            ],
            "failed at startup: OSError: no database",
            "said so itself",
        ),
        (
            [
                ("worker_failed", {**IT, "stage": "command", "traceback": "no luck",
                                   "reason": "mailer ended by itself with status 9"}),
                exited(9, "status 9"),
            ],
            "has lost its program: mailer ended by itself with status 9",
            "",
        ),
        (
            [("leaving", {**IT, "reason": "max_requests", "recycle": True}),
             exited(-11, "SIGSEGV")],
            "died of SIGSEGV",
            "C extension",
        ),
    ],
)  # fmt: skip
def test_each_end_has_its_own_words(
    events: list[tuple[str, dict[str, Any]]], headline: str, part: str
) -> None:
    story = only(READIED, *events, BACK)
    assert story.headline == headline
    assert part in story.meaning
    assert story.lived == 90.0
    assert (story.slot, story.generation, story.pid) == (3, 2, 71)


@pytest.mark.parametrize(
    "events",
    [
        [exited(0, "status 0", asked=True)],
        [("retired", {**IT, "reason": "reload"}), exited(0, "status 0", asked=True)],
        [("leaving", {**IT, "reason": "max_age", "recycle": True}),
         exited(0, "status 0", asked=True)],
        [("leaving", {**IT, "reason": "TERM"}), exited(0, "status 0", asked=True)],
        [("rollout_failed", {"generation": 2, "reason": "paused"})],
        [("zygote_exited", {"generation": 2, "pid": 5, "code": 0, "cause": "", "asked": True})],
    ],
)  # fmt: skip
def test_who_was_asked_to_leave_and_did_is_no_news(events: list[Any]) -> None:
    assert stories(journal(READIED, *events)) == []
    assert page([], 0.0) == "no process died, and no rollout failed"


def test_the_latest_is_told_first_and_a_slot_or_group_alone_if_asked() -> None:
    other = {**IT, "slot": 4, "pid": 72, "code": 1, "cause": "status 1", "asked": False}
    mail = {**other, "group": "mail", "slot": 3}
    events = journal(exited(-11, "SIGSEGV"), ("exited", other), ("exited", mail))
    assert [story.n for story in stories(events)] == [3, 2, 1]
    assert [story.n for story in stories(events, slot=3)] == [3, 1]
    assert [story.n for story in stories(events, slot=3, group="web")] == [1]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([BACK], "Replaced by process 99 after 1.0s."),
        ([], "It is not replaced yet."),
        ([("stopping", {})], "The cluster was stopped before it was replaced."),
        (
            [("backed_off", {**IT, "deaths": 4, "retry_in": 3.2}), BACK],
            "Since it was early death number 4 in a row, the next try waited 3.2s. "
            "Replaced by process 99 after 2.0s.",
        ),
        ([("readied", {**NEXT, "slot": 4})], "It is not replaced yet."),
        ([("readied", {**NEXT, "group": "mail"})], "It is not replaced yet."),
    ],
)
def test_what_the_cluster_did_is_told(events: list[Any], said: str) -> None:
    assert only(READIED, exited(-11, "SIGSEGV"), *events).then == said


def test_a_successor_that_was_there_first_is_told_as_such() -> None:
    story = only(
        READIED,
        ("leaving", {**IT, "reason": "blocked for 30 s (hang_timeout)"}),
        BACK,
        ("killed", {**IT, "reason": "it is blocked"}),
        exited(-9, "SIGKILL", asked=True),
    )
    assert story.then == "Process 99 had taken its place 2.0s before."


def test_the_last_stacks_are_what_it_was_doing_unless_they_are_too_old() -> None:
    events = [
        ("dumped", {**IT, "traceback": "old"}),
        ("blocked", {**IT, "traceback": "File shop.py, line 7"}),
        ("dumped", {**IT, "pid": 72, "traceback": "of another"}),
    ]
    story = only(*events, exited(-9, "SIGKILL"))
    assert (story.doing, story.doing_before) == ("File shop.py, line 7", 2.0)
    late = journal(*events, exited(-9, "SIGKILL"), step=200.0)
    assert stories(late)[0].doing == ""


def test_a_pid_that_was_given_out_again_is_another_process() -> None:
    story = only(("killed", {**IT, "generation": 1, "reason": "x"}), exited(-11, "SIGSEGV"))
    assert story.headline == "died of SIGSEGV"


def test_a_terminal_is_not_driven_by_what_an_exception_says() -> None:
    bad = {**IT, "stage": "startup", "reason": "\x1b[2Jboo", "traceback": "T\tx\n\x1b]0;boo\x07"}
    text = page([only(("worker_failed", bad), exited(1, "status 1"))], 2000.0)
    assert "\x1b" not in text
    assert "\\x1b[2Jboo" in text


def test_a_failed_rollout_is_one_story_with_its_traceback() -> None:
    zygote = {"group": "web", "generation": 3, "pid": 50}
    broken = {"stage": "import", "reason": "NameError: oops", "traceback": "Traceback"}
    events = journal(
        ("zygote_spawned", zygote),
        ("zygote_failed", {**zygote, **broken}),
        ("zygote_exited", {**zygote, "code": 1, "cause": "status 1", "asked": False}),
        ("rollout_failed", {"group": "web", "generation": 3, "serving": 2, "traceback": "Trace",
                            "reason": "import failed: NameError: oops"}),
    )  # fmt: skip
    (story,) = stories(events)
    assert story.headline == "did not come up: import failed: NameError: oops"
    assert (story.then, story.doing) == ("Generation 2 serves on.", "Trace")
    assert "Generation 3 of web did not come up" in page([story], 2000.0)
    assert stories(events[:3])[0].headline == "failed at import: NameError: oops"


def test_a_zygotes_death_a_refusal_and_a_start_that_failed_are_told() -> None:
    zygote = {"group": "web", "generation": 3, "pid": 50}
    found = stories(
        journal(
            ("zygote_spawned", zygote),
            ("zygote_exited", {**zygote, "code": -11, "cause": "SIGSEGV", "asked": False}),
            ("reload_refused", {"reason": "workers: 'x' is not allowed", "remedy": "Say 3."}),
            ("gave_up", {"reason": "no worker ever became ready", "traceback": "T"}),
        )
    )
    text = page(found, 2000.0)
    assert "The zygote of web (process 50, generation 3, 1.0s old) died of SIGSEGV" in text
    assert "A reload was refused: workers: 'x' is not allowed" in text
    assert "To do: Say 3." in text
    assert "The cluster gave up: no worker ever became ready" in text


def test_a_page_is_readable_in_80_columns_but_for_stacks() -> None:
    story = only(READIED, exited(-9, "SIGKILL"), BACK)._replace(
        said=["19:00 ERROR it hurts"], doing="File shop.py, line 7", doing_before=4.0
    )
    lines = page([story], 1062.0).splitlines()
    assert lines[0].startswith("#2  ")
    assert lines[0].endswith(", 1m00s ago")
    assert (
        lines[1] == "  Worker 3 of web (process 71, generation 2, 1m30s old) was killed by SIGKILL"
    )
    assert max(map(len, lines)) <= 80
    assert lines[-3:] == [
        "    19:00 ERROR it hurts",
        "  What it was doing 4.0s before:",
        "    File shop.py, line 7",
    ]


@pytest.mark.parametrize(
    ("before", "said"), [(0.09, ""), (0.1, " 100 ms before"), (7, " 7.0s before")]
)
def test_it_is_said_how_old_stacks_were_unless_they_were_new(before: float, said: str) -> None:
    story = only(READIED, exited(-9, "SIGKILL"), BACK)
    story = story._replace(doing="File shop.py", doing_before=before)
    assert page([story], 1062.0).splitlines()[-2:] == [
        f"  What it was doing{said}:",
        "    File shop.py",
    ]


def test_stacks_are_folded_and_not_too_long() -> None:
    """As `core.stacks` has it."""
    home = Path(why.__file__).parents[1]
    ours = f'thread a\n  File "{home}/child.py", line 1, in x\n'
    assert trimmed(ours + '  File "/a.py", line 1, in b\n') == [
        "thread a",
        "  … 1 frame of clusterd",
        '  File "/a.py", line 1, in b',
    ]
    assert trimmed(ours) == ["… nothing of the application in thread a: --json has them"]
    assert len(trimmed("thread a\n" + '  File "/a.py", line 1, in b\n' * 99)) == MOST_LINES + 1
    assert trimmed("it did not even answer the signal") == ["it did not even answer the signal"]


def readings() -> Iterable[causes.Reading]:
    for table in (causes.SIGNALS, causes.STATUSES, causes.OURS, causes.CONDITIONS):
        yield from table.values()


def test_every_cause_says_what_it_means_and_what_to_do() -> None:
    for reading in readings():
        assert reading.meaning.endswith(".")
        assert reading.remedy.endswith(".")
        assert not reading.headline.endswith(".")
    assert set(causes.CONDITIONS) == set(Condition)


LOG = """\
2026-11-22 10:00:00.000 INFO worker=3 gen=2 pid=71 first
2026-11-22 10:00:01.000 ERROR worker=3 gen=2 pid=71 the application raised path=/
    Traceback (most recent call last):
    ValueError: tea
2026-11-22 10:00:01.500 ERROR worker=4 gen=2 pid=72 of another
    Traceback of another
2026-11-22 10:00:02.000 ERROR exited worker=3 gen=2 pid=71 code=-9
{"time": "t1", "level": "error", "worker": 3, "gen": 2, "pid": 71, "message": "it hurts", "x": 1}
{"time": "t2", "level": "error", "worker": 3, "gen": 2, "pid": 71, "message": "exited"}
{"time": "t3", "level": "error", "worker": 3, "gen": 1, "pid": 71, "message": "an older one"}
{"time": "t4", "pid": 71, "gen": 2, "message": "bell \\u0007", "traceback": "T:\\n  y"}
{"torn": 7
[7]
nonsense pid=71 gen=2
""".splitlines()


def test_the_last_lines_of_a_process_are_found_in_text_and_json() -> None:
    assert last_lines(LOG, 71, 2) == [
        "2026-11-22 10:00:00.000 INFO first",
        "2026-11-22 10:00:01.000 ERROR the application raised path=/",
        "    Traceback (most recent call last):",
        "    ValueError: tea",
        "t1 ERROR it hurts x=1",
        "t4  bell \\x07",
        "    T:",
        "      y",
    ]
    assert last_lines(LOG, 7, 2) == []
    assert len(last_lines(LOG * 10, 71, 2)) == 8


def test_a_canary_that_failed_was_not_replaced_by_a_worker_of_a_later_reload() -> None:
    old = {"group": "web", "slot": 0, "generation": 1, "pid": 60}
    canary = {"group": "web", "slot": 0, "generation": 2, "pid": 71}
    failed = {"group": "web", "generation": 2, "serving": 1, "reason": "worker 0 ended"}
    third = {"group": "web", "slot": 0, "generation": 3, "pid": 90}
    events = journal(
        ("readied", old),
        ("spawned", canary),
        ("exited", {**canary, "code": 7, "cause": "status 7", "uptime": 1.0, "asked": False}),
        ("rollout_failed", failed),
        ("spawned", third),
        ("readied", third),
    )
    (story,) = [one for one in stories(events) if one.kind == "worker"]
    assert story.then == "Nothing was replaced: generation 1 serves on."


def test_a_worker_that_had_taken_a_place_before_its_rollout_failed_was_replaced() -> None:
    old = {"group": "web", "slot": 0, "generation": 1, "pid": 60}
    new = {"group": "web", "slot": 0, "generation": 2, "pid": 71}
    again = {"group": "web", "slot": 0, "generation": 1, "pid": 80}
    failed = {"group": "web", "generation": 2, "serving": 1, "reason": "worker 0 ended"}
    events = journal(
        ("readied", old),
        ("spawned", new),
        ("readied", new),
        ("retired", {**old, "reason": "reload"}),
        ("exited", {**new, "code": 7, "cause": "status 7", "uptime": 1.0, "asked": False}),
        ("rollout_failed", failed),
        ("readied", again),
    )
    (story,) = [one for one in stories(events) if one.kind == "worker"]
    assert story.then == "Replaced by process 80 after 2.0s."
