"""What the master does about workers that stand still, on a fake kernel."""

import os
import signal
from collections.abc import Iterator

import pytest

from clusterd.core.errors import ConfigError
from clusterd.core.events import Event, Kind
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import Worker
from clusterd.ipc.messages import Dumped, Unwell
from clusterd.ipc.scoreboard import Cell
from clusterd.kernel import threads
from clusterd.kernel.real import Halt
from clusterd.kernel.signals import FAULT_SIGNAL, LOOK_SIGNAL
from clusterd.master import absorb, commands, orders, report, vitals, waiters
from clusterd.master.group import Pipe
from tests.support.fake import Behaviour
from tests.support.simulated import Simulation, simulated

STACK = b'Stack (most recent call first):\n  File "shop.py", line 7 in buy\n'
AT_REST = b'Stack (most recent call first):\n  File "/x/clusterd/worker/main.py", line 9 in run\n'
DEAF = Behaviour(drain_time=None, answers_dumps=False)  # as one that stands still


@pytest.fixture
def two() -> Iterator[Simulation]:
    """Two workers that do not hear, with the defaults: 5 s, 30 s, 300 s."""
    with simulated(workers=2, behaviour=lambda _: DEAF) as simulation:
        yield simulation.start()


def worker_of(sim: Simulation, slot: int) -> Worker:
    return next(w for w in sim.group.roster.live() if w.slot == slot)


def beat(sim: Simulation, worker: Worker, ago: float = 0.0) -> None:
    """Its row says when its loop last turned."""
    row = sim.group.board.row(worker.row)
    row[Cell.HEARTBEAT] = int((sim.kernel.time - ago) * 1e6)


def dump_of(sim: Simulation, worker: Worker, text: bytes = STACK) -> None:
    """Its timer went off: faulthandler writes."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    handles = sim.group.handles[worker.row]
    sim.kernel.unwatch(Pipe(handles.dump))
    os.close(handles.dump)
    handles.dump = read
    sim.kernel.watch(Pipe(read), ("dump", sim.group.name, worker.row))
    os.write(write, text)
    os.close(write)
    sim.loop.due = 0.0


def block(sim: Simulation, slot: int = 0) -> Worker:
    """A worker whose loop stands still since five seconds; the master has heard of it."""
    worker = worker_of(sim, slot)
    beat(sim, worker, ago=5.4)
    dump_of(sim, worker)
    sim.until(lambda: bool(sim.find(Kind.BLOCKED)))
    return worker


def test_a_blocked_worker_is_told_of_and_replaced_the_replacement_first(two: Simulation) -> None:
    began = two.kernel.time - 5.0
    block(two)
    (event,) = two.find(Kind.BLOCKED)
    assert event.fields["traceback"] == STACK.decode()
    assert (event.fields["slot"], event.fields["replaced_in"]) == (0, 25.0)
    assert not two.find(Kind.DUMPED)
    assert [each["phase"] for each in report.workers_status(two.group, 0.0)] == ["blocked", "ready"]

    two.until(lambda: bool(two.find(Kind.READIED, slot=0)[1:]))
    assert two.kernel.time - began == pytest.approx(30.0, abs=0.5)
    reason = two.find(Kind.LEAVING, slot=0)[0].fields["reason"]
    assert reason == "blocked for 30 s (hang_timeout); it had 0.25 s of CPU"
    assert two.fewest == 2

    two.until(lambda: bool(two.find(Kind.EXITED)))
    assert two.find(Kind.KILLED)[0].fields["reason"] == "it is blocked"
    # It could not hear that it was to leave: no graceful timeout for it.
    assert two.kernel.time - began < 30.5 + vitals.LAST_CHANCE + 0.5
    two.settle()
    assert two.ready() == 2


def test_the_master_does_not_wake_for_workers_that_are_well(two: Simulation) -> None:
    two.settle()
    assert two.kernel.idle


@pytest.mark.parametrize(("text", "told"), [(STACK, True), (AT_REST, False)])
def test_what_was_over_when_the_news_came_is_no_block(
    two: Simulation, text: bytes, told: bool
) -> None:
    """Stopped and continued: the timer's signal and the next beat come at the same time."""
    worker = worker_of(two, 0)
    beat(two, worker, ago=900.0)
    dump_of(two, worker, text)
    two.turn()
    beat(two, worker)
    two.settle()
    assert not two.find(Kind.BLOCKED)
    assert bool(two.find(Kind.DUMPED)) == told
    assert two.ready() == 2


