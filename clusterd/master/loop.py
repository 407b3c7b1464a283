"""The loop is three verbs: wait, absorb, perform. No step may block; a roll is many turns."""

from math import inf

from clusterd.core.errors import Bug
from clusterd.core.events import Kind
from clusterd.core.exits import Exit
from clusterd.fleet.plan import plan
from clusterd.fleet.rollout import hopeless
from clusterd.kernel.signals import FAULT_SIGNAL, LOOK_SIGNAL
from clusterd.master import (
    absorb,
    certificates,
    cover,
    ending,
    growth,
    orders,
    orphans,
    reload,
    sequence,
    signals,
    upgrade,
    vitals,
)
from clusterd.master.cluster import Cluster
from clusterd.master.control import Control
from clusterd.master.group import Group
from clusterd.master.notify import Manager
from clusterd.master.perform import perform

REMEDY = "Repair it and start again; 'clusterd check' looks at app and settings."
REST = 1.0  # seconds after a fault of our own, in which only signals wake us
MOST_ROUNDS = 100  # of planning in one turn; two are the rule, more than a few a bug


class Loop:
    """Turns until the cluster has stopped."""

    def __init__(
        self, cluster: Cluster, control: Control | None = None, manager: Manager | None = None
    ) -> None:
        self.cluster = cluster
        self.control = control
        self.manager = manager
        self.due = 0.0  # the first turn does not wait
        self._waiting: set[str] = set()  # groups that are to start after others

    def run(self) -> Exit:
        """Turn until nothing of ours is left; why it stopped."""
        while not self.over:
            self.turn()
            if self.cluster.fault is not None:
                self._endure()
        return self.cluster.exit

    def _endure(self) -> None:
        """Something of ours failed, and is journaled: try again, but do not spin on it."""
        self.cluster.fault = None
        self.cluster.kernel.rest(REST)
        self.due = 0.0

    @property
    def over(self) -> bool:
        """Stopped, and every child of every group is gone."""
        cluster = self.cluster
        gone = cluster.stopping and all(group.over for group in cluster.groups.values())
        return gone and cluster.orphans.over

    def turn(self) -> None:
        """Wait; take in the facts; look at the rollout; do what the plan says.

        Each part is guarded by itself, so that one that fails costs no other: what was reaped or
        signalled is told only once.
        """
        guard = self.cluster.guard
        keys = self.cluster.kernel.wait(self._timeout())
        guard(self._absorb, keys)
        if self._only_looked(keys):
            return
        guard(orphans.settle, self.cluster)
        guard(sequence.settle, self.cluster)
        self.due = self.cluster.orphans.due
        for group in list(self.cluster.groups.values()):
            guard(self._ask_again, group)
            guard(absorb.judge, group)
            guard(vitals.extend, group)
            guard(self._give_up, group)
            guard(growth.look, group)
            guard(ending.hand_on_queues, group)
            guard(self._act, group)
            guard(cover.arrange, group)
            guard(certificates.settle, group)
        guard(absorb.announce, self.cluster)
        if self._somebody_may_move():
            self.due = 0.0
        if self.manager is not None:
            guard(self.manager.turn)
            self.due = min(self.due, self.manager.due)
        guard(upgrade.settle, self.cluster, self.control)
        self.due = min(self.due, upgrade.due(self.cluster))

    def _only_looked(self, keys: list[object]) -> bool:
        """Was this turn for those alone who ask how things are? Nothing follows from that, and
        they may ask often: a scrape costs half as much without a plan."""
        control = self.control
        if control is None or not keys or self.due <= self.cluster.kernel.now():
            return False
        commanded, control.commanded = control.commanded, False
        return not commanded and all(key[:1] == ("control",) for key in keys)  # type: ignore[index]

    def _somebody_may_move(self) -> bool:
        """Did this turn free a group that comes before or after another in the order?"""
        groups = self.cluster.groups.values()
        if self.cluster.stopping:
            return bool(sequence.leavers(self.cluster))
        return any(group.over for group in groups) or any(
            group.name in self._waiting and not sequence.waits(group) for group in groups
        )

    def _act(self, group: Group) -> None:
        """Judge, plan and perform until there is nothing more to do now."""
        kernel = self.cluster.kernel
        if sequence.waits(group):
            self._waiting.add(group.name)
            return
        self._waiting.discard(group.name)
        for _ in range(MOST_ROUNDS):
            ending.settle(group)
            news = reload.settle(group)
            due = plan(group.roster, group.goal, group.patience, kernel.now())
            for action in due.actions:
                self.cluster.guard(perform, group, action)
            if not due.actions and not news:
                self.due = min(self.due, due.due, group.next_deadline())
                return
        raise Bug(f"the plan does not come to rest: {due.actions}")

    def _timeout(self) -> float | None:
        """Sleep until something is due; for ever when nothing is."""
        return None if self.due == inf else max(0.0, self.due - self.cluster.kernel.now())

    def _absorb(self, keys: list[object]) -> None:
        """Facts in an order that makes sense of them.

        The bell is silenced before the dead are collected: one who dies in between rings again.
        Whoever died has said all it ever will before that: so the dead are collected next, and
        counted after everything that was said has been heard.
        """
        cluster = self.cluster
        rang = cluster.kernel.signals() if "signals" in keys else {}
        dead = cluster.kernel.reap() if "signals" in keys else []
        if dead:
            for group in cluster.groups.values():
                for row in [w.row for w in group.roster.workers.values() if w.pid is None]:
                    cluster.guard(absorb.worker_spoke, group, row)
        for key in keys:
            cluster.guard(self._heard, key)
        for death in dead:
            if not upgrade.died(cluster, death):
                cluster.guard(absorb.died, cluster, death)
        for halt in cluster.kernel.halts() if "signals" in keys else []:
            cluster.guard(vitals.halted, cluster, halt)
        for number, count in rang.items():
            cluster.guard(signals.obey, cluster, number, count)

    def _heard(self, key: object) -> None:
        match key:
            case ("worker", str(name), int(row)) if name in self.cluster.groups:
                absorb.worker_spoke(self.cluster.groups[name], row)
            case ("zygote", str(name), int(pid)) if name in self.cluster.groups:
                absorb.zygote_spoke(self.cluster.groups[name], pid)
            case ("dump", str(name), int(row)) if name in self.cluster.groups:
                absorb.dump_arrived(self.cluster.groups[name], row)
            case ("pressure", str(name)) if name in self.cluster.groups:
                reload.pressed(self.cluster.groups[name])
            case ("trial",):
                upgrade.spoke(self.cluster)
            case ("control", int(number)) if self.control is not None:
                self.control.woke(number)

    def _ask_again(self, group: Group) -> None:
        """Workers that did not answer from Python: faulthandler answers for them."""
        now = group.kernel.now()
        for row in [row for row, dump in group.dumps.items() if dump.deadline <= now]:
            dump, worker = group.dumps[row], group.roster.workers[row]
            if dump.threads and worker.pid is not None:
                dump.thread, dump.deadline = dump.threads.pop(0), now + absorb.QUIET
                group.kernel.kill_thread(worker.pid, dump.thread, FAULT_SIGNAL)
                continue
            if dump.faulted or worker.pid is None:
                absorb.dump_over(group, row)
                continue
            if not dump.looked:
                dump.looked, dump.deadline = True, now + absorb.QUIET
                group.kernel.kill(worker.pid, LOOK_SIGNAL)
                continue
            dump.faulted, dump.deadline = True, now + orders.DUMP_PATIENCE
            group.kernel.kill(worker.pid, FAULT_SIGNAL)

    def _may_come_up(self, group: Group) -> bool:
        """Is it on its way, as far as can be known?"""
        now = group.kernel.now()
        lost = hopeless(group.roster, group.goal, group.patience, now)
        return not lost and not sequence.waits(group)

    def _give_up(self, group: Group) -> None:
        """A first start that leads nowhere ends; a service that once served never does."""
        cluster = self.cluster
        reason = hopeless(group.roster, group.goal, group.patience, cluster.kernel.now())
        if not reason:
            return
        others = [one for one in cluster.wanted if group.is_command or not one.is_command]
        if group.is_internal or cluster.announced or any(o.roster.ever_ready for o in others):
            # Others serve, or did: this one is tried again and again, more and more rarely.
            group.roster.faults.pop(group.goal.stable, None)
            return
        if group.is_command and any(map(self._may_come_up, others)):
            return  # a program fails in a moment, and an application takes its time to import
        wrong = group.goal.stable in group.misconfigured
        cluster.exit = Exit.CONFIG if wrong else Exit.NEVER_READY
        trace = group.tracebacks.get(group.goal.stable, "")
        if group.last_failure and group.goal.stable not in group.roster.faults:
            reason = f"{reason}; the last time: {group.last_failure}"
        remedy = group.remedy or REMEDY
        group.note(Kind.GAVE_UP, reason=reason, traceback=trace, remedy=remedy)
        orders.quit_now(cluster, "no worker ever became ready")
