"""What each control command means: one table. Every signal has its twin here, which answers."""

from collections.abc import Callable
from typing import Any

from clusterd import __version__
from clusterd.core.errors import ClusterdError, ConfigError
from clusterd.core.events import Event, Kind
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.fleet.roster import Worker
from clusterd.ipc.scoreboard import Cell
from clusterd.master import certificates, orders, reload
from clusterd.master.cluster import Cluster

Reply = dict[str, Any]
# Hears every event; the reply once there is one.
Waiter = Callable[[Event], Reply | None]


def answer(cluster: Cluster, request: dict[str, Any]) -> Reply | Waiter:
    """The reply to a request, or who will have it once something has happened."""
    name = request.get("command")
    act = TABLE.get(str(name))
    if act is None:
        return refused(f"there is no command {name!r}", f"known: {', '.join(TABLE)}, events")
    if name not in ("status",):
        cluster.note(Kind.ORDERED, command=name)
    try:
        return act(cluster, request)
    except ClusterdError as error:
        return refused(error.message, error.remedy)
    except (TypeError, ValueError, OverflowError) as error:
        return refused(f"{name}: {error}")


def refused(error: str, remedy: str = "", **more: Any) -> Reply:
    """A reply that says no."""
    return {"ok": False, "error": error, "remedy": remedy, **more}


def done(**fields: Any) -> Reply:
    """A reply that says yes."""
    return {"ok": True, **fields}


def stop(cluster: Cluster, request: dict[str, Any]) -> Reply:
    if request.get("quick"):
        orders.quit_now(cluster, "clusterd stop --quick", dumps=True)
    else:
        orders.stop(cluster, "clusterd stop")
    return done()


def begin(cluster: Cluster, request: dict[str, Any]) -> Reply | Waiter:
    generation = reload.begin(cluster, "clusterd reload")
    if generation is None:
        number = cluster.generations + 1  # the one that follows the rollout under way
        return rollout_over(number) if request.get("wait") else done(generation=number, queued=True)
    return rollout_over(generation) if request.get("wait") else done(generation=generation)


def rollback(cluster: Cluster, request: dict[str, Any]) -> Reply | Waiter:
    generation = reload.rollback(cluster)
    return rollout_over(generation) if request.get("wait") else done(generation=generation)


def rollout_over(generation: int) -> Waiter:
    """Answers when the rollout of a generation has ended, either way."""

    def hear(event: Event) -> Reply | None:
        if event.kind is Kind.RELOAD_REFUSED:
            return refused(event.fields["reason"], event.fields.get("remedy", ""))
        if event.fields.get("generation") != generation:
            return None
        if event.kind is Kind.ROLLOUT_FINISHED:
            return done(generation=generation)
        if event.kind is Kind.ROLLOUT_FAILED:
            serving = event.fields["serving"]
            return refused(
                f"generation {generation} did not come up: {event.fields['reason']}",
                f"generation {serving} serves on",
                traceback=event.fields.get("traceback", ""),
                generation=serving,
            )
        return None

    return hear


def renew(cluster: Cluster, _request: dict[str, Any]) -> Waiter:
    """Answers when every worker uses the certificates that are on disk now, or why none does."""
    mine = {"generation": cluster.goal.stable, "renewal": certificates.renew(cluster)}

    def hear(event: Event) -> Reply | None:
        if not mine.items() <= event.fields.items():
            return None
        if event.kind is Kind.CERTIFICATES_REFUSED:
            remedy = event.fields["remedy"] or "the certificates in use stay"
            return refused(event.fields["reason"], remedy)
        return done(names=event.fields["names"], expires=event.fields["expires"])

    return hear


def scale(cluster: Cluster, request: dict[str, Any]) -> Reply:
    if ("to" in request) == ("by" in request):
        raise ConfigError("scale: either 'to' or 'by' is wanted")
    size = int(request["to"]) if "to" in request else cluster.goal.size + int(request["by"])
    return done(size=orders.scale(cluster, size, "clusterd scale"))


