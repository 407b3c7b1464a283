"""Supervision over hours, on a fake kernel: deaths, back-off, deadlines, giving up, stopping."""

import errno
import logging
import signal
from dataclasses import replace

import pytest

from clusterd.config.cpus import available_cpus
from clusterd.core.events import Kind
from clusterd.core.exits import Exit
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.messages import Drain, Leaving
from clusterd.kernel.real import Death
from clusterd.kernel.signals import FAULT_SIGNAL, LOOK_SIGNAL
from clusterd.master import orders
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, simulated


def spawned_before_the_first_was_ready(sim: Simulation, since: int = 0) -> int:
    """How many workers were ordered before one of them was ready, from an event on."""
    kinds = [event.kind for event in sim.events if event.number > since]
    return kinds[: kinds.index(Kind.READIED)].count(Kind.SPAWNED)


@pytest.mark.parametrize("unsafe", ["", "the thread 'x'"])
def test_the_first_worker_starts_alone_and_the_others_follow_at_once(unsafe: str) -> None:
    """Two startups at the same time have run one migration twice."""
    with simulated(4, lambda _: Behaviour(unsafe=unsafe)) as sim:
        sim.start()
        assert spawned_before_the_first_was_ready(sim) == 1
        (first, *others) = sim.find(Kind.READIED)
        assert first.fields["slot"] == 0
        assert {event.time for event in others} == {first.time + 0.1}


def test_after_all_workers_died_one_starts_alone_again() -> None:
    with simulated(3) as sim:
        sim.start()
        last = sim.cluster.journal.last
        for worker in sim.kernel.workers():
            sim.kernel.kill(worker.pid, signal.SIGKILL)
        sim.settle()
        assert sim.ready() == 3
        assert spawned_before_the_first_was_ready(sim, last) == 1


def test_after_a_pause_one_starts_alone_again() -> None:
    with simulated(3) as sim:
        sim.start()
        sim.order(lambda: orders.pause(sim.group))
        sim.settle()
        last = sim.cluster.journal.last
        sim.order(lambda: orders.resume(sim.group))
        sim.settle()
        assert sim.ready() == 3
        assert spawned_before_the_first_was_ready(sim, last) == 1


def test_a_later_worker_that_fails_to_start_is_tried_again_while_the_first_serves() -> None:
    with simulated(2) as sim:
        sim.until(lambda: sim.ready() == 1)
        for child in sim.kernel.children.values():
            child.behaviour.ready_time, child.behaviour.dies_after = None, 0.1
        sim.until(lambda: len(sim.find(Kind.EXITED)) == 5)
        assert sim.ready() == 1
        assert sim.find(Kind.BACKED_OFF, slot=1)
        for child in sim.kernel.children.values():
            child.behaviour.ready_time, child.behaviour.dies_after = 0.1, None
        sim.until(lambda: sim.ready() == 2)


def test_three_hundred_workers_are_not_started_at_once() -> None:
    with simulated(1) as sim:
        sim.start()
        most = sim.group.patience.at_once
        sim.order(lambda: orders.resize(sim.group, 300, "test"))
        booting = 0
        while sim.ready() < 300:
            sim.turn()
            booting = max(booting, sim.group.roster.count(Phase.BOOTING))
        assert booting == most


def test_a_killed_worker_comes_back_in_its_slot_at_once() -> None:
    with simulated(3) as sim:
        sim.start()
        victim = sim.kernel.workers()[1]
        sim.kernel.kill(victim.pid, signal.SIGKILL)
        before = sim.kernel.time
        sim.settle()
        assert sim.ready() == 3
        (event,) = sim.find(Kind.EXITED, pid=victim.pid, cause="SIGKILL", asked=False)
        assert event.fields["slot"] == victim.slot
        assert sim.find(Kind.READIED)[-1].fields["slot"] == victim.slot
        assert sim.kernel.time - before < 0.2, "there is no back-off for a first death"


