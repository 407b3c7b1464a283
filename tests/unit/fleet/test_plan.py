"""The plan looks at what is: the same roster and goal give the same actions, whatever happened."""

from dataclasses import replace
from math import inf

from clusterd.fleet.goal import Goal, Mode, Patience
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.plan import (
    DismissZygote,
    Kill,
    KillZygote,
    Plan,
    Renew,
    Retire,
    Spawn,
    StartZygote,
    plan,
)
from clusterd.fleet.roster import Roster, Worker, Zygote, ZygotePhase

NOW = 1000.0
PATIENCE = Patience()


def worker(row: int, slot: int, generation: int = 1, phase: Phase = Phase.READY) -> Worker:
    return Worker(row, slot, generation, NOW - 60, NOW - 50, phase=phase, pid=100 + row)


def zygote(generation: int = 1, phase: ZygotePhase = ZygotePhase.LOADED) -> Zygote:
    return Zygote(generation, 10 + generation, NOW - 60, phase=phase)


def roster(*workers: Worker, zygotes: tuple[Zygote, ...] = (zygote(),)) -> Roster:
    return Roster({w.row: w for w in workers}, list(zygotes), ever_ready=True)


def of(who: Roster, goal: Goal, now: float = NOW) -> Plan:
    return plan(who, goal, PATIENCE, now)


def test_what_is_as_wanted_needs_nothing_and_nobody_wakes() -> None:
    assert of(roster(worker(0, 0), worker(1, 1)), Goal(2)) == Plan([], inf)


def test_nothing_at_all_starts_with_a_zygote() -> None:
    assert of(Roster(), Goal(2)).actions == [StartZygote(1)]


def test_while_a_zygote_loads_nobody_is_ordered() -> None:
    loading = zygote(phase=ZygotePhase.LOADING)
    assert of(roster(zygotes=(loading,)), Goal(2)).actions == []


def test_all_empty_slots_are_filled_at_once() -> None:
    assert of(roster(worker(0, 1)), Goal(3)).actions == [Spawn(0, 1), Spawn(2, 1)]


def test_the_first_worker_of_a_generation_starts_alone() -> None:
    assert of(roster(), Goal(3)).actions == [Spawn(0, 1)]
    booting = worker(0, 0, phase=Phase.BOOTING)
    assert of(roster(booting), Goal(3)) == Plan([], inf), "its readiness or its end will wake us"
    assert of(roster(worker(0, 0)), Goal(3)).actions == [Spawn(1, 1), Spawn(2, 1)]


def test_a_worker_of_another_generation_is_not_the_first_one() -> None:
    goal = replace(Goal(3).rolling(2), proven=True)
    who = roster(worker(0, 0, 2, Phase.BOOTING), zygotes=(zygote(1), zygote(2)))
    assert of(who, goal).actions == []


def test_a_parallel_start_orders_all_workers_at_once() -> None:
    parallel = replace(PATIENCE, parallel=True)
    assert plan(roster(), Goal(2), parallel, NOW).actions == [Spawn(0, 1), Spawn(1, 1)]


def test_while_the_first_worker_is_backed_off_no_other_takes_its_part_at_a_first_start() -> None:
    who = Roster(zygotes=[zygote()])
    who.slot(0).until = NOW + 5
    assert of(who, Goal(2)) == Plan([], NOW + 5)


def test_after_all_died_the_first_slot_that_may_start_is_tried_alone() -> None:
    who = roster()
    who.slot(0).until = NOW + 5
    assert of(who, Goal(3)) == Plan([Spawn(1, 1)], NOW + 5)


def test_only_so_many_workers_start_at_the_same_time() -> None:
    who = roster(worker(0, 0), *(worker(n, n, phase=Phase.BOOTING) for n in range(1, 15)))
    assert of(who, Goal(100)).actions == [Spawn(15, 1), Spawn(16, 1)]
    who.workers[15] = worker(15, 15, phase=Phase.BOOTING)
    who.workers[16] = worker(16, 16, phase=Phase.BOOTING)
    assert of(who, Goal(100)) == Plan([], inf)


