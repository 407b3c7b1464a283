"""A worker or zygote that breaks the rules of its channel is killed, reported and replaced."""

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from clusterd.config.kinds import MAIN
from clusterd.core.events import Kind
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.budget import BYTES, PIECES
from clusterd.ipc.messages import (
    Draining,
    Dumped,
    Hello,
    Leave,
    Leaving,
    Message,
    Ready,
    Unspawned,
    Unwell,
)
from clusterd.master import absorb, orders
from clusterd.master.absorb import MOST_HEARD
from clusterd.master.group import Dump
from tests.support import fake
from tests.support.fake import Behaviour, Child
from tests.support.lingering import does_not_wait, lingering
from tests.support.simulated import Simulation, config, simulated

ZYGOTE, WORKER = 100, 101  # the first pids of a simulation
NOBODYS = 4711


def says_hello_as(monkeypatch: pytest.MonkeyPatch, lies: dict[int, int]) -> None:
    """Have newborns claim other pids."""

    def lie(pid: int, slot: int, row: int, generation: int) -> Hello:
        return Hello(lies.get(pid, pid), slot, row, generation)

    monkeypatch.setattr(fake, "Hello", lie)


def killed(sim: Simulation) -> list[int]:
    return [pid for pid, number in sim.kernel.killed if number == signal.SIGKILL]


@pytest.mark.parametrize("claim", [0, -1, 1, NOBODYS, ZYGOTE])
def test_a_newborn_that_claims_another_pid_is_killed_by_its_own(
    monkeypatch: pytest.MonkeyPatch, claim: int
) -> None:
    with simulated(1) as sim:
        says_hello_as(monkeypatch, {WORKER: claim})
        sim.kernel.senders = {claim: WORKER}
        sim.start()
        (breach,) = sim.find(Kind.BREACH)
        assert f"process {WORKER} said hello as process {claim}" in breach.fields["reason"]
        assert breach.fields["sender"] == WORKER
        assert killed(sim) == [WORKER]
        assert sim.ready() == 1, "it was replaced"
        sim.order(lambda: orders.stop(sim.cluster, "test"))
        sim.until(lambda: sim.loop.over)
        assert claim not in killed(sim)


def test_a_claim_to_be_a_sibling_falls_upon_the_one_who_made_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The zygote, say: what it says in the place of a newborn comes from itself."""
    with simulated(2) as sim:
        says_hello_as(monkeypatch, {WORKER + 1: WORKER})
        sim.kernel.senders = {WORKER: WORKER}
        sim.start()
        assert "known already" in sim.find(Kind.BREACH)[0].fields["reason"]
        assert WORKER in killed(sim)
        pids = {worker.pid for worker in sim.group.roster.workers.values()}
        assert len(pids) == 2, "no two workers share a pid"


def test_a_process_that_is_no_child_of_ours_is_no_worker_and_not_signalled() -> None:
    """By the time of a signal its pid could be another's: only children wait to be reaped."""
    with simulated(1) as sim:
        sim.kernel.not_ours = {WORKER}
        sim.start()
        assert "no child of the master" in sim.find(Kind.BREACH)[0].fields["reason"]
        assert killed(sim) == []
        assert sim.group.roster.by_pid(WORKER) is None
        sim.order(lambda: orders.stop(sim.cluster, "test"))
        sim.until(lambda: sim.loop.over)


def test_hello_names_the_slot_and_row_that_were_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated(1) as sim:
        lies = iter((7,))

        def lie(pid: int, slot: int, row: int, generation: int) -> Hello:
            return Hello(pid, next(lies, slot), row, generation)

        monkeypatch.setattr(fake, "Hello", lie)
        sim.start()
        assert "as another worker" in sim.find(Kind.BREACH)[0].fields["reason"]
        assert killed(sim) == [WORKER]


def test_what_comes_before_hello_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    with simulated(1) as sim:
        first = iter([Ready])

        def said(pid: int, slot: int, row: int, generation: int) -> Message:
            early = next(first, None)
            return early(pid, slot, generation) if early else Hello(pid, slot, row, generation)

        monkeypatch.setattr(fake, "Hello", said)
        sim.turn()
        sim.until(lambda: bool(sim.find(Kind.BREACH)))
        assert "before hello" in sim.find(Kind.BREACH)[0].fields["reason"]
        assert not sim.find(Kind.READIED)