def test_a_death_just_after_the_dead_were_collected_is_not_missed() -> None:
    """Its signal came while we looked: silencing the bell afterwards would lose it for ever."""
    with simulated(2) as sim:
        sim.start()
        first, second = sim.kernel.workers()
        reap = sim.kernel.reap

        def reap_then_one_more_dies() -> list[Death]:
            dead = reap()
            sim.kernel.kill(second.pid, signal.SIGKILL)
            return dead

        sim.kernel.reap = reap_then_one_more_dies  # type: ignore[method-assign]
        sim.kernel.kill(first.pid, signal.SIGKILL)
        sim.turn()
        sim.kernel.reap = reap  # type: ignore[method-assign]
        sim.settle()
        assert len(sim.find(Kind.EXITED)) == 2
        assert sim.ready() == 2


def test_with_nothing_to_do_the_master_sleeps_for_ever() -> None:
    with simulated(2) as sim:
        sim.start()
        sim.settle()
        waits = sim.kernel.waits
        sim.turn()
        assert sim.kernel.idle
        assert sim.kernel.waits == waits + 1


def test_a_slot_that_keeps_dying_young_is_backed_off_up_to_half_a_minute() -> None:
    """Once a worker was ready nothing is given up; the delays double and stay at their cap."""
    with simulated(1, lambda _: Behaviour(dies_after=0.0)) as sim:
        sim.until(lambda: len(sim.find(Kind.EXITED)) == 16)
        delays = [event.fields["retry_in"] for event in sim.find(Kind.BACKED_OFF)]
        assert len(delays) == 15, "the first death is replaced at once"
        for number, delay in enumerate(delays):
            full = min(30.0, 0.1 * 2**number)
            assert 0.8 * full - 0.001 <= delay <= full


def test_ten_seconds_of_life_are_forgiven() -> None:
    with simulated(1, lambda _: Behaviour(dies_after=11.0)) as sim:
        sim.until(lambda: len(sim.find(Kind.EXITED)) == 20)
        assert not sim.find(Kind.BACKED_OFF)


@pytest.mark.parametrize(("parallel", "tries"), [(False, 3), (True, 6)])
def test_workers_that_never_get_ready_are_tried_three_times_a_slot_then_given_up(
    parallel: bool, tries: int
) -> None:
    how = Behaviour(ready_time=None, dies_after=0.1)
    with simulated(2, lambda _: how, parallel_start=parallel) as sim:
        sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.NEVER_READY
        assert len(sim.find(Kind.SPAWNED)) == tries
        assert "3 times" in sim.find(Kind.GAVE_UP)[0].fields["reason"]


def test_an_import_error_at_first_start_is_given_up_at_once_with_its_traceback() -> None:
    with simulated(2, lambda _: Behaviour(import_error="no module named tea")) as sim:
        sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.NEVER_READY
        (event,) = sim.find(Kind.GAVE_UP)
        assert "no module named tea" in event.fields["reason"]
        assert event.fields["traceback"].startswith("Traceback")
        assert sim.kernel.spawned == ["zygote"]


def test_a_program_that_is_missing_is_the_reason_for_giving_up_and_not_its_zygotes_end() -> None:
    how = Behaviour(import_error="no program foo in $PATH", stage="command")
    with simulated(2, lambda _: how) as sim:
        sim.until(lambda: sim.loop.over)
        assert sim.find(Kind.GAVE_UP)[0].fields["reason"] == (
            "command failed: no program foo in $PATH"
        )


@pytest.mark.parametrize("how", [Behaviour(import_dies=True), Behaviour(import_time=1e9)])
def test_a_zygote_that_dies_or_hangs_while_importing_ends_a_first_start(how: Behaviour) -> None:
    with simulated(2, lambda _: how, startup_timeout=60.0) as sim:
        began = sim.kernel.time
        sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.NEVER_READY
        assert sim.kernel.time - began <= 61


