"""Any facts in any order: the simulated master reaches its goal, and never spins or raises."""

import contextlib
import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clusterd.core.errors import ConfigError
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.messages import Leaving
from clusterd.master import orders, reload
from tests.support.fake import Behaviour, Child, Tried
from tests.support.simulated import Simulation, simulated

MOST_TURNS = 3000  # to reach a goal; some two hundred are the rule
MOST_STILL = 60  # turns in a row in which no time passes; a roll of six takes fewer

CODE = {
    "good": {},
    "slow": {"import_time": 3.0, "ready_time": 1.5, "drain_time": 2.0},
    "instant": {"import_time": 0.0, "ready_time": 0.0, "drain_time": 0.0},
    "deaf to drain": {"drain_time": None},
    "unsafe": {"unsafe": "the thread 'x'"},
    "silent": {"answers_dumps": False},
    "import error": {"import_error": "oops"},
    "dies while importing": {"import_dies": True},
    "import hangs": {"import_time": 1e9},
    "never ready": {"ready_time": None},
    "fails to start": {"ready_time": None, "dies_after": 0.1},
    "dies when ready": {"dies_after": 0.5},
    "cannot be forked": {"spawn_error": "no memory"},
    "takes no orders": {"deaf_zygote": True},
}


@dataclass
class World:
    """A cluster, the code on its disk, and what was promised about it so far."""

    sim: Simulation
    deploys: int = 0
    code: Behaviour = field(default_factory=Behaviour)
    still: int = 0

    def turn(self) -> None:
        sim, before = self.sim, self.sim.kernel.time
        goal, ready = sim.group.goal, self._ready()
        sim.turn()
        self.still = self.still + 1 if sim.kernel.time == before else 0
        assert self.still < MOST_STILL, f"the master spins; {sim.kinds()[-20:]}"
        if goal.mode is Mode.SERVING is sim.group.goal.mode:
            self._nothing_lost(ready, min(goal.size, sim.group.goal.size))

    def _ready(self) -> dict[int, int]:
        """Pid and slot of those who are ready."""
        everyone = self.sim.group.roster.workers.values()
        return {w.pid: w.slot for w in everyone if w.phase is Phase.READY and w.pid}

    def _nothing_lost(self, before: dict[int, int], size: int) -> None:
        """A slot that had a ready worker has one, unless one of its own died by itself."""
        gone = set(before) - {w.pid for w in self.sim.group.roster.workers.values()}
        bereaved = {before[pid] for pid in gone}
        lost = set(before.values()) - set(self._ready().values()) - bereaved
        assert not {slot for slot in lost if slot < size}, self.sim.kinds()[-20:]

    def until(self, done: Callable[[], bool]) -> None:
        for _ in range(MOST_TURNS):
            if done():
                return
            self.turn()
            asleep = self.sim.kernel.idle and not self.sim.kernel.timers
            assert done() or not asleep, f"it sleeps for ever: {self.sim.kinds()[-20:]}"
        raise AssertionError(f"it does not come to rest: {self.sim.kinds()[-40:]}")

    def at_rest(self) -> bool:
        """Each slot has one ready worker of the stable generation, and nobody else is there."""
        group = self.sim.group
        if group.goal.mode is Mode.STOPPING:
            return self.sim.loop.over
        wanted = set(range(group.goal.size)) if group.goal.mode is Mode.SERVING else set()
        workers, lost = group.roster.workers.values(), group.roster.lost
        rolling = group.goal.candidate is not None and group.goal.mode is Mode.SERVING
        return bool(
            not rolling
            and {w.slot for w in workers} == wanted
            and len(workers) == len(wanted)
            and all(w.phase is Phase.READY and w.generation == group.goal.stable for w in workers)
            and (group.roster.zygote(group.goal.stable) or group.goal.stable in lost)
        )


Act = Callable[[World, int], None]


def pick(children: list[Child], number: int) -> Child | None:
    return children[number % len(children)] if children else None


def kill_worker(world: World, number: int) -> None:
    if child := pick(world.sim.kernel.workers(), number):
        world.sim.kernel.kill(child.pid, signal.SIGKILL)


def kill_zygote(world: World, number: int) -> None:
    if child := pick(world.sim.kernel.zygotes(), number):
        world.sim.kernel.kill(child.pid, signal.SIGKILL)


def deploy(world: World, number: int) -> None:
    """Other code lies on the disk now; who imports it from now on behaves like this."""
    world.deploys += 1
    how = list(CODE.values())[number % len(CODE)]
    world.code = Behaviour(fingerprint=f"deploy {world.deploys}", **how)  # type: ignore[arg-type]


def deploy_and_reload(world: World, number: int) -> None:
    deploy(world, number)
    world.sim.kernel.send(signal.SIGHUP)


def leave(world: World, number: int) -> None:
    ready = [child for child in world.sim.kernel.workers() if child.ready]
    if child := pick(ready, number):
        child.channel.send(Leaving("max requests"))


def recycle(world: World, number: int) -> None:
    ready = [child for child in world.sim.kernel.workers() if child.ready]
    if child := pick(ready, number):
        child.channel.send(Leaving("max_requests", recycle=True))


def forks_fail(world: World, number: int) -> None:
    if child := pick(world.sim.kernel.zygotes(), number):
        child.behaviour.spawn_error = "" if child.behaviour.spawn_error else "no memory"


def spawns_fail(world: World, number: int) -> None:
    world.sim.kernel.spawn_errors += [OSError(errno.EAGAIN, "again")] * (1 + number % 3)


