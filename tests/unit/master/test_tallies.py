"""Counts by cause and outcome, from what the journal says."""

from typing import Any

import pytest

from clusterd.core.events import Event, Kind
from clusterd.master.tallies import CONDITIONS, PLANNED, Tallies
from clusterd.observe.catalogue import CAUSES, OUTCOMES

Said = tuple[Kind, dict[str, Any]]
LEAVING, RETIRED, KILLED, EXITED = Kind.LEAVING, Kind.RETIRED, Kind.KILLED, Kind.EXITED


def tell(*said: Said) -> Tallies:
    """What is counted of events of one worker."""
    tallies = Tallies()
    for number, (kind, fields) in enumerate(said, 1):
        tallies.hear(Event(number, 0.0, kind, {"group": "web", "pid": 7, **fields}))
    return tallies


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("asked", [(RETIRED, {"reason": "reload"}), (EXITED, {"code": 0, "asked": True})]),
        (
            "recycled",
            [
                (LEAVING, {"reason": "it has answered 100 requests"}),
                (RETIRED, {"reason": "recycled"}),
                (EXITED, {"code": 0, "asked": True}),
            ],
        ),
        (
            "replaced",
            [
                (LEAVING, {"reason": "TERM"}),
                (RETIRED, {"reason": "replaced"}),
                (EXITED, {"code": 0, "asked": True}),
            ],
        ),
        (
            "blocked",
            [
                (LEAVING, {"reason": "blocked for 30 s (hang_timeout)"}),
                (RETIRED, {"reason": "replaced"}),
                (KILLED, {"reason": "it did not leave in time"}),
                (EXITED, {"code": -9, "asked": True}),
            ],
        ),
        (
            "busy",
            [
                (LEAVING, {"reason": "busy: thread 12 has kept the interpreter to itself"}),
                (EXITED, {"code": 0, "asked": True}),
            ],
        ),
        ("overdue", [(KILLED, {"reason": "late"}), (EXITED, {"code": -9, "asked": False})]),
        ("killed", [(EXITED, {"code": -9, "cause": "SIGKILL", "asked": False})]),
        ("oom", [(EXITED, {"code": -9, "cause": "SIGKILL: out of memory", "asked": False})]),
        ("signal", [(EXITED, {"code": -11, "cause": "SIGSEGV", "asked": False})]),
        ("status", [(EXITED, {"code": 3, "cause": "status 3", "asked": False})]),
        (
            "signal",  # it died of something else before it was recycled
            [
                (LEAVING, {"reason": "it has answered 100 requests"}),
                (EXITED, {"code": -11, "asked": False}),
            ],
        ),
    ],
)
def test_a_worker_ends_of_what_was_said_before_or_of_its_status(
    cause: str, said: list[Said]
) -> None:
    tallies = tell(*said)
    assert tallies.exits == {"web": {cause: 1}}
    assert tallies.doomed == {}, "or pids would gather for ever"


def test_a_reused_pid_has_a_life_of_its_own() -> None:
    tallies = tell((KILLED, {}), (EXITED, {"code": -9}), (EXITED, {"code": 0, "asked": True}))
    assert tallies.exits == {"web": {"overdue": 1, "asked": 1}}


def test_rollouts_and_events_are_counted_by_group() -> None:
    tallies = Tallies()
    tallies.hear(Event(1, 0.0, Kind.ROLLOUT_FAILED, {"group": "web", "generation": 2}))
    tallies.hear(Event(2, 0.0, Kind.RELOAD_REFUSED, {"reason": "no"}))
    tallies.hear(Event(3, 0.0, Kind.ROLLOUT_FAILED, {"group": "web", "generation": 3}))
    assert tallies.rollouts == {"web": {"failed": 2}, "": {"refused": 1}}
    assert tallies.events == {"web": {"rollout_failed": 2}, "": {"reload_refused": 1}}


def test_every_word_is_in_the_catalogue() -> None:
    """Its series begin at 0, and the man page explains it."""
    words = {*CONDITIONS, *PLANNED, "asked", "overdue", "breach", "oom", "killed", "signal"}
    words.add("status")
    assert words == set(CAUSES)
    assert set(OUTCOMES) == {"finished", "failed", "refused"}


def test_what_a_zygote_was_killed_for_is_not_held_against_a_worker_with_its_pid() -> None:
    tallies = tell(
        (KILLED, {"reason": "import took too long"}),
        (Kind.ZYGOTE_EXITED, {"code": -9, "asked": False}),
        (EXITED, {"code": -11, "cause": "SIGSEGV", "asked": False}),
    )
    assert tallies.exits == {"web": {"signal": 1}}
    assert not tallies.doomed
