"""What has become of a rollout, and when a first start is hopeless."""

from dataclasses import replace

import pytest

from clusterd.fleet.goal import Goal, Mode, Patience
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.rollout import Verdict, after, hopeless, judge
from clusterd.fleet.roster import Roster, Worker

NOW = 1000.0
PATIENCE = Patience(min_ready=5.0)
ROLLING = Goal(2).rolling(2)
PROVEN = replace(ROLLING, proven=True)


def ready(slot: int, generation: int, since: float = NOW - 5.0) -> Worker:
    row = 10 * generation + slot
    return Worker(row, slot, generation, 0.0, since, phase=Phase.READY, pid=row)


def roster(*workers: Worker) -> Roster:
    return Roster({w.row: w for w in workers}, ever_ready=True)


def verdict(goal: Goal, *workers: Worker) -> Verdict | None:
    return judge(roster(*workers), goal, PATIENCE, NOW)


def test_without_a_rollout_there_is_no_news() -> None:
    assert verdict(Goal(2), ready(0, 1)) is None


@pytest.mark.parametrize("mode", [Mode.PAUSED, Mode.STOPPING])
def test_nothing_is_judged_while_the_cluster_does_not_serve(mode: Mode) -> None:
    assert verdict(replace(ROLLING, mode=mode), ready(0, 2)) is None


def test_the_canary_is_proven_when_it_has_lived_through_min_ready() -> None:
    assert verdict(ROLLING, ready(0, 2, NOW - 4.9)) is None
    assert verdict(ROLLING, ready(0, 2, NOW - 5.0)) is Verdict.PROVEN


def test_a_fault_fails_it_proven_or_not() -> None:
    for goal in (ROLLING, PROVEN):
        who = roster(ready(0, 2))
        who.faults[2] = "oops"
        assert judge(who, goal, PATIENCE, NOW) is Verdict.FAILED


def test_it_is_finished_when_every_slot_is_new_and_nobody_old_serves() -> None:
    assert verdict(PROVEN, ready(0, 2)) is None
    assert verdict(PROVEN, ready(0, 2), ready(1, 2), ready(1, 1)) is None
    leaver = replace(ready(1, 2), leaving=True)
    assert verdict(PROVEN, ready(0, 2), leaver) is None
    assert verdict(PROVEN, ready(0, 2), ready(1, 2)) is Verdict.FINISHED


def test_what_follows_keeps_the_old_generation_for_a_while() -> None:
    goal = after(PROVEN, Verdict.FINISHED, NOW + 600)
    assert (goal.stable, goal.candidate, goal.kept, goal.kept_until) == (2, None, 1, NOW + 600)
    assert goal.generations == {1, 2}


def test_a_failure_leaves_the_old_generation_wanted() -> None:
    goal = after(PROVEN, Verdict.FAILED, NOW + 600)
    assert (goal.stable, goal.candidate, goal.proven) == (1, None, False)


def young(deaths: int, first: float = NOW - 1) -> Roster:
    who = Roster()
    for slot in range(2):
        who.slot(slot).deaths, who.slot(slot).first_death = deaths, first
    return who


def test_a_parallel_start_is_hopeless_after_three_early_deaths_in_every_slot() -> None:
    parallel = replace(PATIENCE, parallel=True)
    assert hopeless(young(2), Goal(2), parallel, NOW) == ""
    assert "every worker died 3 times" in hopeless(young(3), Goal(2), parallel, NOW)
    one_is_fine = young(3)
    one_is_fine.slot(1).deaths = 0
    assert hopeless(one_is_fine, Goal(2), parallel, NOW) == ""


def test_a_start_is_hopeless_after_three_early_deaths_of_the_first_worker() -> None:
    first = Roster()
    first.slot(0).first_death = NOW - 1
    first.slot(0).deaths = 2
    assert hopeless(first, Goal(2), PATIENCE, NOW) == ""
    first.slot(0).deaths = 3
    assert "the first worker died 3 times" in hopeless(first, Goal(2), PATIENCE, NOW)


def test_a_start_is_hopeless_a_minute_after_the_first_death() -> None:
    assert hopeless(young(1, NOW - 59), Goal(2), PATIENCE, NOW) == ""
    assert "within 60 s" in hopeless(young(1, NOW - 60), Goal(2), PATIENCE, NOW)


def test_a_fault_of_the_first_generation_says_why() -> None:
    who = Roster(faults={1: "no module named tea"})
    assert hopeless(who, Goal(2), PATIENCE, NOW) == "no module named tea"


def test_once_a_worker_was_ready_nothing_is_hopeless() -> None:
    who = young(9, 0.0)
    who.faults[1] = "oops"
    who.ever_ready = True
    assert hopeless(who, Goal(2), PATIENCE, NOW) == ""


def test_who_stops_does_not_give_up_as_well() -> None:
    assert hopeless(young(3), Goal(2, mode=Mode.STOPPING), PATIENCE, NOW) == ""