def upgrade(world: World, number: int) -> None:
    """Fit, broken or hanging; the next one is like this, too."""
    world.sim.kernel.trial = TRIALS[number % len(TRIALS)]
    world.sim.kernel.send(signal.SIGUSR2)


TRIALS = [
    Tried(time=0.0),
    Tried(),
    Tried(time=2.0),
    Tried(says="no tea", code=1),
    Tried(time=None),
]


def ordered(act: Callable[[Simulation, int], object]) -> Act:
    """A control command: what is refused is refused politely."""

    def order(world: World, number: int) -> None:
        def once() -> None:
            try:
                act(world.sim, number)
            except ConfigError:
                return

        world.sim.order(once)

    return order


def signalled(name: signal.Signals) -> Act:
    return lambda world, _number: world.sim.kernel.send(name)


ACTS: dict[str, Act] = {
    "kill worker": kill_worker,
    "kill zygote": kill_zygote,
    "deploy": deploy,
    "deploy, HUP": deploy_and_reload,
    "leave": leave,
    "recycle": recycle,
    "forks fail": forks_fail,
    "spawns fail": spawns_fail,
    "upgrade": upgrade,
    "scale": ordered(lambda sim, n: orders.scale(sim.group, n % 6, "test")),
    "rollback": ordered(lambda sim, _: reload.rollback(sim.group)),
    "resume": ordered(lambda sim, _: orders.resume(sim.group)),
    "dump": ordered(lambda sim, _: orders.dump(sim.group, list(sim.group.roster.workers))),
    "HUP": signalled(signal.SIGHUP),
    "TTIN": signalled(signal.SIGTTIN),
    "TTOU": signalled(signal.SIGTTOU),
    "WINCH": signalled(signal.SIGWINCH),
}
# What happens, to whom, and how many turns until the next thing does.
FACTS = st.tuples(
    st.sampled_from([*ACTS, *["deploy, HUP"] * 3, *["kill worker"] * 2, "HUP", "upgrade"]),
    st.integers(0, 20),
    st.sampled_from([0, 0, 1, 1, 2, 3, 5, 8, 20]),
)
LAST = st.sampled_from([(signal.SIGTERM,), (signal.SIGTERM, signal.SIGQUIT), (signal.SIGINT,) * 3])


def descriptors() -> int:
    """Sockets and pipes of ours that are open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith(("socket:", "pipe:"))
    return found


def heal(world: World) -> None:
    """The world is well again: good code on the disk, and forks succeed."""
    world.sim.kernel.spawn_errors.clear()
    world.deploys += 1
    world.code = Behaviour(fingerprint=f"deploy {world.deploys}")
    for child in world.sim.kernel.children.values():
        child.behaviour.spawn_error = ""


@settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@example(  # proven and finished in one turn, with nobody to wake the master
    workers=3,
    started=False,
    facts=[("WINCH", 19, 5), ("HUP", 11, 0), ("scale", 1, 0), ("kill worker", 17, 2)],
    settle=True,
    last=(signal.SIGTERM,),
)
@example(  # the zygote that died is rebuilt from code that never gets ready
    workers=1,
    started=True,
    facts=[("deploy", 9, 2), ("kill zygote", 10, 20)],
    settle=True,
    last=(signal.SIGTERM,),
)
@example(  # the stable code is lost, and what replaces it fails half-way
    workers=4,
    started=True,
    facts=[
        ("deploy, HUP", 12, 20),
        ("TTIN", 1, 1),
        ("kill zygote", 17, 20),
        ("forks fail", 6, 1),
        ("TTOU", 4, 5),
        ("kill zygote", 2, 3),
    ],
    settle=True,
    last=(signal.SIGTERM,),
)
@example(  # a pause and a stop in one turn: who is still ready empties the queues
    workers=1,
    started=True,
    facts=[("WINCH", 0, 0)],
    settle=False,
    last=(signal.SIGTERM,),
)
@given(
    workers=st.integers(1, 4),
    started=st.booleans(),
    facts=st.lists(FACTS, max_size=20),
    settle=st.booleans(),
    last=LAST,
)
def test_whatever_happens_it_converges_and_leaves_nothing(
    workers: int,
    started: bool,
    facts: list[tuple[str, int, int]],
    settle: bool,
    last: tuple[signal.Signals, ...],
) -> None:
    open_before = descriptors()
    with simulated(workers, startup_timeout=8.0, graceful_timeout=6.0) as sim:
        world = World(sim)
        sim.kernel.behaviour = lambda _generation: world.code
        if started:
            world.until(world.at_rest)
        for name, number, turns in facts:
            world.still = 0
            ACTS[name](world, number)
            for _ in range(turns):
                if not sim.loop.over:
                    world.turn()
        if settle:
            heal(world)
            if not started:  # what came up first may be broken code, and then takes a deploy
                sim.kernel.send(signal.SIGHUP)
                world.turn()
            world.until(world.at_rest)
        if not sim.loop.over:
            for number in last:
                world.still = 0
                sim.kernel.send(number)
                world.turn()
            world.until(lambda: sim.loop.over)
        nothing_left(sim)
    assert descriptors() == open_before


def nothing_left(sim: Simulation) -> None:
    group = sim.group
    tables = (group.handles, group.zygote_channels, group.dumps, group.covers)
    assert not any(tables)
    assert not sim.kernel.watched
    assert not sim.kernel.children