def test_a_dead_zygote_is_rebuilt_and_workers_serve_on() -> None:
    with simulated(2) as sim:
        sim.start()
        (zygote,) = sim.kernel.zygotes()
        sim.kernel.kill(zygote.pid, signal.SIGKILL)
        sim.settle()
        assert sim.fewest == 2
        assert [z.generation for z in sim.group.roster.zygotes] == [1]
        assert len(sim.find(Kind.ZYGOTE_READIED)) == 2
        assert not sim.find(Kind.EXITED)


def test_zygotes_that_die_soon_after_they_were_loaded_wait_longer_and_longer() -> None:
    """It is their code that does not last, though its import goes well."""
    with simulated(1) as sim:
        sim.start()
        lasted = []
        for _ in range(5):
            sim.kernel.kill(sim.kernel.zygotes()[-1].pid, signal.SIGKILL)
            began = sim.kernel.time
            sim.settle()
            lasted.append(sim.kernel.time - began)
        retries = [event.fields["retry_in"] for event in sim.find(Kind.BACKED_OFF)]
        assert retries == [pytest.approx(wait, rel=0.2) for wait in (0.1, 0.2, 0.4, 0.8)]
        assert lasted == sorted(lasted)
        sim.kernel.time += 60.0
        sim.kernel.kill(sim.kernel.zygotes()[-1].pid, signal.SIGKILL)
        sim.settle()
        assert len(sim.find(Kind.BACKED_OFF)) == 4, "one that lived for long is replaced at once"
        assert sim.fewest == 1


def test_a_rebuilt_zygote_with_other_code_is_a_new_generation_with_a_canary() -> None:
    prints = iter(["old", "new"])
    with simulated(2, lambda _: Behaviour(fingerprint=next(prints, "new"))) as sim:
        # each child asks for its behaviour once; workers do not look at the fingerprint
        sim.kernel.behaviour = lambda _: Behaviour(
            fingerprint="old" if sim.kernel.spawned.count("zygote") == 1 else "new"
        )
        sim.start()
        sim.kernel.kill(sim.kernel.zygotes()[0].pid, signal.SIGKILL)
        sim.settle()
        assert sim.fewest == 2
        assert sim.find(Kind.ROLLOUT_FINISHED, generation=2)
        assert sim.ready(2) == 2


@pytest.mark.parametrize("then", ["resume", "reload"])
def test_a_zygote_rebuilt_in_a_pause_with_other_code_begins_no_rollout(then: str) -> None:
    """It would not end before the pause does, and a reload would wait for it."""
    with simulated(2, lambda _: Behaviour(fingerprint="old")) as sim:
        sim.start()
        sim.order(lambda: orders.pause(sim.group))
        sim.settle()
        sim.kernel.behaviour = lambda _: Behaviour(fingerprint="new")
        sim.kernel.kill(sim.kernel.zygotes()[0].pid, signal.SIGKILL)
        sim.until(lambda: len(sim.find(Kind.ZYGOTE_READIED)) == 2)
        assert sim.group.goal.candidate is None
        assert not sim.find(Kind.ROLLOUT_STARTED)
        if then == "resume":
            sim.order(lambda: orders.resume(sim.group))
        else:
            sim.reload()
        sim.settle()
        assert sim.find(Kind.ROLLOUT_FINISHED, generation=2)
        assert sim.ready(2) == 2


def test_a_fork_that_fails_is_tried_again_later_and_the_rest_serve() -> None:
    failing = Behaviour()
    with simulated(2, lambda _: failing) as sim:
        sim.start()
        failing.spawn_error = "Resource temporarily unavailable"
        sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
        sim.until(lambda: len(sim.find(Kind.SPAWN_FAILED)) == 4)
        assert sim.ready() == 1
        failing.spawn_error = ""
        sim.settle()
        assert sim.ready() == 2


def test_a_zygote_that_takes_orders_and_does_nothing_is_dropped() -> None:
    how = Behaviour()
    with simulated(1, lambda _: how) as sim:
        sim.start()
        zygote = sim.kernel.zygotes()[0]
        zygote.behaviour = Behaviour(deaf_zygote=True)
        sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
        began = sim.kernel.time
        sim.settle()
        assert (zygote.pid, signal.SIGKILL) in sim.kernel.killed
        assert sim.ready() == 1
        assert 10.0 <= sim.kernel.time - began < 13.0


