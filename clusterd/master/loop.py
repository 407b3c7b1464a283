"""The loop is three verbs: wait, absorb, perform. No step may block; a roll is many turns."""

from math import inf

from clusterd.core.errors import Bug
from clusterd.core.events import Kind
from clusterd.core.exits import Exit
from clusterd.fleet.goal import Mode
from clusterd.fleet.plan import plan
from clusterd.fleet.rollout import hopeless
from clusterd.kernel.signals import FAULT_SIGNAL
from clusterd.master import absorb, certificates, cover, orders, reload, signals
from clusterd.master.cluster import Cluster
from clusterd.master.control import Control
from clusterd.master.perform import perform

REST = 1.0  # seconds after a fault of our own, in which only signals wake us
MOST_ROUNDS = 100  # of planning in one turn; two are the rule, more than a few a bug


class Loop:
    """Turns until the cluster has stopped."""

    def __init__(self, cluster: Cluster, control: Control | None = None) -> None:
        self.cluster = cluster
        self.control = control
        self.due = 0.0  # the first turn does not wait

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
        """Stopped, and every child is gone."""
        roster = self.cluster.roster
        stopping = self.cluster.goal.mode is Mode.STOPPING
        left = bool(roster.workers or roster.zygotes or self.cluster.goal.sweep)
        return stopping and not left

    def turn(self) -> None:
        """Wait; take in the facts; look at the rollout; do what the plan says.

        Each part is guarded by itself, so that one that fails costs no other: what was reaped or
        signalled is told only once.
        """
        guard = self.cluster.guard
        keys = self.cluster.kernel.wait(self._timeout())
        guard(self._absorb, keys)
        guard(self._ask_again)
        guard(self._give_up)
        guard(self._act)
        guard(cover.arrange, self.cluster)
        guard(certificates.settle, self.cluster)

    def _act(self) -> None:
        """Judge, plan and perform until there is nothing more to do now."""
        cluster = self.cluster
        for _ in range(MOST_ROUNDS):
            news = reload.settle(cluster)
            due = plan(cluster.roster, cluster.goal, cluster.patience, cluster.kernel.now())
            for action in due.actions:
                cluster.guard(perform, cluster, action)
            if not due.actions and not news:
                self.due = min(due.due, cluster.next_deadline())
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
            unborn = [w.row for w in cluster.roster.workers.values() if w.pid is None]
            for row in unborn:
                cluster.guard(absorb.worker_spoke, cluster, row)
        for key in keys:
            cluster.guard(self._heard, key)
        for death in dead:
            cluster.guard(absorb.died, cluster, death)
        for number, count in rang.items():
            cluster.guard(signals.obey, cluster, number, count)

    def _heard(self, key: object) -> None:
        match key:
            case ("worker", int(row)):
                absorb.worker_spoke(self.cluster, row)
            case ("zygote", int(pid)):
                absorb.zygote_spoke(self.cluster, pid)
            case ("dump", int(row)):
                absorb.dump_arrived(self.cluster, row)
            case ("control", int(number)) if self.control is not None:
                self.control.woke(number)

    def _ask_again(self) -> None:
        """Workers that did not answer from Python: faulthandler answers for them."""
        cluster, now = self.cluster, self.cluster.kernel.now()
        for row in [row for row, dump in cluster.dumps.items() if dump.deadline <= now]:
            dump, worker = cluster.dumps[row], cluster.roster.workers[row]
            if dump.faulted or worker.pid is None:
                absorb.dump_over(cluster, row)
                continue
            dump.faulted, dump.deadline = True, now + orders.DUMP_PATIENCE
            cluster.kernel.kill(worker.pid, FAULT_SIGNAL)

    def _give_up(self) -> None:
        """A first start that leads nowhere ends; a service that once served never does."""
        cluster = self.cluster
        reason = hopeless(cluster.roster, cluster.goal, cluster.patience, cluster.kernel.now())
        if reason:
            wrong = cluster.goal.stable in cluster.misconfigured
            cluster.exit = Exit.CONFIG if wrong else Exit.NEVER_READY
            trace = cluster.tracebacks.get(cluster.goal.stable, "")
            cluster.note(Kind.GAVE_UP, reason=reason, traceback=trace)
            orders.quit_now(cluster, "no worker ever became ready")
