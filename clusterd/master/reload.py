"""Begin, turn back and finish a rollout. What happens between is the plan's business."""

from dataclasses import replace
from math import inf

from clusterd.config import internal
from clusterd.config.settings import TABLE, Config
from clusterd.core.errors import ClusterdError, ConfigError
from clusterd.core.events import Kind
from clusterd.core.terminal import clean
from clusterd.fleet.backoff import Backoff
from clusterd.fleet.goal import Goal, Mode
from clusterd.fleet.rollout import Verdict, after, judge
from clusterd.ipc.certificates import Sealed
from clusterd.kernel.privileges import is_root
from clusterd.master import ahead
from clusterd.master.certificates import read
from clusterd.master.cluster import Cluster
from clusterd.master.ending import drop, stop_group, tell_sockets
from clusterd.master.founding import found, patience_of
from clusterd.master.group import Group
from clusterd.master.sockets import Opened

# Settings that are part of the running master: changing them takes a restart.
FIXED = ("name", "runtime_dir", "pid_file", "log_file", "log_format", "log_level")
FIXED_IN_A_GROUP = ("balance",)

LONGEST = 200  # characters of a reason in `status`
PRESSED_EVERY = 10.0  # seconds between two looks at how short memory is, while one is kept

GIVE_UP = (
    "'clusterd pause' gives the rollout up, and 'clusterd resume' then has the old generation "
    "serve again: new connections wait meanwhile"
)

Bound = list[tuple[Group, Opened]]  # what a reload has opened so far, by group


def begin(cluster: Cluster, why: str, only: str = "") -> dict[str, int | None]:
    """Start a rollout of today's settings and code in every group, or in one.

    Answers each group's generation, or None where it must wait: repeated reloads coalesce into
    one that follows the one under way. Raises ClusterdError when the settings or a new address are
    refused: then nothing has changed.
    """
    if cluster.stopping:
        raise ConfigError("the cluster is stopping")
    bound: Bound = []
    try:
        configs = cluster.reread()
        refuse_root(cluster, configs)
        refuse_fixed(cluster.config, next(iter(configs.values())))
        due = {name: cluster.groups[name] for name in due_groups(cluster, configs, only)}
        for name, group in due.items():
            refuse_fixed(group.config, configs[name], FIXED_IN_A_GROUP)
        bundles = {name: read(configs[name]) for name in due}
        bind_all(due, configs, bound)
        if not only:
            add_groups(cluster, configs)
    except (ClusterdError, OSError) as error:
        for group, opened in bound:
            group.sockets.undo(opened)
        raise refused(cluster, error, only) from error
    if not only:
        remove_groups(cluster, configs)
    begun: dict[str, int | None] = {}
    for name, group in due.items():
        if group.goal.candidate is not None:
            group.again, begun[name] = True, None
            if configs[name].dev.reload:
                give_up(group, "superseded by what was saved since")
        else:
            begun[name] = roll(group, configs[name], bundles[name], why)
    return begun


def renew(group: Group, why: str) -> int:
    """Roll in the code that is on disk, with the settings that serve; the generation.

    No operator asked for it. Settings that were changed meanwhile wait for one who does: workers
    can bring a renewal about by themselves.
    """
    stable = group.goal.stable
    return roll(group, group.configs[stable], group.bundles.get(stable), why)


def refuse_root(cluster: Cluster, configs: dict[str, Config]) -> None:
    """Raise ConfigError where a reload would give root's rights to a group that has less now, or
    add a group with them to a cluster where another has less."""
    as_root = {name: is_root(config.limits.user) for name, config in configs.items()}
    before = {group.name: is_root(group.config.limits.user) for group in cluster.wanted}
    for name in configs:
        if name in internal.NAMES or not as_root[name] or before.get(name, all(before.values())):
            continue
        what = f"turn the user of the group {name} into" if name in before else f"add {name} as"
        raise ConfigError(f"a reload cannot {what} root", "name a user for it, or restart clusterd")