def say(*messages: Message) -> Callable[[Child], object]:
    return lambda child: [child.channel.send(one) for one in messages]


def write(packet: bytes) -> Callable[[Child], object]:
    return lambda child: child.channel.sock.send(packet)


BREACHES: list[tuple[Callable[[Child], object], str]] = [
    (say(Leave()), "may not send 'Leave'"),
    (say(Hello(NOBODYS, 0, 0, 1)), "said hello"),
    (write(b"noise"), "no message"),
    (write(b"[1, 2]"), "no message"),
    (write(b'["Ready", {"colour": 1}]'), "no field"),
    (write(b"[" * 50_000), "no message"),
    (write(b"\xff" * 70_000), "more than"),
    (write(b""), "no message"),
]


@pytest.mark.parametrize(("act", "words"), BREACHES)
@pytest.mark.parametrize("speaker", ["worker", "zygote"])
def test_a_breach_costs_the_speaker_and_nobody_else(
    act: Callable[[Child], object], words: str, speaker: str
) -> None:
    """The simulation fails where the master takes it for a fault of its own, and rests."""
    with simulated(2) as sim:
        sim.start()
        sim.kernel.time += 60
        child = (sim.kernel.workers() if speaker == "worker" else sim.kernel.zygotes())[0]
        sim.kernel.senders = {NOBODYS: child.pid}
        act(child)
        sim.settle()
        (breach,) = sim.find(Kind.BREACH)
        foreign = speaker == "zygote" and words in ("said hello", "no field")
        assert ("may not send" if foreign else words) in breach.fields["reason"]
        assert breach.fields["pid"] == child.pid
        assert killed(sim) == [child.pid]
        assert sim.group.roster.by_pid(NOBODYS) is None
        assert sim.ready() == 2
        assert not sim.find(Kind.BACKED_OFF)
        assert len(sim.kernel.zygotes()) == 1
        assert not sim.find(Kind.TROUBLE)


def test_a_worker_that_never_stops_talking_is_replaced_at_once_and_others_are_heard() -> None:
    with simulated(2) as sim:
        sim.start()
        sim.kernel.time += 60
        loud, other = sim.kernel.workers()
        flood(sim, loud)
        other.channel.send(Leaving("TERM"))
        sim.turn()
        (breach,) = sim.find(Kind.BREACH)
        assert "messages at once" in breach.fields["reason"]
        assert sim.find(Kind.LEAVING, pid=other.pid), "heard in the same turn"
        sim.settle()
        assert sim.ready() == 2
        assert not sim.find(Kind.BACKED_OFF, slot=loud.slot)
        assert sim.group.restarts == {loud.slot: 1}
        assert sim.fewest == 1
        assert sim.cluster.tallies.exits[MAIN] == {"breach": 1, "replaced": 1}


def flood(sim: Simulation, child: Child) -> None:
    """Say more than a turn hears: a channel holds fewer, so it is filled again and again."""
    channel = sim.group.handles[child.row].channel
    hear, heard = channel.hear, []

    def refilled(from_worker: bool) -> Any:
        heard.append(child.channel.send(Draining()))
        assert len(heard) < MOST_HEARD
        return hear(from_worker)

    channel.hear = refilled  # type: ignore[method-assign]
    child.channel.send(Draining())


def test_one_that_breaks_the_rules_again_and_again_is_backed_off() -> None:
    with simulated(1) as sim:
        sim.start()
        for _ in range(6):
            sim.kernel.workers()[-1].channel.sock.send(b"noise")
            sim.settle()
        assert len(sim.find(Kind.BACKED_OFF)) == 5, "the first costs nothing"
        assert sim.ready() == 1


def test_long_texts_are_too_many_bytes() -> None:
    with simulated(1) as sim:
        sim.start()
        child = sim.kernel.workers()[0]
        size, sent = 60_000, 0
        while not sim.find(Kind.BREACH):
            child.channel.send(Unwell("busy", "it is", "x" * size))
            sent += size
            sim.turn()
            assert sent < 2 * BYTES[0]
        assert "bytes at once" in sim.find(Kind.BREACH)[0].fields["reason"]