def test_no_process_for_a_zygote_is_not_the_end() -> None:
    with simulated(1) as sim:
        sim.kernel.spawn_errors = [OSError(errno.EAGAIN, "again")] * 3
        sim.start()
        assert sim.ready() == 1
        assert len(sim.find(Kind.SPAWN_FAILED)) == 3


def test_a_worker_that_is_not_ready_in_time_is_killed() -> None:
    with simulated(1, lambda _: Behaviour(ready_time=None), startup_timeout=5.0) as sim:
        sim.until(lambda: bool(sim.find(Kind.KILLED)))
        assert sim.kernel.killed[0][1] == signal.SIGKILL
        assert "startup timeout" in sim.find(Kind.KILLED)[0].fields["reason"]


def test_a_deaf_worker_is_killed_three_seconds_after_the_graceful_timeout() -> None:
    with simulated(2, lambda _: Behaviour(drain_time=None), graceful_timeout=25.0) as sim:
        sim.start()
        began = sim.kernel.time
        sim.kernel.send(signal.SIGTERM)
        sim.until(lambda: sim.loop.over)
        assert sim.kernel.time == pytest.approx(began + 28.0)
        assert sim.cluster.exit is Exit.OK


def test_term_in_the_middle_of_a_boot_stops() -> None:
    with simulated(2, lambda _: Behaviour(import_time=50.0)) as sim:
        sim.turn()
        sim.kernel.send(signal.SIGTERM)
        began = sim.kernel.time
        sim.until(lambda: sim.loop.over)
        assert sim.kernel.time == began
        assert sim.cluster.exit is Exit.OK


def test_a_stop_says_that_nobody_else_serves_these_listeners() -> None:
    with simulated(1) as sim:
        sim.start()
        worker = sim.kernel.workers()[0]
        sim.kernel.send(signal.SIGTERM)
        sim.until(lambda: sim.loop.over)
        (drain,) = [m for m in worker.heard if isinstance(m, Drain)]
        assert drain.last
        assert not drain.handover


def test_a_second_interrupt_is_quick_and_a_third_kills() -> None:
    with simulated(2, lambda _: Behaviour(drain_time=None)) as sim:
        sim.start()
        began = sim.kernel.time
        for _ in range(3):
            sim.kernel.send(signal.SIGINT)
            sim.turn()
        sim.until(lambda: sim.loop.over)
        assert sim.kernel.time == began
        assert sim.cluster.exit is Exit.OK


def test_scaling_up_and_down_never_below_one() -> None:
    with simulated(2) as sim:
        sim.start()
        sim.kernel.send(signal.SIGTTIN)
        sim.settle()
        assert sim.ready() == 3
        sim.kernel.pending[signal.SIGTTOU] = 9
        sim.settle()
        assert sim.ready() == 1
        assert [worker.slot for worker in sim.group.roster.workers.values()] == [0]


def test_signals_add_workers_beyond_what_a_command_takes_for_a_slip() -> None:
    """One at a time it is none, and a signal cannot say --force."""
    with simulated(2) as sim:
        sim.start()
        usual = orders.PER_CPU * available_cpus()
        sim.kernel.pending[signal.SIGTTIN] = usual
        sim.turn()
        assert sim.group.goal.size == min(orders.MOST, 2 + usual)
        assert not sim.find(Kind.TROUBLE)


def test_a_worker_that_wants_to_go_is_replaced_before_it_does() -> None:
    with simulated(2) as sim:
        sim.start()
        leaver = sim.kernel.workers()[0]
        leaver.channel.send(Leaving("TERM"))
        sim.settle()
        assert sim.fewest == 2
        assert leaver.pid not in sim.kernel.children
        assert sim.find(Kind.RETIRED, pid=leaver.pid, reason="replaced")
        assert sim.ready() == 2


