"""What each control command means: one table. Every signal has its twin here, which answers."""

from collections.abc import Callable, Sequence
from typing import Any

from clusterd.core.errors import ClusterdError, ConfigError
from clusterd.core.events import Kind
from clusterd.master import certificates, orders, reload, report
from clusterd.master.cluster import Cluster
from clusterd.master.group import Group
from clusterd.master.metrics import metrics
from clusterd.master.waiters import (
    Dumps,
    Renewed,
    Reply,
    Restarted,
    RolloutsOver,
    UpgradeOver,
    Waiter,
    done,
    refused,
)

READING = ("status", "metrics")  # which change nothing, and are no news to anybody


def answer(cluster: Cluster, request: dict[str, Any]) -> Reply | Waiter:
    """The reply to a request, or who will have it once something has happened."""
    name = request.get("command")
    act = TABLE.get(str(name))
    if act is None:
        return refused(f"there is no command {name!r}", f"known: {', '.join(TABLE)}, events")
    if name not in READING:
        cluster.note(Kind.ORDERED, command=name)
    try:
        return act(cluster, request)
    except ClusterdError as error:
        return refused(error.message, error.remedy)
    except (TypeError, ValueError, OverflowError) as error:
        return refused(f"{name}: {error}")
    except Exception as error:  # our own fault, but whoever asked must not wait for ever
        cluster.trouble(error)
        return refused(f"{name} failed: {error!r}", "clusterd's log has more; it serves on")


def stop(cluster: Cluster, request: dict[str, Any]) -> Reply:
    if request.get("quick"):
        orders.quit_now(cluster, "clusterd stop --quick", dumps=True)
    else:
        orders.stop(cluster, "clusterd stop")
    return done()


def chosen(cluster: Cluster, request: dict[str, Any]) -> list[Group]:
    """The groups that a request means: the one it names, else all but our own."""
    name = request.get("group")
    if name is None:
        return cluster.wanted
    group = cluster.groups.get(str(name))
    if group is None:
        raise ConfigError(f"there is no group {name!r}", f"there is {', '.join(cluster.groups)}")
    return [group]


def chosen_one(cluster: Cluster, request: dict[str, Any]) -> Group:
    """The group that a request means where only one can be meant: else the main one."""
    return chosen(cluster, request)[0] if "group" in request else cluster.main


def begin(cluster: Cluster, request: dict[str, Any]) -> Reply | Waiter:
    only = chosen(cluster, request)[0].name if "group" in request else ""
    begun = reload.begin(cluster, "clusterd reload", only)
    # A rollout that follows the one under way gets the next free number, as nearly always.
    queued = [name for name, generation in begun.items() if generation is None]
    numbers = {name: g for name, g in begun.items() if g is not None}
    more: dict[str, Any] = _not_undone(cluster, list(numbers))
    numbers |= {name: cluster.generations + 1 + i for i, name in enumerate(queued)}
    if request.get("wait"):
        numbers |= dict.fromkeys(queued, cluster.generations + 1)  # that, or what is free by then
        return rollouts_over(cluster, numbers, queued, more)
    if queued:
        more["queued"] = True
    return done(**told(cluster, numbers), **more)


def _not_undone(cluster: Cluster, names: list[str]) -> dict[str, Any]:
    """Return the groups of a reload that no rollback will be possible for, each with the reason."""
    groups = [cluster.groups[name] for name in names]
    found = {one.name: reload.unkept(one, one.goal.stable) for one in groups if not one.is_internal}
    found = {name: why for name, why in found.items() if why}
    return {"no_rollback": found} if found else {}


def told(cluster: Cluster, numbers: dict[str, int]) -> dict[str, Any]:
    """Generations as a reply carries them: that of the main group, and all by group."""
    main = numbers.get(cluster.main.name, next(iter(numbers.values()), 0))
    return {"generation": main, "generations": numbers}


def rollback(cluster: Cluster, request: dict[str, Any]) -> Reply | Waiter:
    groups = chosen(cluster, request)
    able = [group for group in groups if group.goal.kept is not None] or groups[:1]
    for group in able:
        reload.may_roll_back(group)  # all of them or none
    numbers = {group.name: reload.rollback(group) for group in able}
    left = {one.name: one.no_rollback for one in groups if one.no_rollback and one not in able}
    more = {"left": left} if left else {}
    if request.get("wait"):
        return rollouts_over(cluster, numbers, more=more)
    return done(**told(cluster, numbers), **more)