def test_dumps_that_somebody_asks_for_are_not_counted() -> None:
    """`clusterd dump` in a loop must not cost a worker."""
    with simulated(1) as sim:
        sim.start()
        child = sim.kernel.workers()[0]
        worker = sim.group.roster.workers[child.row]
        for _ in range(100):
            orders_a_dump(sim)
            child.channel.send(Dumped("x" * 60_000))
            absorb.worker_spoke(sim.group, worker.row)
        assert not sim.find(Kind.BREACH)
        assert len(sim.find(Kind.DUMPED)) == 100


def orders_a_dump(sim: Simulation) -> None:
    (row,) = sim.group.roster.workers
    sim.group.dumps[row] = Dump(sim.kernel.time + 5)


def test_a_worker_that_never_stops_writing_stacks_is_replaced() -> None:
    """Each piece wakes the master, however small it is."""
    with simulated(1) as sim:
        sim.start()
        (worker,) = sim.group.roster.workers.values()
        handles = sim.group.handles[worker.row]
        handles.channel.pieces.count.size = handles.channel.pieces.count.level = 20
        assert PIECES[0] > 33 * 100 * 6, "a dump of 33 threads with 100 frames each may come whole"
        read, write_end = sim.kernel.pipe()
        handles.dump, theirs = read, handles.dump
        for _ in range(22):
            os.write(write_end, b"x")
            absorb.dump_arrived(sim.group, worker.row)
        os.close(write_end)
        os.close(theirs)
        assert "stacks" in sim.find(Kind.BREACH)[0].fields["reason"]
        assert worker.phase is Phase.KILLED
        assert killed(sim) == [worker.pid]


def test_a_worker_that_drains_and_breaks_the_rules_is_killed_once() -> None:
    with simulated(1, lambda _: Behaviour(drain_time=None)) as sim:
        sim.start()
        (child,) = sim.kernel.workers()
        sim.order(lambda: orders.stop(sim.cluster, "test"))
        sim.turn()
        child.channel.sock.send(b"noise")
        child.channel.sock.send(b"noise")
        sim.until(lambda: sim.loop.over)
        assert killed(sim) == [child.pid]
        assert len(sim.find(Kind.BREACH)) == 1


def test_descriptors_are_a_breach_where_the_kernel_lets_them_through() -> None:
    with simulated(1) as sim:
        sim.start()
        (child,) = sim.kernel.workers()
        if child.channel.send(Draining(), [0]):
            sim.settle()
            assert "descriptors" in sim.find(Kind.BREACH)[0].fields["reason"]
        else:
            sim.settle()
            assert not sim.find(Kind.BREACH)
        assert sim.ready() == 1


def test_who_lived_long_is_replaced_at_once_however_often_it_happens() -> None:
    """Only the slot of one that breaks the rules young, again and again, waits."""
    with simulated(1) as sim:
        sim.start()
        for _ in range(4):
            sim.kernel.time += 60
            sim.kernel.workers()[-1].channel.sock.send(b"noise")
            sim.settle()
        assert not sim.find(Kind.BACKED_OFF)
        assert sim.group.restarts == {0: 4}


def test_zygotes_that_break_the_rules_as_soon_as_they_are_loaded_wait() -> None:
    with simulated(1) as sim:
        sim.start()
        for _ in range(6):
            sim.kernel.zygotes()[-1].channel.sock.send(b"noise")
            sim.settle()
        assert sim.group.roster.importing.deaths == 6
        assert sim.ready() == 1, "whose worker serves on"