def test_a_slot_that_is_backed_off_waits_and_the_master_wakes_for_it() -> None:
    who = roster(worker(0, 0))
    who.slot(1).until = NOW + 5
    assert of(who, Goal(2)) == Plan([], NOW + 5)
    assert of(who, Goal(2), NOW + 5).actions == [Spawn(1, 1)]


def test_a_draining_worker_does_not_hold_its_slot() -> None:
    assert of(roster(worker(0, 0, phase=Phase.DRAINING)), Goal(1)).actions == [Spawn(0, 1)]


def test_two_in_one_slot_are_one_too_many_and_the_older_stays() -> None:
    who = roster(worker(0, 0), replace(worker(1, 0), born=NOW))
    assert of(who, Goal(1)).actions == [Retire(1, "reload")]


def test_never_do_more_drain_than_work() -> None:
    old, new = worker(0, 0), worker(1, 0, 2)
    who = roster(old, new, worker(2, 1, phase=Phase.DRAINING), zygotes=(zygote(1), zygote(2)))
    goal = replace(Goal(1).rolling(2), proven=True)
    assert of(who, goal).actions == []
    del who.workers[2]
    assert of(who, goal).actions == [Retire(0, "reload")]


def test_slots_beyond_the_size_are_let_go() -> None:
    who = roster(*(worker(n, n) for n in range(4)))
    assert of(who, Goal(2)).actions == [Retire(2, "scale"), Retire(3, "scale")]


def test_paused_lets_all_go_and_keeps_the_zygote() -> None:
    goal = Goal(2, mode=Mode.PAUSED, why="pause")
    assert of(roster(worker(0, 0), worker(1, 1)), goal).actions == [
        Retire(0, "pause"),
        Retire(1, "pause"),
    ]
    assert of(roster(), goal).actions == []


def test_stopping_keeps_the_undertaker_until_the_last_worker_is_gone() -> None:
    goal = Goal(1, mode=Mode.STOPPING)
    assert of(roster(worker(0, 0, phase=Phase.DRAINING)), goal).actions == []
    assert of(roster(), goal).actions == [DismissZygote(zygote())]


def test_stopping_does_not_wait_for_an_import() -> None:
    loading = zygote(2, ZygotePhase.LOADING)
    who = roster(worker(0, 0, phase=Phase.DRAINING), zygotes=(zygote(), loading))
    assert of(who, Goal(1, mode=Mode.STOPPING)).actions == [DismissZygote(loading)]
    rebuilt = zygote(1, ZygotePhase.LOADING)
    who = roster(worker(0, 0, phase=Phase.DRAINING), zygotes=(rebuilt,))
    assert of(who, Goal(1, mode=Mode.STOPPING)).actions == [DismissZygote(rebuilt)]


def test_an_order_that_came_to_nothing_costs_the_zygote_its_place() -> None:
    unborn = replace(worker(0, 0, phase=Phase.BOOTING), pid=None, deadline=NOW)
    actions = of(roster(unborn), Goal(1)).actions
    assert actions[0] == KillZygote(zygote(), "it did not fork in time")
    assert actions[1] == Kill(0, "never born")


def test_who_was_killed_is_waited_for() -> None:
    killed = replace(worker(0, 0, phase=Phase.KILLED), deadline=NOW - 5)
    assert of(roster(killed), Goal(1)).actions == [Spawn(0, 1)]


def test_the_canary_comes_beside_the_old_one_and_is_watched_for_min_ready() -> None:
    goal = Goal(1).rolling(2)
    who = roster(worker(0, 0), zygotes=(zygote(1), zygote(2)))
    assert of(who, goal).actions == [Spawn(0, 2)]
    who.workers[1] = replace(worker(1, 0, 2), since=NOW)
    assert of(who, goal) == Plan([], NOW + PATIENCE.min_ready)