def rollouts_over(
    cluster: Cluster,
    numbers: dict[str, int],
    queued: Sequence[str] = (),
    more: dict[str, Any] | None = None,
) -> Reply | Waiter:
    """Reply when the rollouts of all these generations have ended, or one has failed.

    `more` goes into the reply of a success.
    """
    if not numbers:
        return done(**told(cluster, numbers), **(more or {}))
    main = cluster.main.name if cluster.main.name in numbers else next(iter(numbers))
    return RolloutsOver(main, numbers, dict(numbers), list(queued), more or {})


def renew(cluster: Cluster, request: dict[str, Any]) -> Waiter:
    """Answers when every worker uses the certificates that are on disk now, or why none does."""
    groups = chosen(cluster, request)
    groups = [
        group
        for group in groups
        if {group.goal.stable, group.goal.candidate} & group.bundles.keys()
    ] or groups[:1]
    left: list[dict[str, Any]] = []
    refusals: list[ConfigError] = []
    for group in groups:  # each by itself: what one refuses is no reason for another
        try:
            renewal = certificates.renew(group)
        except ConfigError as error:
            refusals.append(error)
        else:
            # Which generation serves when a rollout is over is not known yet: the number tells.
            known = {} if group.renewal_waits else {"generation": group.goal.stable}
            left.append({"group": group.name, **known, "renewal": renewal})
    if refusals:
        raise refusals[0]
    return Renewed(left)


def scale(cluster: Cluster, request: dict[str, Any]) -> Reply:
    if ("to" in request) == ("by" in request):
        raise ConfigError("scale: either 'to' or 'by' is wanted")
    group = chosen_one(cluster, request)
    if request.get("to") == "auto":
        return done(size=orders.scale_by_load(group), group=group.name)
    size = int(request["to"]) if "to" in request else group.goal.size + int(request["by"])
    wanted = orders.scale(group, size, "clusterd scale", bool(request.get("force")))
    return done(size=wanted, group=group.name)


def restart(cluster: Cluster, request: dict[str, Any]) -> Waiter:
    """Answers when the slot's new worker is ready, or with why there is none."""
    group = chosen_one(cluster, request)
    if "slot" not in request:
        raise ConfigError("restart: 'slot' is wanted")
    slot = int(request["slot"])
    orders.restart(group, slot, "clusterd restart")
    return Restarted(group.name, slot)


def pause(cluster: Cluster, request: dict[str, Any]) -> Reply:
    orders.pause_all(chosen(cluster, request))
    return done()


def resume(cluster: Cluster, request: dict[str, Any]) -> Reply:
    orders.resume_all(chosen(cluster, request))
    return done()


def reopen(cluster: Cluster, _request: dict[str, Any]) -> Reply:
    orders.reopen(cluster)
    return done()


def dump(cluster: Cluster, request: dict[str, Any]) -> Reply | Waiter:
    """Answers when each worker has told where it is, by itself or through faulthandler."""
    groups = chosen(cluster, request)
    left = {pid for group in groups for pid in orders.dump(group, list(group.roster.workers))}
    return Dumps(left) if left else done(dumps=[])


def upgrade(cluster: Cluster, _request: dict[str, Any]) -> Waiter:
    """Answers when we have become today's clusterd, or with what is wrong with it."""
    orders.upgrade(cluster, "clusterd upgrade")
    return UpgradeOver()


TABLE: dict[str, Callable[[Cluster, dict[str, Any]], Reply | Waiter]] = {
    "metrics": metrics,
    "status": lambda cluster, request: done(**report.status(cluster, bool(request.get("detail")))),
    "stop": stop,
    "reload": begin,
    "certificates": renew,
    "rollback": rollback,
    "scale": scale,
    "restart": restart,
    "pause": pause,
    "resume": resume,
    "dump": dump,
    "reopen": reopen,
    "upgrade": upgrade,
}