def refused(cluster: Cluster, error: Exception, only: str) -> ClusterdError:
    """Tell of a reload that cannot begin; who was paused for it goes on. The error to raise."""
    if not isinstance(error, ClusterdError):  # no descriptors are left, say
        error = ConfigError(f"a reload cannot begin: {error}", "try again when there is room")
    whose = {"group": only} if only else {}
    for group in [one for one in cluster.wanted if only in ("", one.name)]:
        group.failed_reload = in_a_line(error.message)
    cluster.note(Kind.RELOAD_REFUSED, **whose, reason=error.message, remedy=error.remedy)
    for group in cluster.wanted:
        if group.goal.mode is Mode.PAUSED and only in ("", group.name):
            resume(group)
    return error


def give_up(group: Group, why: str) -> None:
    """Turn a rollout back that nothing has come of yet: its import may take long, or for ever."""
    goal = group.goal
    if goal.candidate is not None and not goal.proven:
        group.roster.faults.setdefault(goal.candidate, why)


def due_groups(cluster: Cluster, configs: dict[str, Config], only: str) -> list[str]:
    """Those that stay; our own only if their settings changed, since their code is ours."""
    if only:
        if only not in configs:
            raise ConfigError(f"the settings no longer have the group {only}")
        refuse_stopping(cluster.groups[only])
        return [only]
    return [
        name
        for name, group in cluster.groups.items()
        if name in configs
        and group.goal.mode is not Mode.STOPPING
        and not (group.is_internal and is_same(group.config, configs[name]))
    ]


def refuse_stopping(group: Group) -> None:
    """Raise ConfigError for one that was removed: its sockets let nobody in any more."""
    if group.goal.mode is Mode.STOPPING:
        raise ConfigError(f"the group {group.name} is still stopping", "try again in a moment")


def is_same(one: Config, other: Config) -> bool:
    """Do two settings say the same, wherever from?"""
    return replace(one, origins={}) == replace(other, origins={})


def bind_all(groups: dict[str, Group], configs: dict[str, Config], bound: Bound) -> None:
    """Bind what is not bound yet; `bound` is told of it. Raises BindError or ConfigError."""
    for name, group in groups.items():
        size = max(group.goal.size, configs[name].fleet.workers)
        bound.append((group, group.sockets.add(configs[name].listen, size)))


def add_groups(cluster: Cluster, configs: dict[str, Config]) -> None:
    """Those that the settings name now, in their order. Raises BindError, ConfigError, OSError."""
    added: list[Group] = []
    try:
        for name, config in configs.items():
            if name not in cluster.groups:
                added.append(found(cluster, name, config))
                hold_back(added[-1])
                added[-1].sockets.add(config.listen, config.fleet.workers)
            else:
                refuse_stopping(cluster.groups[name])
    except Exception:
        for group in added:
            group.close()
        raise
    mixed = cluster.groups | {group.name: group for group in added}
    order = [*configs, *(name for name in mixed if name not in configs)]
    cluster.groups = {name: mixed[name] for name in order}
    for group in added:
        group.note(Kind.GROUP_ADDED, workers=group.goal.size)
        for one in group.sockets:
            group.note(Kind.LISTENING, address=one.name)


def hold_back(group: Group) -> None:
    """Have a group's sockets take no connection before a worker is ready.

    A program takes its Unix sockets as they are: it may refuse one that does not listen. One that
    says by itself when it is ready may try its own port before, so its port is open, too.
    """
    if not group.is_command or group.config.command.readiness == "up":
        group.sockets.hold_back(files=not group.is_command)


def remove_groups(cluster: Cluster, configs: dict[str, Config]) -> None:
    """Those that the settings no longer name drain and leave."""
    for name, group in cluster.groups.items():
        if name not in configs:
            stop_group(group)


def sizes(config: Config) -> tuple[int, int, int]:
    """All that settings say about how many workers there are."""
    fleet = config.fleet
    return fleet.workers, fleet.min_workers, fleet.max_workers