def test_a_proven_canary_takes_its_slot_and_then_the_next_one_is_started() -> None:
    goal = replace(Goal(2).rolling(2), proven=True)
    who = roster(worker(0, 0), worker(1, 1), worker(2, 0, 2), zygotes=(zygote(1), zygote(2)))
    assert of(who, goal).actions == [Retire(0, "reload")]
    who.workers[0].phase = Phase.DRAINING
    assert of(who, goal).actions == [Spawn(1, 2)]


def test_while_a_new_worker_boots_the_next_slot_waits() -> None:
    goal = replace(Goal(3).rolling(2), proven=True)
    who = roster(worker(1, 1), worker(2, 2), worker(3, 0, 2), zygotes=(zygote(1), zygote(2)))
    who.workers[4] = worker(4, 1, 2, Phase.BOOTING)
    assert of(who, goal).actions == []


def test_one_that_asked_to_leave_is_replaced_first() -> None:
    leaver = replace(worker(0, 0), leaving=True)
    who = roster(leaver, worker(1, 1))
    assert of(who, Goal(2)).actions == [Spawn(0, 1)]
    who.workers[2] = worker(2, 0)
    assert of(who, Goal(2)).actions == [Retire(0, "replaced")]


def test_an_empty_slot_whose_code_is_lost_asks_for_todays() -> None:
    who = roster(worker(0, 0), zygotes=())
    who.lost.add(1)
    assert of(who, Goal(1)).actions == [], "nothing is missing, so nothing is loaded"
    assert of(who, Goal(2)).actions == [Renew()]
    who.renewing.until = NOW + 5
    assert of(who, Goal(2)) == Plan([], NOW + 5)


def test_a_slot_that_only_a_failed_rollout_holds_asks_for_todays_code_too() -> None:
    who = roster(worker(0, 0), worker(1, 1, 2), zygotes=())
    who.lost.add(1)
    assert of(who, Goal(2)).actions == [Renew()]


def test_a_slot_that_the_candidate_fills_for_lost_code_stays_filled() -> None:
    """It is proven or fails like any other; meanwhile no second worker is made for the slot."""
    goal = Goal(2).rolling(2)
    who = roster(worker(0, 0), worker(1, 0, 2), zygotes=(zygote(2),))
    who.lost.add(1)
    assert of(who, goal).actions == [Spawn(1, 2)]
    for phase in (Phase.BOOTING, Phase.READY):
        who.workers[2] = worker(2, 1, 2, phase)
        assert of(who, goal).actions == []


def test_an_application_that_cannot_be_forked_is_let_go_unless_a_worker_is_made_of_it() -> None:
    spent = replace(zygote(), unsafe="the thread 'x'")
    who = roster(worker(0, 0), zygotes=(spent,))
    who.unsafe[1] = spent.unsafe
    assert of(who, Goal(1)).actions == [DismissZygote(spent)]
    assert of(who, Goal(2)).actions == [Spawn(1, 1)]
    bare = replace(spent, bare=True)
    assert of(roster(worker(0, 0), zygotes=(bare,)), Goal(1)).actions == []


def test_workers_that_import_for_themselves_need_no_zygote() -> None:
    who = roster(worker(0, 0), zygotes=())
    who.unsafe[1] = "the thread 'x'"
    assert of(who, Goal(2)).actions == [Spawn(1, 1), StartZygote(1)]


def test_a_kept_zygote_is_let_go_when_nobody_wants_it() -> None:
    who = roster(worker(0, 0, 2), zygotes=(zygote(1), zygote(2)))
    kept = Goal(1, stable=2, kept=1, kept_until=NOW + 600)
    assert of(who, kept) == Plan([], NOW + 600)
    assert of(who, replace(kept, kept=None)).actions == [DismissZygote(zygote(1))]


def test_a_faulty_candidate_is_not_tried_again() -> None:
    who = roster(worker(0, 0))
    who.faults[2] = "oops"
    assert of(who, Goal(1).rolling(2)).actions == []