UNSAFE = Behaviour(unsafe="the thread 'x'")


def test_where_forking_is_unsafe_each_worker_imports_for_itself() -> None:
    """The zygote that imported becomes the first worker, and a bare one takes its place."""
    with simulated(3, lambda _: UNSAFE) as sim:
        sim.start()
        assert sim.kernel.spawned == ["zygote", "zygote", "worker", "worker"]
        (first, *_) = sim.find(Kind.ZYGOTE_SPAWNED)
        assert sim.find(Kind.READIED)[0].fields["pid"] == first.fields["pid"]
        assert [zygote.bare for zygote in sim.kernel.zygotes()] == [True]
        sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
        sim.settle()
        assert sim.ready() == 3
        assert not sim.find(Kind.ZYGOTE_EXITED)


def test_the_zygote_of_an_application_that_cannot_be_forked_is_rebuilt_bare() -> None:
    with simulated(2, lambda _: UNSAFE) as sim:
        sim.start()
        sim.kernel.kill(sim.kernel.zygotes()[0].pid, signal.SIGKILL)
        sim.settle()
        (zygote,) = sim.kernel.zygotes()
        assert zygote.bare
        readied = sim.find(Kind.ZYGOTE_READIED)[-1]
        assert readied.fields["import_per_worker"] == "the thread 'x'"
        assert sim.ready() == 2


def test_one_warning_a_generation_says_why_each_worker_imports_for_itself() -> None:
    why = Behaviour(unsafe="the import left the thread 'x'", left="threads")
    with simulated(2, lambda _: why) as sim:
        sim.start()
        (event,) = sim.find(Kind.IMPORT_PER_WORKER)
        assert event.level == logging.WARNING
        assert event.fields["reason"] == "the import left the thread 'x'"
        assert "memory" in event.fields["price"]
        assert event.fields["remedy"] == "Mend. See 'man clusterd-importing'."
        assert sim.find(Kind.ZYGOTE_READIED, import_per_worker="threads")
        sim.kernel.kill(sim.kernel.zygotes()[0].pid, signal.SIGKILL)
        sim.settle()
        assert len(sim.find(Kind.IMPORT_PER_WORKER)) == 1, "its rebuilt zygote says it again"


def test_an_import_per_worker_that_was_asked_for_is_no_warning() -> None:
    with simulated(2, lambda _: Behaviour(unsafe="preload is never")) as sim:
        sim.start()
        assert sim.find(Kind.ZYGOTE_READIED, import_per_worker="preload is never")
        assert not sim.find(Kind.IMPORT_PER_WORKER)


def test_an_application_without_a_worker_to_give_it_to_is_let_go() -> None:
    """A rebuilt zygote finds what the first one did not: all slots have their workers already."""
    how = Behaviour()
    with simulated(2, lambda _: how) as sim:
        sim.start()
        how.unsafe = "the thread 'x'"
        pids = {worker.pid for worker in sim.kernel.workers()}
        sim.kernel.kill(sim.kernel.zygotes()[0].pid, signal.SIGKILL)
        sim.settle()
        assert [zygote.bare for zygote in sim.kernel.zygotes()] == [True]
        assert {worker.pid for worker in sim.kernel.workers()} == pids
        assert sim.fewest == 2


def test_without_preload_there_is_no_import_outside_workers() -> None:
    with simulated(2) as sim:
        sim.group.configs[1] = replace(sim.config, app=replace(sim.config.app, preload="never"))
        for worker in (0, 1):
            sim.until(lambda ready=worker: sim.ready() > ready)  # type: ignore[misc]
        assert sim.kernel.spawned == ["zygote", "worker", "worker"]
        assert [zygote.bare for zygote in sim.kernel.zygotes()] == [True]