def roll(group: Group, config: Config, bundle: Sealed | None, why: str) -> int:
    """Have a group work towards new settings and code; the generation."""
    goal = group.goal
    generation = group.next_generation(config, bundle)
    size = goal.size
    if sizes(config) != sizes(group.config):
        group.by_hand = False
    if config.fleet.workers != group.config.fleet.workers:
        size = config.fleet.workers  # a scaled size holds until the configured one changes
    if config.command.singleton:
        size = 1
    group.goal = replace(
        goal,
        size=size,
        candidate=generation,
        proven=False,
        swift=False,
        kept=None,
        kept_until=inf,
        mode=Mode.SERVING,
        resuming=goal.mode is Mode.PAUSED,
        why="",
    )
    group.roster.importing.until = 0.0  # a human asked: no back-off for the first try
    rolling = {"generation": generation, "previous": goal.stable}
    group.note(Kind.ROLLOUT_STARTED, **rolling, reason=why, **no_way_back(group))
    tell_sockets(group.cluster)
    return generation


def no_way_back(group: Group) -> dict[str, str]:
    """Return what the event of a reload says where no rollback will be possible after it."""
    why = unkept(group, group.goal.stable)
    return {"rollback": f"will not be possible: {why}"} if why else {}


def unkept(group: Group, generation: int) -> str:
    """Return why a generation's code cannot be kept in memory for a rollback, or ''."""
    if group.configs[generation].command.command:
        return "a program is started from the files on disk"
    if reason := group.roster.unsafe.get(generation):
        return f"each worker imports from the files on disk ({reason})"
    return ""


def refuse_fixed(old: Config, new: Config, names: tuple[str, ...] = FIXED) -> None:
    """Raise ConfigError naming the first setting that cannot change while running."""
    for name in names:
        section = TABLE[name].section
        before, now = (getattr(getattr(config, section), name) for config in (old, new))
        if before != now:
            raise ConfigError(
                f"{name} cannot change from {before!r} to {now!r} while running",
                "restart clusterd, or put the old value back",
            )


def may_roll_back(group: Group) -> int:
    """The previous generation, where a rollback to it can begin. Raises ConfigError."""
    goal = group.goal
    if goal.candidate is not None and not goal.proven and goal.candidate != goal.kept:
        raise ConfigError("a rollout is under way, and the old generation still serves", GIVE_UP)
    if goal.candidate is not None:
        raise ConfigError("a rollout is under way", f"wait until it has ended; {GIVE_UP}")
    if goal.mode is not Mode.SERVING:
        raise ConfigError(f"it is {goal.mode}")
    if goal.kept is None and (why := group.no_rollback or unkept(group, goal.stable)):
        raise ConfigError(
            f"there is no rollback: {why}",
            "put the old code back, then 'clusterd reload'",
        )
    loaded = goal.kept is not None and group.roster.zygote(goal.kept) is not None
    if goal.kept is None or not loaded or goal.kept in group.roster.lost:
        raise ConfigError(
            "there is no previous generation to go back to",
            "one is kept after a reload, until the next one or rollback_keep",
        )
    return goal.kept


def rollback(group: Group) -> int:
    """Roll back to the previous generation, which is kept loaded. Raises ClusterdError."""
    goal, kept = group.goal, may_roll_back(group)
    group.sockets.add(group.configs[kept].listen, goal.size)
    group.roster.faults.pop(kept, None)
    group.goal = goal.rolling(kept, swift=True)
    tell_sockets(group.cluster)
    rolling = {"generation": kept, "previous": goal.stable}
    group.note(Kind.ROLLOUT_STARTED, **rolling, reason="rollback")
    if group.fingerprints.get(kept) != group.fingerprints.get(goal.stable):
        reason = "files changed since that code was loaded"
        then = "what it imports later comes from the new ones"
        group.note(Kind.TROUBLE, reason=reason, next=then)
    return kept


def resume(group: Group) -> None:
    """End a pause: workers of the same generation start again."""
    group.goal = replace(group.goal, mode=Mode.SERVING, why="")
    group.note(Kind.RESUMED, generation=group.goal.stable)