def test_one_that_comes_round_is_not_replaced(two: Simulation) -> None:
    worker = block(two)
    beat(two, worker)
    vitals.unwell(two.group, worker, Unwell("recovered", "its event loop stood still for 9 s"))
    two.settle()
    assert two.find(Kind.RECOVERED)[0].fields["reason"].endswith("for 9 s")
    assert worker.condition == ""
    assert not two.find(Kind.LEAVING)


def test_one_that_came_round_without_a_word_is_not_replaced_either(two: Simulation) -> None:
    worker = block(two)
    beat(two, worker)
    two.settle()
    assert two.find(Kind.RECOVERED)
    assert not two.find(Kind.LEAVING)


def test_a_master_that_was_frozen_itself_gives_it_another_while(two: Simulation) -> None:
    worker = block(two)
    two.kernel.time += 7200.0  # nobody ran
    two.turn()
    assert not two.find(Kind.LEAVING)
    beat(two, worker)
    two.settle()
    assert not two.find(Kind.LEAVING)
    assert two.find(Kind.RECOVERED)


def test_frozen_and_still_blocked_it_is_replaced_after_all(two: Simulation) -> None:
    block(two)
    two.kernel.time += 7200.0
    two.until(lambda: bool(two.find(Kind.LEAVING)))


@pytest.mark.parametrize("phase", [Phase.BOOTING, Phase.DRAINING])
def test_startup_and_leaving_are_not_judged(two: Simulation, phase: Phase) -> None:
    worker = worker_of(two, 0)
    worker.phase = phase
    beat(two, worker, ago=60.0)
    assert not vitals.dumped(two.group, worker, "stack")
    vitals.halted(two.cluster, Halt(worker.pid or 0, "SIGSTOP"))
    assert worker.condition == ""


def test_other_threads_are_asked_one_after_another(
    two: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "CAN_DUMP_RUNNING", True)
    two.kernel.other_threads = [901, 902, 903]
    worker = worker_of(two, 0)
    beat(two, worker, ago=5.4)
    dump_of(two, worker)
    two.until(lambda: (901, FAULT_SIGNAL) in two.kernel.killed)
    assert (902, FAULT_SIGNAL) not in two.kernel.killed
    dump_of(two, worker, b"Stack of the one\n")
    two.until(lambda: (902, FAULT_SIGNAL) in two.kernel.killed)
    # 902 runs nothing of Python's: it writes nothing.
    two.until(lambda: (903, FAULT_SIGNAL) in two.kernel.killed)
    dump_of(two, worker, b"Stack of the other\n")
    two.until(lambda: bool(two.find(Kind.DUMPED)))
    text = two.find(Kind.DUMPED)[0].fields["traceback"]
    assert text == "thread 901\nStack of the one\nthread 903\nStack of the other\n"
    assert len(two.find(Kind.BLOCKED)) == 1


def test_where_that_may_crash_them_threads_are_asked_at_the_very_last(
    two: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "CAN_DUMP_RUNNING", False)
    two.kernel.other_threads = [901]
    worker = block(two)
    two.until(lambda: worker.phase is Phase.DRAINING)
    assert (901, FAULT_SIGNAL) not in two.kernel.killed
    two.until(lambda: (901, FAULT_SIGNAL) in two.kernel.killed)
    dump_of(two, worker)
    two.until(lambda: bool(two.find(Kind.EXITED)))
    assert two.find(Kind.DUMPED)[0].fields["traceback"] == "thread 901\n" + STACK.decode()


