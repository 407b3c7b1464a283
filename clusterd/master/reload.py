"""Begin, turn back and finish a rollout. What happens between is the plan's business."""

from collections.abc import Iterable
from dataclasses import replace
from math import inf

from clusterd.config.settings import TABLE, Config
from clusterd.core.errors import BindError, ClusterdError, ConfigError
from clusterd.core.events import Kind
from clusterd.fleet.backoff import Backoff
from clusterd.fleet.goal import Goal, Mode, Patience
from clusterd.fleet.rollout import Verdict, after, judge
from clusterd.ipc.messages import Cover, Sockets, Uncover
from clusterd.master.certificates import read
from clusterd.master.cluster import Cluster
from clusterd.master.listener import Listener

# Settings that are part of the running master: changing them takes a restart.
FIXED = ("name", "runtime_dir", "balance", "log_file", "log_format", "log_level")


def patience_of(config: Config) -> Patience:
    """The master's timeouts, from the settings."""
    fleet = config.fleet
    return Patience(
        startup=fleet.startup_timeout, graceful=fleet.graceful_timeout, min_ready=fleet.min_ready
    )


def begin(cluster: Cluster, why: str) -> int | None:
    """Start a rollout of today's settings and code; its generation, or None if it must wait.

    Repeated reloads coalesce into one that follows the one under way. Raises ClusterdError when
    the settings or a new address are refused: then nothing has changed.
    """
    goal = cluster.goal
    if goal.mode is Mode.STOPPING:
        raise ConfigError("the cluster is stopping")
    if goal.candidate is not None:
        cluster.again = True
        return None
    try:
        config = cluster.reread()
        refuse_fixed(cluster.config, config)
        bundle = read(config.tls)
        cluster.sockets.add(config.listen, max(goal.size, config.fleet.workers))
    except (ConfigError, BindError) as error:
        cluster.note(Kind.RELOAD_REFUSED, reason=error.message, remedy=error.remedy)
        if goal.mode is Mode.PAUSED:
            resume(cluster)
        raise
    generation = cluster.next_generation(config, bundle)
    size = goal.size
    if config.fleet.workers != cluster.config.fleet.workers:
        size = config.fleet.workers  # a scaled size holds until the configured one changes
    cluster.goal = replace(
        goal,
        size=size,
        candidate=generation,
        proven=False,
        kept=None,
        kept_until=inf,
        mode=Mode.SERVING,
        resuming=goal.mode is Mode.PAUSED,
        why="",
    )
    cluster.roster.importing.until = 0.0  # a human asked: no back-off for the first try
    cluster.note(Kind.ROLLOUT_STARTED, generation=generation, previous=goal.stable, reason=why)
    tell_sockets(cluster)
    return generation


def refuse_fixed(old: Config, new: Config) -> None:
    """Raise ConfigError naming the first setting that cannot change while running."""
    for name in FIXED:
        section = TABLE[name].section
        before, now = (getattr(getattr(config, section), name) for config in (old, new))
        if before != now:
            raise ConfigError(
                f"{name} cannot change from {before!r} to {now!r} while running",
                "restart clusterd, or put the old value back",
            )


def rollback(cluster: Cluster) -> int:
    """Roll back to the previous generation, which is kept loaded. Raises ClusterdError."""
    goal = cluster.goal
    if goal.candidate is not None and not goal.proven and goal.candidate != goal.kept:
        raise ConfigError("a rollout is under way, and the old generation still serves")
    if goal.candidate is not None or goal.mode is not Mode.SERVING:
        raise ConfigError("a rollout is under way" if goal.candidate else f"it is {goal.mode}")
    loaded = goal.kept is not None and cluster.roster.zygote(goal.kept) is not None
    if goal.kept is None or not loaded or goal.kept in cluster.roster.lost:
        raise ConfigError(
            "there is no previous generation to go back to",
            "one is kept after a reload, until the next one or rollback_keep",
        )
    cluster.roster.faults.pop(goal.kept, None)
    cluster.goal = goal.rolling(goal.kept)
    rolling = {"generation": goal.kept, "previous": goal.stable}
    cluster.note(Kind.ROLLOUT_STARTED, **rolling, reason="rollback")
    if cluster.fingerprints.get(goal.kept) != cluster.fingerprints.get(goal.stable):
        reason = "files changed since that code was loaded"
        then = "what it imports later comes from the new ones"
        cluster.note(Kind.TROUBLE, reason=reason, next=then)
    return goal.kept