def pause(cluster: Cluster, _request: dict[str, Any]) -> Reply:
    orders.pause(cluster)
    return done()


def resume(cluster: Cluster, _request: dict[str, Any]) -> Reply:
    orders.resume(cluster)
    return done()


def reopen(cluster: Cluster, _request: dict[str, Any]) -> Reply:
    orders.reopen(cluster)
    return done()


def dump(cluster: Cluster, _request: dict[str, Any]) -> Reply | Waiter:
    """Answers when each worker has told where it is, by itself or through faulthandler."""
    left = set(orders.dump(cluster, list(cluster.roster.workers)))
    texts: list[Reply] = []
    if not left:
        return done(dumps=texts)

    def hear(event: Event) -> Reply | None:
        pid = event.fields.get("pid")
        if pid in left and event.kind in (Kind.DUMPED, Kind.EXITED):
            left.discard(pid)
            text = event.fields.get("traceback") or f"it ended: {event.fields.get('cause', '')}"
            identity = {key: event.fields.get(key) for key in ("slot", "generation", "pid")}
            texts.append({**identity, "text": text})
        return done(dumps=texts) if not left else None

    return hear


def status(cluster: Cluster, _request: dict[str, Any]) -> Reply:
    """Everything that `clusterd status` shows; workers' own numbers are read from their rows."""
    goal, now = cluster.goal, cluster.kernel.now()
    workers = sorted(cluster.roster.workers.values(), key=lambda w: (w.slot, w.row))
    stage = "swapping" if goal.proven else "trying"
    rollout = {"generation": goal.candidate, "stage": stage} if goal.candidate else None
    return done(
        name=cluster.config.place.name,
        app=cluster.config.app.app,
        version=__version__,
        pid=cluster.pid,
        state=state(cluster),
        size=goal.size,
        ready=cluster.roster.count(Phase.READY),
        generation=goal.stable,
        previous=goal.kept,
        rollout=rollout,
        listeners=[one.name for one in cluster.sockets],
        uptime=round(now - cluster.started, 3),
        workers=[worker_status(cluster, worker, now) for worker in workers],
        zygotes=[
            {"generation": z.generation, "pid": z.pid, "phase": str(z.phase)}
            for z in cluster.roster.zygotes
        ],
        totals={
            Cell(cell).name.lower(): count
            for cell, count in cluster.all_totals().items()
            if cell < Cell.LATENCY
        },
        journal=cluster.journal.last,
    )


def state(cluster: Cluster) -> str:
    """The whole cluster in a word."""
    if cluster.goal.mode is not Mode.SERVING:
        return str(cluster.goal.mode)
    if not cluster.announced:
        return "starting"
    if cluster.goal.candidate is not None:
        return "rolling"
    return "serving" if cluster.roster.count(Phase.READY) >= cluster.goal.size else "degraded"


def worker_status(cluster: Cluster, worker: Worker, now: float) -> Reply:
    """One worker: the master's view of its life, and its own row."""
    row = cluster.board.row(worker.row)
    heartbeat = row[Cell.HEARTBEAT] / 1e6
    return {
        "slot": worker.slot,
        "row": worker.row,
        "pid": worker.pid or 0,
        "generation": worker.generation,
        "phase": "leaving" if worker.leaving and worker.live else str(worker.phase),
        "uptime": round(now - worker.born, 3),
        "connections": row[Cell.CONNECTIONS],
        "in_flight": row[Cell.IN_FLIGHT],
        "requests": row[Cell.REQUESTS],
        "loop_lag": row[Cell.LOOP_LAG] / 1e6,
        "heartbeat_age": round(max(0.0, now - heartbeat), 3) if heartbeat else None,
        "restarts": cluster.restarts.get(worker.slot, 0),
    }


TABLE: dict[str, Callable[[Cluster, dict[str, Any]], Reply | Waiter]] = {
    "status": status,
    "stop": stop,
    "reload": begin,
    "certificates": renew,
    "rollback": rollback,
    "scale": scale,
    "pause": pause,
    "resume": resume,
    "dump": dump,
    "reopen": reopen,
}