def test_what_a_blocked_worker_tells_in_python_is_the_news(two: Simulation) -> None:
    worker = worker_of(two, 0)
    beat(two, worker, ago=5.4)
    absorb.dumped(two.group, worker, Dumped("all stacks"))
    (event,) = two.find(Kind.BLOCKED)
    assert event.fields["traceback"] == "all stacks"
    assert not two.find(Kind.DUMPED)
    two.settle()
    assert not any(number == FAULT_SIGNAL for _, number in two.kernel.killed)


def test_a_dump_that_was_asked_for_is_answered_also_where_it_tells_of_a_block(
    two: Simulation,
) -> None:
    worker = worker_of(two, 0)
    beat(two, worker, ago=10.0)
    orders.dump(two.group, [worker.row])
    dump_of(two, worker)
    two.until(lambda: bool(two.find(Kind.DUMPED)))
    assert two.find(Kind.BLOCKED)


def test_what_never_ends_is_no_dump_and_is_not_kept(two: Simulation) -> None:
    worker = worker_of(two, 0)
    read, write = os.pipe()
    os.set_blocking(read, False)
    handles = two.group.handles[worker.row]
    two.kernel.unwatch(Pipe(handles.dump))
    os.close(handles.dump)
    handles.dump = read
    two.kernel.watch(Pipe(read), ("dump", two.group.name, worker.row))
    for _ in range(absorb.MOST_DUMPED // absorb.DUMP_PIECE + 2):
        os.write(write, b"x" * absorb.DUMP_PIECE)
        two.turn()
    os.close(write)
    assert len(two.group.dumps[worker.row].text) <= absorb.MOST_DUMPED
    two.until(lambda: bool(two.find(Kind.DUMPED)))


def test_a_stopped_process_is_told_of_by_the_kernel_and_replaced(two: Simulation) -> None:
    worker, began = worker_of(two, 1), two.kernel.time
    beat(two, worker)
    two.kernel.halted.append(Halt(worker.pid or 0, "SIGSTOP"))
    two.kernel.send(signal.SIGCHLD)
    two.until(lambda: bool(two.find(Kind.READIED, slot=1)[1:]))
    assert two.kernel.time - began == pytest.approx(30.0, abs=0.5)
    (event,) = two.find(Kind.HALTED)
    assert event.fields["reason"] == "stopped by SIGSTOP"
    two.until(lambda: bool(two.find(Kind.EXITED)))
    assert two.find(Kind.KILLED)[0].fields["reason"] == "it is halted"


def test_stopped_and_continued_it_serves_on(two: Simulation) -> None:
    worker = worker_of(two, 1)
    for by in ("SIGSTOP", ""):
        two.kernel.halted.append(Halt(worker.pid or 0, by))
        two.kernel.send(signal.SIGCHLD)
        two.turn()
    two.settle()
    assert two.find(Kind.RECOVERED)
    assert not two.find(Kind.LEAVING)
    assert two.kernel.idle


def test_one_that_only_its_sibling_misses_is_asked_and_replaced(two: Simulation) -> None:
    """As in an uninterruptible sleep: its timer's signal waits with it, and ours as well."""
    began = two.kernel.time
    worker, other = worker_of(two, 0), worker_of(two, 1)
    beat(two, worker, ago=8.1)
    vitals.unwell(two.group, other, Unwell("silent", "", row=worker.row))
    two.loop.due = 0.0
    two.until(lambda: (worker.pid, FAULT_SIGNAL) in two.kernel.killed)
    two.until(lambda: bool(two.find(Kind.READIED, slot=0)[1:]))
    (event,) = two.find(Kind.BLOCKED)
    assert event.fields["traceback"] == "it did not even answer the signal"
    assert two.kernel.time - began == pytest.approx(26.0, abs=0.5)


def test_a_debugger_is_not_disturbed(two: Simulation) -> None:
    worker, other = worker_of(two, 0), worker_of(two, 1)
    two.kernel.does = "t"
    beat(two, worker, ago=8.1)
    vitals.unwell(two.group, other, Unwell("silent", "", row=worker.row))
    two.settle()
    assert not two.find(Kind.BLOCKED)
    assert not two.kernel.killed


def test_a_worker_that_a_tracer_of_the_applications_stops_is_replaced(two: Simulation) -> None:
    """It may be dying, and be held up at its exit."""
    worker, other = worker_of(two, 0), worker_of(two, 1)
    two.kernel.does, two.kernel.tracer = "t", 4321
    beat(two, worker, ago=8.1)
    vitals.unwell(two.group, other, Unwell("silent", "", row=worker.row))
    two.until(lambda: bool(two.find(Kind.READIED, slot=0)[1:]))
    (event,) = two.find(Kind.HALTED)
    assert (event.fields["pid"], event.fields["replaced_in"]) == (worker.pid, 30.0)
    assert "process 4321, which traces it" in event.fields["reason"]


@pytest.mark.parametrize("row", [0, 77])
def test_a_sibling_that_is_well_or_gone_is_no_news(two: Simulation, row: int) -> None:
    beat(two, worker_of(two, 0))
    vitals.unwell(two.group, worker_of(two, 1), Unwell("silent", "", row=row))
    two.settle()
    assert not two.find(Kind.BLOCKED)


def test_what_a_worker_says_of_itself_is_told(two: Simulation) -> None:
    worker = worker_of(two, 0)
    vitals.unwell(two.group, worker, Unwell("busy", "thread burner", "the stacks"))
    (event,) = two.find(Kind.BUSY)
    assert event.fields["traceback"] == "the stacks"
    assert worker.condition == "busy"
    two.settle()
    assert two.ready() == 2


def test_a_restart_replaces_at_once_and_answers_when_it_is_done(two: Simulation) -> None:
    old, began = worker_of(two, 1), two.kernel.time
    beat(two, old)
    waiter = commands.answer(two.cluster, {"command": "restart", "slot": 1})
    assert not isinstance(waiter, dict)
    two.loop.due = 0.0
    two.until(lambda: bool(two.find(Kind.READIED, slot=1)[1:]))
    event = two.find(Kind.READIED, slot=1)[1]
    assert waiter(two.find(Kind.READIED, slot=0)[0]) is None
    assert waiter(event) == {"ok": True, "slot": 1, "pid": event.fields["pid"]}
    assert two.kernel.time - began < 0.5
    assert two.fewest == 2
    assert (old.pid, FAULT_SIGNAL) not in two.kernel.killed  # it is well
    two.turn()
    assert old.deadline > two.kernel.time + 20.0  # and drains


@pytest.mark.parametrize("kind", [Kind.WORKER_FAILED, Kind.SPAWN_FAILED])
def test_a_restart_that_comes_to_nothing_is_answered_with_the_reason(kind: Kind) -> None:
    waiter = waiters.Restarted("web", 1)
    failure = {"reason": "its startup failed", "traceback": "ValueError"}
    assert waiter(Event(1, 0.0, kind, {"group": "web", "slot": 0, **failure})) is None
    assert waiter(Event(2, 0.0, kind, {"group": "web", "slot": 1, **failure})) == {
        "ok": False,
        "error": "its startup failed",
        "remedy": "what served there serves on",
        "traceback": "ValueError",
    }


def test_a_restart_of_a_blocked_worker_has_its_stack_and_does_not_wait_for_it(
    two: Simulation,
) -> None:
    old, began = worker_of(two, 1), two.kernel.time
    beat(two, old, ago=3.0)
    two.order(lambda: orders.restart(two.group, 1, "test"))
    two.until(lambda: (old.pid, LOOK_SIGNAL) in two.kernel.killed)
    two.until(lambda: (old.pid, FAULT_SIGNAL) in two.kernel.killed)
    dump_of(two, old)
    two.until(lambda: bool(two.find(Kind.EXITED, slot=1)))
    assert two.find(Kind.DUMPED, slot=1)[0].fields["traceback"] == STACK.decode()
    assert two.kernel.time - began < 0.5 + vitals.LAST_CHANCE


@pytest.mark.parametrize("slot", [2, -1])
def test_there_is_no_such_slot(two: Simulation, slot: int) -> None:
    with pytest.raises(ConfigError, match="there is no slot"):
        orders.restart(two.group, slot, "test")


def test_a_paused_group_has_nothing_to_restart(two: Simulation) -> None:
    orders.pause(two.group)
    with pytest.raises(ConfigError, match="it is paused"):
        orders.restart(two.group, 0, "test")


def test_a_reload_waits_no_longer_for_a_blocked_worker_than_hang_timeout(two: Simulation) -> None:
    began = two.kernel.time - 5.0
    worker = block(two)
    two.reload()
    two.until(lambda: worker.phase is Phase.GONE)
    assert two.kernel.time - began == pytest.approx(30.0, abs=0.5)


def test_one_that_comes_round_while_it_is_to_leave_has_its_time(two: Simulation) -> None:
    worker = block(two)
    two.until(lambda: worker.phase is Phase.DRAINING)
    assert worker.deadline < two.kernel.time + 2.0
    beat(two, worker)
    two.until(lambda: bool(two.find(Kind.RECOVERED)))
    assert worker.deadline > two.kernel.time + 20.0


def kept_waiting(sim: Simulation, worker: Worker, seconds: float) -> None:
    """So long has it waited for a CPU since its last heartbeat."""
    assert worker.pid is not None
    sim.group.board.row(worker.row)[Cell.WAITED] = 1
    sim.kernel.kept_waiting[worker.pid] = seconds


def test_time_spent_waiting_for_a_cpu_is_no_hang(two: Simulation) -> None:
    """Of 5.4 s without a heartbeat it was given 0.4: it is asked again later."""
    worker = worker_of(two, 0)
    beat(two, worker, ago=5.4)
    kept_waiting(two, worker, 5.0)
    dump_of(two, worker)
    now = two.kernel.time
    two.until(lambda: (worker.pid, LOOK_SIGNAL) in two.kernel.killed)
    assert two.kernel.time - now == pytest.approx(4.6, abs=0.3)
    assert not two.find(Kind.BLOCKED)
    assert not two.find(Kind.DUMPED)


def test_hang_timeout_counts_what_the_worker_was_given(two: Simulation) -> None:
    began = two.kernel.time - 5.0
    worker = block(two)
    kept_waiting(two, worker, 20.0)
    two.until(lambda: bool(two.find(Kind.LEAVING)))
    assert two.kernel.time - began == pytest.approx(50.0, abs=0.5)
    reason = two.find(Kind.LEAVING)[0].fields["reason"]
    assert reason.startswith("blocked for 30 s (hang_timeout); it had 0.25 s of CPU")
    assert "waited 20.0 s for more" in reason


def test_startup_timeout_counts_what_the_worker_was_given() -> None:
    with simulated(workers=1, behaviour=lambda _: Behaviour(ready_time=None)) as sim:
        sim.until(lambda: any(w.pid for w in sim.group.roster.workers.values()))
        (worker,) = sim.group.roster.workers.values()
        assert worker.pid is not None
        sim.kernel.kept_waiting[worker.pid] = 40.0
        sim.until(lambda: bool(sim.find(Kind.KILLED)))
        assert sim.kernel.time - worker.born == pytest.approx(100.0, abs=0.5)
        assert "waited 40.00 s for more" in sim.find(Kind.KILLED)[0].fields["reason"]


def test_startup_timeout_counts_what_an_import_was_given() -> None:
    with simulated(workers=1, behaviour=lambda _: Behaviour(import_time=1000.0)) as sim:
        sim.until(lambda: bool(sim.group.roster.zygotes))
        (zygote,) = sim.group.roster.zygotes
        sim.kernel.kept_waiting[zygote.pid] = 40.0
        sim.until(lambda: bool(sim.find(Kind.KILLED)))
        assert sim.kernel.time - zygote.since == pytest.approx(100.0, abs=0.5)


def test_the_cpu_time_since_a_heartbeat_is_exact_after_a_month_too(
    two: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_of(two, 0)
    month = 30 * 86400
    two.group.board.row(worker.row)[Cell.CPU] = month * 1_000_000
    monkeypatch.setattr(two.kernel, "used", lambda _pid: month + 1.5)
    assert vitals.cpu(two.group, worker) == pytest.approx(1.5, abs=0.01)