@pytest.mark.parametrize("whose", ["worker", "zygote"])
def test_a_speaker_is_killed_before_its_channel_is_closed(
    whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of its channel it would take the master for gone, and act for all the others."""
    with simulated(2) as sim:
        sim.start()
        children = sim.kernel.workers() if whose == "worker" else sim.kernel.zygotes()
        child, kill, heard = children[0], sim.kernel.kill, list[int]()

        def look_and_kill(pid: int, number: int) -> None:
            if pid == child.pid and not heard:
                child.channel.sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    child.channel.sock.recv(65536)  # '' at the end of the channel
                heard.append(pid)
            kill(pid, number)

        monkeypatch.setattr(sim.kernel, "kill", look_and_kill)
        child.channel.sock.send(b"noise")
        sim.settle()
        assert heard == [child.pid]
        assert sim.ready() == 2


def test_a_zygote_of_another_version_has_failed_and_is_no_traitor() -> None:
    with simulated(1, lambda g: Behaviour(import_time=5.0 if g == 2 else 0.5)) as sim:
        sim.start()
        sim.reload()
        sim.until(lambda: len(sim.kernel.zygotes()) == 2)
        loading = sim.kernel.zygotes()[-1]
        for _ in range(3):
            loading.channel.sock.send(b'["Loaded", {"generation": 2, "colour": "red"}]')
        loading.channel.sock.send(b'["Tea", {}]')
        sim.settle()
        assert len(sim.find(Kind.ZYGOTE_FAILED, generation=2)) == 1
        assert "changed on disk" in sim.find(Kind.ROLLOUT_FAILED)[0].fields["reason"]
        assert not sim.find(Kind.BREACH)
        assert sim.ready(1) == 1


@pytest.mark.parametrize("unsafe", ["the thread 'x'", ""])
def test_a_worker_of_another_version_has_failed_where_it_started_from_the_disk(unsafe: str) -> None:
    """Forked ones are of the zygote's version, so that is a breach as any."""
    how = Behaviour(unsafe=unsafe)
    with simulated(2, lambda _: how) as sim:
        sim.start()
        how.ready_time = None
        first = len(sim.find(Kind.SPAWNED))
        sim.kernel.kill(sim.kernel.workers()[0].pid, signal.SIGKILL)
        sim.until(lambda: len(sim.find(Kind.SPAWNED)) > first and len(sim.kernel.workers()) == 2)
        booting = next(child for child in sim.kernel.workers() if not child.ready)
        booting.channel.sock.send(b'["Ready", {"pid": 1, "colour": "red"}]')
        how.ready_time = 0.1
        sim.settle()
        assert booting.pid in killed(sim)
        assert sim.ready() == 2
        if unsafe:
            (failed,) = sim.find(Kind.WORKER_FAILED, pid=booting.pid)
            assert "changed on disk" in failed.fields["reason"]
            assert failed.fields["remedy"].startswith("Say clusterd upgrade")
        assert bool(sim.find(Kind.BREACH)) == (not unsafe)


def test_a_descriptor_that_blocks_in_the_queue_between_workers_does_not_block_the_end() -> None:
    """Workers pass each other connections there, so the kernel cannot refuse descriptors."""
    sim = Simulation(config(1))
    (group,) = sim.cluster.groups.values()
    with lingering() as sock:
        socket.send_fds(group.handover[1], [b"connection"], [sock.fileno()])
        sock.close()
        does_not_wait(sim.close)
    assert [end.fileno() for end in group.handover] == [-1, -1]


def test_as_many_failed_forks_as_were_ordered_are_no_flood() -> None:
    """Where no more processes may be, each order fails, and all of them within milliseconds."""
    behaviour = Behaviour()
    with simulated(1, lambda _: behaviour) as sim:
        sim.start()
        behaviour.spawn_error = "Resource temporarily unavailable"
        sim.order(lambda: orders.scale(sim.group, 400, "test", force=True))
        sim.until(lambda: len(sim.find(Kind.SPAWN_FAILED)) >= 399)
        assert not sim.find(Kind.BREACH)
        assert len(sim.kernel.zygotes()) == 1


def test_failed_forks_that_nobody_ordered_are_a_flood() -> None:
    with simulated(1) as sim:
        sim.start()
        (zygote,) = sim.kernel.zygotes()
        while not sim.find(Kind.BREACH):
            zygote.channel.send(Unspawned(0, "no"))
            sim.turn()
        assert sim.find(Kind.BREACH)[0].fields["pid"] == zygote.pid