def test_pause_lets_all_leave_and_resume_brings_them_back() -> None:
    with simulated(2) as sim:
        sim.start()
        workers = sim.kernel.workers()
        sim.kernel.send(signal.SIGWINCH)
        sim.settle()
        assert not sim.group.roster.workers
        heard = [message for worker in workers for message in worker.heard]
        assert heard
        assert not any(isinstance(message, Drain) and message.last for message in heard)
        sim.order(lambda: orders.resume(sim.group))
        sim.settle()
        assert sim.ready(1) == 2


def test_forks_that_fail_everywhere_at_first_are_no_reason_to_give_up_at_once() -> None:
    failing = Behaviour(spawn_error="Resource temporarily unavailable")
    with simulated(2, lambda _: failing) as sim:
        sim.until(lambda: len(sim.find(Kind.SPAWN_FAILED)) == 5)
        assert not sim.find(Kind.GAVE_UP)
        failing.spawn_error = ""
        sim.start()


def test_winch_at_a_terminal_is_only_a_window_that_changed() -> None:
    with simulated(1) as sim:
        sim.cluster.terminal = sim.kernel.terminal = True
        sim.start()
        sim.kernel.send(signal.SIGWINCH)
        sim.settle()
        assert sim.ready() == 1


def test_hup_after_the_terminal_is_gone_means_stop() -> None:
    with simulated(1) as sim:
        sim.cluster.terminal = True
        sim.start()
        sim.kernel.send(signal.SIGHUP)
        sim.until(lambda: sim.loop.over)
        assert sim.cluster.exit is Exit.OK


def dumped(sim: Simulation, answers: bool) -> None:
    sim.start()
    worker = sim.kernel.workers()[0]
    worker.behaviour = Behaviour(answers_dumps=answers)
    sim.order(lambda: orders.dump(sim.group, list(sim.group.roster.workers)))
    sim.settle()


def test_a_worker_that_answers_a_dump_is_left_alone() -> None:
    with simulated(1) as sim:
        dumped(sim, answers=True)
        assert not sim.kernel.killed
        assert sim.find(Kind.DUMPED, by="worker")


def test_a_worker_that_is_silent_for_a_second_is_signalled_python_first_then_faulthandler() -> None:
    with simulated(1) as sim:
        dumped(sim, answers=False)
        assert [number for _, number in sim.kernel.killed] == [LOOK_SIGNAL, FAULT_SIGNAL]
        assert sim.ready() == 1


@pytest.mark.parametrize("dumps", [True, False])
def test_a_worker_that_is_deaf_to_a_quick_stop_shows_its_stack_before_it_is_killed(
    dumps: bool,
) -> None:
    with simulated(1, lambda _: Behaviour(drain_time=None, answers_dumps=False)) as sim:
        sim.start()
        (worker,) = sim.kernel.workers()
        sim.order(lambda: orders.quit_now(sim.cluster, "a test", dumps=dumps))
        sim.until(lambda: sim.loop.over)
        signals = [number for pid, number in sim.kernel.killed if pid == worker.pid]
        assert signals == [*([LOOK_SIGNAL, FAULT_SIGNAL] if dumps else []), signal.SIGKILL]


def test_after_a_long_stop_of_the_master_itself_nobody_is_killed_for_it() -> None:
    """SIGSTOP, then CONT: the clock jumped, but what was said meanwhile is heard first."""
    how = Behaviour(ready_time=0.2)
    with simulated(2, lambda _: how, startup_timeout=5.0, parallel_start=True) as sim:
        sim.until(lambda: sim.group.roster.count(Phase.BOOTING) == 2)
        sim.until(lambda: all(w.pid for w in sim.group.roster.workers.values()))
        for _, _, act in [sim.kernel.timers.pop() for _ in sim.kernel.timers[:]]:
            act()
        sim.kernel.time += 3600
        sim.turn()
        assert sim.ready() == 2
        assert not sim.kernel.killed


def test_a_strangers_death_is_reaped_and_nothing_else() -> None:
    with simulated(1) as sim:
        sim.start()
        before = len(sim.events)
        sim.kernel.dead.append(Death(99999, 1))
        sim.kernel.send(signal.SIGCHLD)
        sim.settle()
        assert len(sim.events) == before