def resume(cluster: Cluster) -> None:
    """End a pause: workers of the same generation start again."""
    cluster.goal = replace(cluster.goal, mode=Mode.SERVING, why="")
    cluster.note(Kind.RESUMED, generation=cluster.goal.stable)


def settle(cluster: Cluster) -> bool:
    """Look at the rollout; act on its news. Called before each plan; was there any?"""
    now = cluster.kernel.now()
    goal = cluster.goal
    if goal.kept is not None and goal.kept_until <= now and goal.candidate != goal.kept:
        cluster.goal = goal = replace(goal, kept=None, kept_until=inf)
    verdict = judge(cluster.roster, goal, cluster.patience, now)
    if verdict is None:
        return False
    generation = goal.candidate
    assert generation is not None
    cluster.goal = after(goal, verdict, now + cluster.config.fleet.rollback_keep)
    if verdict is Verdict.FAILED:
        turn_back(cluster, generation)
    elif verdict is Verdict.FINISHED:
        finish(cluster, generation, goal)
    else:
        return True
    cluster.forget_old_generations()
    if cluster.again:
        cluster.again = False
        begin_quietly(cluster, "asked for during the rollout before")
    return True


def begin_quietly(cluster: Cluster, why: str) -> None:
    """Begin a reload that nobody waits for: the refusal is in the journal."""
    try:
        begin(cluster, why)
    except ClusterdError:
        return


def turn_back(cluster: Cluster, generation: int) -> None:
    reason = cluster.roster.faults.get(generation, "it failed")
    cluster.note(
        Kind.ROLLOUT_FAILED,
        generation=generation,
        serving=cluster.goal.stable,
        reason=reason,
        traceback=cluster.tracebacks.get(generation, ""),
    )
    cluster.goal = replace(cluster.goal, resuming=False)
    drop_unwanted(cluster)


def finish(cluster: Cluster, generation: int, before: Goal) -> None:
    cluster.config = cluster.configs[generation]
    cluster.roster.renewing = Backoff()
    cluster.patience = patience_of(cluster.config)
    cluster.goal = replace(cluster.goal, resuming=False)
    drop_unwanted(cluster)
    cluster.note(Kind.ROLLOUT_FINISHED, generation=generation, previous=before.stable)


def drop_unwanted(cluster: Cluster) -> None:
    """Let go of addresses that the serving settings no longer name.

    Nothing new gets in from now on; a ready worker empties the queues before the last copy of
    each socket closes, so that nobody is reset.
    """
    keys = cluster.sockets.unwanted(cluster.config.listen)
    gone = [one for key in keys for one in cluster.sockets.groups[key]]
    if not gone:
        return
    refuse_newcomers(cluster, gone)
    heir = next((w for w in cluster.roster.live() if w.pid is not None), None)
    if heir is not None:
        names = [one.name for one in gone]
        channel = cluster.handles[heir.row].channel
        channel.send(Cover(names), [one.sock.fileno() for one in gone])
        channel.send(Uncover(names))
    for one in gone:
        cluster.note(Kind.UNBOUND, address=one.name)
    cluster.sockets.remove(keys)
    tell_sockets(cluster)


def refuse_newcomers(cluster: Cluster, listeners: Iterable[Listener]) -> None:
    """Let nothing new into the queues of these."""
    for reason in cluster.sockets.refuse_newcomers(listeners):
        cluster.note(Kind.TROUBLE, reason=reason, next="who comes now may be reset")


def tell_sockets(cluster: Cluster) -> None:
    """Have every zygote know which socket files to remove, should we be killed."""
    for channel in cluster.zygote_channels.values():
        channel.send(Sockets(cluster.files()))