def settle(group: Group) -> bool:
    """Look at the rollout; act on its news. Called before each plan; was there any?"""
    now = group.kernel.now()
    goal = group.goal
    if goal.kept is None or goal.mode is Mode.STOPPING:
        group.forget_pressure()
    elif goal.candidate != goal.kept:
        if goal.kept_until <= now:
            let_go(group, "")
        elif now >= group.pressed_at:
            _let_go_if_pressed(group, goal.kept)
        goal = group.goal
    verdict = judge(group.roster, goal, group.patience, now)
    if verdict is None:
        return False
    generation = goal.candidate
    assert generation is not None
    group.goal = after(goal, verdict, now + group.config.fleet.rollback_keep)
    if verdict is Verdict.FAILED:
        turn_back(group, generation)
    elif verdict is Verdict.FINISHED:
        finish(group, generation, goal)
    else:
        return True
    group.forget_old_generations()
    ahead.renew(group.cluster)
    if group.again:
        group.again = False
        begin_quietly(group.cluster, "asked for during the rollout before", group.name)
    return True


def _let_go_if_pressed(group: Group, kept: int) -> None:
    """Let the kept generation go where memory is short. Where it is not, an event tells later."""
    group.pressed_at = group.kernel.now() + PRESSED_EVERY
    if pressure := group.kernel.pressure():
        then = f"generation {kept} is no longer kept for a rollback"
        group.note(Kind.TROUBLE, reason=pressure, next=then)
        let_go(group, f"the previous generation was let go, since {pressure}")
    elif group.pressure_event is None and (event := group.kernel.pressure_event()) is not None:
        group.pressure_event = event
        group.kernel.watch(event, ("pressure", group.name))


def pressed(group: Group) -> None:
    """Have this turn look how short memory is: the kernel reported that processes wait for it."""
    group.pressed_at = 0.0
    if group.pressure_event is not None and group.pressure_event.broken:
        group.forget_pressure()
        group.pressed_at = group.kernel.now() + PRESSED_EVERY


def let_go(group: Group, why: str) -> None:
    """Keep the previous generation no longer: its zygote, its settings, its certificates."""
    group.goal = replace(group.goal, kept=None, kept_until=inf)
    group.no_rollback = why
    group.forget_pressure()
    group.forget_old_generations()


def begin_quietly(cluster: Cluster, why: str, only: str = "") -> None:
    """Begin a reload that nobody waits for: the refusal is in the journal."""
    try:
        begin(cluster, why, only)
    except ClusterdError:
        return


def turn_back(group: Group, generation: int) -> None:
    reason = group.roster.faults.get(generation, "it failed")
    group.note(
        Kind.ROLLOUT_FAILED,
        generation=generation,
        serving=group.goal.stable,
        reason=reason,
        traceback=group.tracebacks.get(generation, ""),
    )
    group.failed_reload = in_a_line(f"generation {generation} did not come up: {reason}")
    group.goal = replace(group.goal, resuming=False)
    drop_unwanted(group)


def in_a_line(reason: str) -> str:
    """Return a reason as `status` shows it: an application's may be long."""
    text = clean(" ".join(reason.split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def finish(group: Group, generation: int, before: Goal) -> None:
    group.config = group.configs[generation]
    group.roster.renewing = Backoff()
    patience = patience_of(group.config)
    if group.cluster.stopping:  # in its turn, and then as quickly as somebody asked for
        patience = replace(patience, graceful=min(patience.graceful, group.patience.graceful))
    group.patience = patience
    group.goal = replace(group.goal, resuming=False)
    group.failed_reload = ""
    group.no_rollback = unkept(group, before.stable)
    if group.no_rollback:
        group.goal = replace(group.goal, kept=None, kept_until=inf)
    drop_unwanted(group)
    group.note(Kind.ROLLOUT_FINISHED, generation=generation, previous=before.stable)


def drop_unwanted(group: Group) -> None:
    """Let go of addresses that the serving settings no longer name.

    Nothing new gets in from now on; a ready worker empties the queues before the last copy of
    each socket closes, so that no client is reset.
    """
    drop(group, group.sockets.unwanted(group.config.listen))
